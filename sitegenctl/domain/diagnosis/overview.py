"""The overview: what is in the queue, who works, how many orders are in which condition, and how it goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import REMEDIES, Condition, Source, usual_remedy
from sitegenctl.domain.diagnosis.listing import OPEN_STATUSES
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.queue.task import TaskState
from sitegenctl.domain.queue.worker import WorkerRoster, standstill


@dataclass(frozen=True, kw_only=True)
class RunCounts:
    """Runs that ended within a window: how many in which way."""

    succeeded: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def success_rate(self) -> float | None:
        """The part of the runs that succeeded, from 0 to 1; None without any."""
        ended = self.succeeded + self.failed
        return self.succeeded / ended if ended else None


@dataclass(frozen=True, kw_only=True)
class Depth:
    """How many tasks are in a state, and how long the oldest of them has been waiting or working."""

    count: int
    oldest: timedelta | None


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Everything on one screen. What a source that did not answer would have told is None.

    ``unanswered`` says of each source that did not answer, or not fully, why.
    """

    snapshot: Snapshot
    depth: Mapping[TaskState, Depth] | None
    foreign: int | None
    roster: WorkerRoster | None
    by_status: Mapping[OrderStatus | str | None, int] | None
    by_condition: Mapping[Condition, Sequence[int] | int] | None
    last_hour: RunCounts | None
    last_day: RunCounts | None
    unanswered: Mapping[Source, str]


def depths(snapshot: Snapshot) -> dict[TaskState, Depth]:
    """Tasks by state. A task's age is since its enqueue; where its message doesn't tell, since its order moved."""
    counts = Counter(task.state for task in snapshot.tasks)
    oldest: dict[TaskState, timedelta] = {}
    for task in snapshot.tasks:
        age = snapshot.taken_at - task.enqueued_at if task.enqueued_at else None
        if age is None and task.order_id is not None:
            order = snapshot.orders.get(task.order_id)
            age = order.idle if order else None
        if age is not None:
            oldest[task.state] = max(age, oldest.get(task.state, age))
    return {state: Depth(count=counts[state], oldest=oldest.get(state)) for state in TaskState if counts[state]}


def conditions(
    snapshot: Snapshot, by_status: Mapping[OrderStatus | str | None, int]
) -> dict[Condition, Sequence[int] | int]:
    """Orders by condition: the ids of those that were diagnosed, the mere number of the others.

    The others are the ones without a live task that wait for the customer or are finished or cancelled, or in a
    status that is not known.
    """
    found: dict[Condition, list[int]] = {}
    for order_id in snapshot.known_ids():
        found.setdefault(snapshot.diagnose(order_id).condition, []).append(order_id)
    diagnosed = Counter(order.label for order in snapshot.orders.values())
    counted: dict[Condition, Sequence[int] | int] = {**found}
    for status, count in by_status.items():
        rest = count - diagnosed[status]
        if status is None or status in OPEN_STATUSES or rest <= 0:
            continue
        condition = _settled(status) if Source.BROKER not in snapshot.errors else Condition.UNKNOWN
        known = counted.get(condition, 0)
        counted[condition] = rest + (known if isinstance(known, int) else len(known))
    return {condition: counted[condition] for condition in Condition if condition in counted}


def describe_faults(number: int) -> str:
    """How many orders are in fault."""
    return f"{number} {'order needs' if number == 1 else 'orders need'} attention"


def describe_standstill(snapshot: Snapshot, roster: WorkerRoster | None, *, queue: str) -> str | None:
    """Say why nothing of our queue is going to be done, and how much waits for it; None where something may be.

    Where nobody could be asked, nothing is known.
    """
    why = standstill(snapshot.workers, roster, queue=queue) if snapshot.workers is not None else None
    waiting = sum(task.state is TaskState.QUEUED for task in snapshot.tasks)
    if why is None or not waiting:
        return why
    return f"{waiting} {'task waits' if waiting == 1 else 'tasks wait'}, and {why}"


def remedy_for(condition: Condition, orders: Sequence[int] | int, snapshot: Snapshot) -> str | None:
    """What mends the orders in a condition: what mends each of them, where that is the same; else what mends most."""
    usual = REMEDIES.get(condition)
    if isinstance(orders, int):
        return usual
    own = {_of_any_order(snapshot.diagnose(order_id).remedy, condition, order_id) for order_id in orders}
    return own.pop() if len(own) == 1 else usual


def _of_any_order(remedy: str | None, condition: Condition, order_id: int) -> str | None:
    if remedy == usual_remedy(condition, order_id):
        return REMEDIES.get(condition)
    number = f" {order_id}"
    return f"{remedy.removesuffix(number)} ORDER" if remedy is not None and remedy.endswith(number) else remedy


def _settled(status: OrderStatus | str) -> Condition:
    if not isinstance(status, OrderStatus):
        return Condition.UNKNOWN
    if status.precedes_building:
        return Condition.WAITING
    return Condition.CANCELLED if status is OrderStatus.CANCELLED else Condition.DONE
