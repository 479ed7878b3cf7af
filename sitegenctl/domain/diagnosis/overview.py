"""The overview: the queue, the workers, the orders by condition, and the results of the last day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Condition, Source, settled_condition
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import OPEN_STATUSES, OrderStatus
from sitegenctl.domain.orders.promise import PromiseCounts
from sitegenctl.domain.orders.run import RunCounts
from sitegenctl.domain.queue.task import TaskState
from sitegenctl.domain.queue.worker import WorkerRoster, standstill


@dataclass(frozen=True, kw_only=True)
class Depth:
    """The number of tasks in a state, and the age of the oldest."""

    count: int
    oldest: timedelta | None


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Everything on one screen; a field is None where its source did not respond."""

    snapshot: Snapshot
    depth: Mapping[TaskState, Depth] | None
    foreign: int | None
    roster: WorkerRoster | None
    by_status: Mapping[OrderStatus | str | None, int] | None
    by_condition: Mapping[Condition, Sequence[int] | int] | None
    promises: PromiseCounts | None  # also None where the schema has no due dates
    last_hour: RunCounts | None
    last_day: RunCounts | None
    unanswered: Mapping[Source, str]


def depths(snapshot: Snapshot) -> dict[TaskState, Depth]:
    """Tasks by state."""
    counts = Counter(task.state for task in snapshot.tasks)
    oldest: dict[TaskState, timedelta] = {}
    for task in snapshot.tasks:
        if (age := snapshot.age_of(task)) is not None:
            oldest[task.state] = max(age, oldest.get(task.state, age))
    return {state: Depth(count=counts[state], oldest=oldest.get(state)) for state in TaskState if counts[state]}


def conditions(
    snapshot: Snapshot, by_status: Mapping[OrderStatus | str | None, int]
) -> dict[Condition, Sequence[int] | int]:
    """Orders by condition: the ids of those that were diagnosed, and only the number of the others."""
    ids: dict[Condition, list[int]] = {}
    for order_id in snapshot.known_ids():
        ids.setdefault(snapshot.diagnose(order_id).condition, []).append(order_id)
    diagnosed = Counter(order.label for order in snapshot.orders.values())
    counted: dict[Condition, Sequence[int] | int] = {**ids}
    for status, count in by_status.items():
        rest = count - diagnosed[status]
        if status is None or status in OPEN_STATUSES or rest <= 0:
            continue
        condition = settled_condition(status) if Source.BROKER not in snapshot.errors else Condition.UNKNOWN
        known = counted.get(condition, 0)
        counted[condition] = rest + (known if isinstance(known, int) else len(known))
    return {condition: counted[condition] for condition in Condition if condition in counted}


def describe_faults(number: int) -> str:
    """Describe how many orders need attention."""
    return f"{number} {'order needs' if number == 1 else 'orders need'} attention"


def describe_standstill(snapshot: Snapshot, roster: WorkerRoster | None, *, queue: str) -> str | None:
    """Describe why no task of our queue will run, and how many wait; None where that is not known to be so."""
    reason = standstill(snapshot.workers, roster, queue=queue) if snapshot.workers is not None else None
    waiting = sum(task.state is TaskState.QUEUED for task in snapshot.tasks)
    if reason is None or not waiting:
        return reason
    return f"{waiting} {'task waits' if waiting == 1 else 'tasks wait'}, and {reason}"


def remedy_for(condition: Condition, orders: Sequence[int] | int, snapshot: Snapshot) -> Remedy | None:
    """The fix for the orders in a condition: their common remedy, else the condition's, else to inspect each."""
    if isinstance(orders, int):
        return condition.remedy
    remedies = set()
    for order_id in orders:
        remedy = snapshot.diagnose(order_id).remedy
        if remedy == condition.remedy_of(order_id):
            remedies.add(condition.remedy)
        else:
            remedies.add(remedy.for_any_order if remedy is not None else None)
    if len(remedies) == 1:
        return remedies.pop()
    return condition.remedy or Remedy(command=Command.INSPECT, any_order=True)
