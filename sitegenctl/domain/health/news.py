"""What is news since the last notification: faults, workers, the queue and sources that became worse or better.

The state is what the receiver knows. It changes only when a notification has arrived, so that nothing is lost and
nothing is posted twice. A source that did not respond changes nothing that depends on it.

What comes and goes with every run is posted once: a problem has ended when two runs in a row did not find it, and a
fault that maintenance fixes by itself is news when two runs in a row found it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sitegenctl.domain.diagnosis.condition import Condition, Severity, Source
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.plans.maintenance import Maintenance, MaintenanceStep
from sitegenctl.domain.queue.task import TaskState
from sitegenctl.domain.queue.worker import standstill

#: The queue does not drain if the same task has been the next to run for this long, while no worker runs any.
STUCK_FOR = timedelta(minutes=10)


_RESPONDS = {
    Source.DATABASE: "the database responds again",
    Source.BROKER: "Redis responds again",
    Source.WORKERS: "the workers respond again",
    Source.FILES: "the sites directory can be read again",
}

# They tell too little to call a fault new or ended.
_UNCLEAR = (Condition.UNKNOWN, Condition.SETTLING)

# What maintenance fixes by itself.
_FIXED = {str(step) for step in MaintenanceStep}

# Conditions whose names are no adjectives for an order.
_DESCRIBED = {Condition.UNKNOWN: "in an unknown condition"}


class Topic(StrEnum):
    """What a piece of news is about."""

    ORDERS = "orders"  # they are in fault, or no longer
    WORKERS = "workers"  # none is alive
    QUEUE = "queue"  # it does not drain
    PROMISE = "promise"  # orders are late
    SOURCE = "source"  # one does not respond


@dataclass(frozen=True, kw_only=True)
class News:
    """One thing that became worse, or better; ``orders`` has the customers by order."""

    topic: Topic
    is_better: bool
    text: str
    subject: str | None = None  # the condition or the source
    orders: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the receiver knows, and what the last run found."""

    faults: Mapping[int, tuple[str, ...]] = field(default_factory=dict)  # the conditions posted of each order
    late: Mapping[int, datetime] = field(default_factory=dict)  # when each order was due, in naive UTC
    sources: frozenset[str] = frozenset()  # that do not respond
    without_worker: bool = False
    is_stuck: bool = False
    # The rest is what the last run found: faults that are not posted yet, and known problems that were gone.
    seen: frozenset[int] = frozenset()
    ending: frozenset[str] = frozenset()
    next_task: str | None = None
    next_since: datetime | None = None

    @property
    def order_ids(self) -> frozenset[int]:
        """The orders whose state must be read even if they are finished."""
        return frozenset(self.faults.keys() | self.late.keys())

    def unposted(self, state: Known) -> Known:
        """What the receiver knows if the news that leads to ``state`` did not arrive."""
        return replace(
            self,
            seen=self.seen | state.seen,
            ending=state.ending,
            next_task=state.next_task,
            next_since=state.next_since,
        )

    def to_json(self) -> dict[str, Any]:
        """The state for a file."""
        return {
            "faults": {str(order_id): list(conditions) for order_id, conditions in self.faults.items()},
            "late": {str(order_id): due_at.isoformat() for order_id, due_at in self.late.items()},
            "sources": sorted(self.sources),
            "without_worker": self.without_worker,
            "is_stuck": self.is_stuck,
            "seen": sorted(self.seen),
            "ending": sorted(self.ending),
            "next_task": self.next_task,
            "next_since": self.next_since.isoformat() if self.next_since else None,
        }

    @classmethod
    def from_json(cls, value: Any) -> Known:
        """The state in a file; empty if it is not one."""
        try:
            since = value["next_since"]
            return cls(
                faults={int(order_id): tuple(map(str, each)) for order_id, each in value["faults"].items()},
                late={int(order_id): datetime.fromisoformat(due_at) for order_id, due_at in value["late"].items()},
                sources=frozenset(str(Source(each)) for each in value["sources"]),
                without_worker=value["without_worker"] is True,
                is_stuck=value["is_stuck"] is True,
                seen=frozenset(map(int, value["seen"])),
                ending=frozenset(map(str, value["ending"])),
                next_task=value["next_task"],
                next_since=datetime.fromisoformat(since) if since else None,
            )
        except (TypeError, KeyError, ValueError, AttributeError):
            return cls()


class _Ends:
    """Known problems that are gone; each has ended if the last run did not find it either."""

    def __init__(self, known: Known) -> None:
        self._before, self.absent = known.ending, set[str]()

    def has_ended(self, topic: Topic, subject: object = "") -> bool:
        """Whether this problem, which is gone now, has ended."""
        problem = f"{topic} {subject}"
        self.absent.add(problem)
        return problem in self._before


def news_since(known: Known, run: Maintenance, *, now: datetime, queue: str) -> tuple[Sequence[News], Known]:
    """What is news after a run of maintenance, and the state once it is posted.

    Where a source did not respond to the run, only the sources are compared.
    """
    snapshot, errors, ends = run.snapshot, run.unreachable, _Ends(known)
    found = [
        News(topic=Topic.SOURCE, is_better=False, subject=source, text=message)
        for source, message in errors.items()
        if source not in known.sources
    ]
    # A source that was not needed has not recovered.
    gone = sorted(known.sources - errors.keys()) if snapshot is not None else []
    ended = [source for source in gone if ends.has_ended(Topic.SOURCE, source)]
    found += [
        News(topic=Topic.SOURCE, is_better=True, subject=source, text=_RESPONDS[Source(source)]) for source in ended
    ]
    state = replace(known, sources=(known.sources - set(ended)) | set(map(str, errors)))
    if snapshot is None or snapshot.errors.keys() & {Source.DATABASE, Source.BROKER, Source.WORKERS}:
        compared = {f"{Topic.SOURCE} {source}" for source in known.sources} if snapshot is not None else set()
        return found, replace(state, ending=(known.ending - compared) | ends.absent)
    news, state = _of_workers(snapshot, state, ends, now=now, queue=queue)
    found += news
    news, state = _of_orders(run, snapshot, state, ends)
    found += news
    news, state = _of_promises(snapshot, state)
    return [*found, *news], replace(state, ending=frozenset(ends.absent))


def _of_workers(
    snapshot: Snapshot, known: Known, ends: _Ends, *, now: datetime, queue: str
) -> tuple[list[News], Known]:
    """Whether tasks can run, and whether they do."""
    found: list[News] = []
    reason = standstill(snapshot.workers, snapshot.roster, queue=queue) if snapshot.workers is not None else None
    without_worker = reason is not None
    if reason is not None and not known.without_worker:
        found.append(News(topic=Topic.WORKERS, is_better=False, text=reason))
    elif reason is None and known.without_worker:
        without_worker = not ends.has_ended(Topic.WORKERS)
        if not without_worker:
            found.append(News(topic=Topic.WORKERS, is_better=True, text="a worker is alive again"))
    waiting = [task for task in snapshot.tasks if task.state is TaskState.QUEUED and task.position is not None]
    runs = any(task.state in (TaskState.RUNNING, TaskState.RESERVED) for task in snapshot.tasks)
    first = min(waiting, key=lambda task: task.position or 0).task_id if waiting and not runs else None
    since = known.next_since if first is not None and first == known.next_task else now
    age = now - (since or now)
    # Where no worker is alive, that is the news.
    is_stuck = first is not None and reason is None and age >= STUCK_FOR
    # A task that came before the next one is no sign that any has begun.
    has_moved = first is None or known.next_task not in {task.task_id for task in waiting}
    if is_stuck and not known.is_stuck:
        count = f"{len(waiting)} {'task waits' if len(waiting) == 1 else 'tasks wait'}"
        text = f"the queue does not drain: {count}, and none has begun for {describe_age(age)}"
        found.append(News(topic=Topic.QUEUE, is_better=False, text=text))
    elif known.is_stuck and not is_stuck:
        is_stuck = not (has_moved and ends.has_ended(Topic.QUEUE))
        if not is_stuck:
            found.append(News(topic=Topic.QUEUE, is_better=True, text="the queue drains again"))
    state = replace(
        known,
        without_worker=without_worker,
        is_stuck=is_stuck,
        next_task=first,
        next_since=since if first is not None else None,
    )
    return found, state


def _of_orders(run: Maintenance, snapshot: Snapshot, known: Known, ends: _Ends) -> tuple[list[News], Known]:
    """Orders that need attention, by condition, those that ``run`` lists at once; and those that no longer do."""
    listed = {left.outcome.order_id for left in run.left}
    faults: dict[int, tuple[str, ...]] = {}
    seen: set[int] = set()
    new: dict[Condition, list[int]] = {}
    for order_id in snapshot.known_ids():
        condition, posted = snapshot.diagnose(order_id).condition, known.faults.get(order_id, ())
        if posted and (condition in _UNCLEAR or condition in posted):
            faults[order_id] = posted
        elif order_id in listed or condition.severity is Severity.FAULT:
            is_left = order_id in listed or condition.command not in _FIXED
            if is_left or order_id in known.seen:
                new.setdefault(condition, []).append(order_id)
                faults[order_id] = (*posted, condition)
            else:
                seen.add(order_id)
                faults |= {order_id: posted} if posted else {}
    found = [
        News(
            topic=Topic.ORDERS,
            is_better=False,
            subject=condition,
            text=f"{_are(len(new[condition]))} {_DESCRIBED.get(condition, condition)}",
            orders=_customers(snapshot, new[condition]),
        )
        for condition in Condition
        if condition in new
    ]
    gone = [order_id for order_id in known.faults if order_id not in faults]
    recovered = [order_id for order_id in gone if ends.has_ended(Topic.ORDERS, order_id)]
    faults |= {order_id: known.faults[order_id] for order_id in gone if order_id not in recovered}
    if recovered:
        text = f"{len(recovered)} {'order needs' if len(recovered) == 1 else 'orders need'} no attention any more"
        found.append(News(topic=Topic.ORDERS, is_better=True, text=text, orders=_customers(snapshot, recovered)))
    return found, replace(known, faults=faults, seen=frozenset(seen))


def _of_promises(snapshot: Snapshot, known: Known) -> tuple[list[News], Known]:
    """Orders whose due date has passed, and those that were late and are delivered or due later."""
    late = {
        order_id: order.due_at
        for order_id, order in snapshot.orders.items()
        if order.due_at is not None and order.due_in is not None and order.due_in < timedelta(0)
    }
    found: list[News] = []
    if new := sorted(late.keys() - known.late.keys()):
        found.append(_promise(snapshot, new, f"{_are(len(new))} late", is_better=False))
    gone = sorted(known.late.keys() - late.keys())
    delays = {
        order_id: (order.changed_at or snapshot.taken_at.replace(tzinfo=None)) - known.late[order_id]
        for order_id in gone
        if (order := snapshot.orders.get(order_id)) is not None and order.status is OrderStatus.DELIVERED
    }
    if delays:
        delay = describe_age(max(*delays.values(), timedelta(0)))
        text = f"1 order was delivered, {delay} late"
        if len(delays) > 1:
            text = f"{len(delays)} orders were delivered, up to {delay} late"
        found.append(_promise(snapshot, list(delays), text, is_better=True))
    if rest := [order_id for order_id in gone if order_id not in delays]:
        found.append(_promise(snapshot, rest, f"{_are(len(rest))} no longer late", is_better=True))
    return found, replace(known, late=late)


def _promise(snapshot: Snapshot, order_ids: Sequence[int], text: str, *, is_better: bool) -> News:
    return News(topic=Topic.PROMISE, is_better=is_better, text=text, orders=_customers(snapshot, order_ids))


def _are(count: int) -> str:
    return f"{count} {'order is' if count == 1 else 'orders are'}"


def _customers(snapshot: Snapshot, order_ids: Sequence[int]) -> dict[int, str]:
    named = {}
    for order_id in order_ids:
        order = snapshot.orders.get(order_id)
        named[order_id] = (order.business_name or order.customer_name) if order is not None else ""
    return named
