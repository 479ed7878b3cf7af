"""What is news since the last notification: faults, workers, the queue and sources that became worse or better.

The state is what the receiver knows. It changes only when a notification has arrived, so that nothing is lost and
nothing is posted twice. A source that did not respond changes nothing that depends on it.
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
from sitegenctl.domain.queue.task import TaskState
from sitegenctl.domain.queue.worker import standstill

#: The queue does not drain if the same task has been the next to run for this long, while no worker runs any.
STUCK_FOR = timedelta(minutes=10)


_NAMES = {
    Source.DATABASE: "PostgreSQL",
    Source.BROKER: "Redis",
    Source.WORKERS: "the workers",
    Source.FILES: "the sites directory",
}


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
    """What the receiver knows; ``next_task`` and ``next_since`` are what the last run saw of the queue."""

    faults: Mapping[int, str] = field(default_factory=dict)  # the condition, by order
    late: frozenset[int] = frozenset()
    sources: frozenset[str] = frozenset()  # that do not respond
    without_worker: bool = False
    is_stuck: bool = False
    next_task: str | None = None
    next_since: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """The state for a file."""
        return {
            "faults": {str(order_id): condition for order_id, condition in self.faults.items()},
            "late": sorted(self.late),
            "sources": sorted(self.sources),
            "without_worker": self.without_worker,
            "is_stuck": self.is_stuck,
            "next_task": self.next_task,
            "next_since": self.next_since.isoformat() if self.next_since else None,
        }

    @classmethod
    def from_json(cls, value: Any) -> Known:
        """The state in a file; empty if it is not one."""
        try:
            since = value["next_since"]
            return cls(
                faults={int(order_id): str(condition) for order_id, condition in value["faults"].items()},
                late=frozenset(map(int, value["late"])),
                sources=frozenset(str(Source(each)) for each in value["sources"]),
                without_worker=value["without_worker"] is True,
                is_stuck=value["is_stuck"] is True,
                next_task=value["next_task"],
                next_since=datetime.fromisoformat(since) if since else None,
            )
        except (TypeError, KeyError, ValueError, AttributeError):
            return cls()


def news_since(
    known: Known, snapshot: Snapshot | None, errors: Mapping[Source, str], *, now: datetime, queue: str
) -> tuple[Sequence[News], Known]:
    """What is news, and the state once it is posted.

    ``errors`` are the sources that did not respond. Without a ``snapshot`` of orders, tasks and workers, only these are
    compared.
    """
    found = [
        News(topic=Topic.SOURCE, is_better=False, subject=source, text=f"{_NAMES[source]}: {message}")
        for source, message in errors.items()
        if source not in known.sources
    ]
    found += [
        News(topic=Topic.SOURCE, is_better=True, subject=source, text=f"{_NAMES[Source(source)]}: read again")
        for source in sorted(known.sources - errors.keys() if snapshot is not None else ())
    ]
    # A source that was not needed has not recovered.
    still = known.sources if snapshot is None else frozenset()
    state = replace(known, sources=still | frozenset(map(str, errors)))
    if snapshot is None or snapshot.errors.keys() & {Source.DATABASE, Source.BROKER, Source.WORKERS}:
        return found, state
    news, state = _of_workers(snapshot, state, now=now, queue=queue)
    found += news
    news, state = _of_orders(snapshot, state)
    found += news
    news, state = _of_promises(snapshot, state)
    return [*found, *news], state


def _of_workers(snapshot: Snapshot, known: Known, *, now: datetime, queue: str) -> tuple[list[News], Known]:
    """Whether tasks can run, and whether they do."""
    found: list[News] = []
    reason = standstill(snapshot.workers, snapshot.roster, queue=queue) if snapshot.workers is not None else None
    if (reason is not None) != known.without_worker:
        text = reason or "a worker is alive again"
        found.append(News(topic=Topic.WORKERS, is_better=reason is None, text=text))
    waiting = [task for task in snapshot.tasks if task.state is TaskState.QUEUED and task.position is not None]
    runs = any(task.state in (TaskState.RUNNING, TaskState.RESERVED) for task in snapshot.tasks)
    first = min(waiting, key=lambda task: task.position or 0).task_id if waiting and not runs else None
    since = known.next_since if first is not None and first == known.next_task else now
    age = now - (since or now)
    # Where no worker is alive, that is the news.
    is_stuck = first is not None and reason is None and age >= STUCK_FOR
    # A task that came before the next one is no sign that any has begun.
    has_moved = first is None or known.next_task not in {task.task_id for task in waiting}
    if is_stuck != known.is_stuck and (is_stuck or has_moved):
        count = f"{len(waiting)} {'task waits' if len(waiting) == 1 else 'tasks wait'}"
        text = f"the queue does not drain: {count}, and none has begun for {describe_age(age)}"
        found.append(
            News(topic=Topic.QUEUE, is_better=not is_stuck, text=text if is_stuck else "the queue drains again")
        )
    else:
        is_stuck = known.is_stuck
    state = replace(
        known,
        without_worker=reason is not None,
        is_stuck=is_stuck,
        next_task=first,
        next_since=since if first is not None else None,
    )
    return found, state


def _of_orders(snapshot: Snapshot, known: Known) -> tuple[list[News], Known]:
    """Orders that came into fault, or are in another one, by condition; and those that no longer are."""
    diagnosed = {order_id: snapshot.diagnose(order_id) for order_id in snapshot.known_ids()}
    faults = {
        order_id: str(diagnosis.condition)
        for order_id, diagnosis in diagnosed.items()
        if diagnosis.severity is Severity.FAULT
    }
    # What can't be judged, for example while files can't be counted, has not recovered.
    faults |= {
        order_id: condition
        for order_id, condition in known.faults.items()
        if order_id in diagnosed and diagnosed[order_id].condition is Condition.UNKNOWN
    }
    found = []
    for condition in dict.fromkeys(faults.values()):
        orders = [each for each, now in faults.items() if now == condition and known.faults.get(each) != condition]
        if orders:
            text = f"{len(orders)} {'order is' if len(orders) == 1 else 'orders are'} {condition}"
            found.append(
                News(
                    topic=Topic.ORDERS,
                    is_better=False,
                    subject=condition,
                    text=text,
                    orders=_customers(snapshot, orders),
                )
            )
    recovered = [order_id for order_id in known.faults if order_id not in faults]
    if recovered:
        text = f"{len(recovered)} {'order needs' if len(recovered) == 1 else 'orders need'} no attention any more"
        found.append(News(topic=Topic.ORDERS, is_better=True, text=text, orders=_customers(snapshot, recovered)))
    return found, replace(known, faults=faults)


def _of_promises(snapshot: Snapshot, known: Known) -> tuple[list[News], Known]:
    """Orders whose due date has passed."""
    late = frozenset(
        order_id
        for order_id, order in snapshot.orders.items()
        if order.due_in is not None and order.due_in < timedelta(0)
    )
    new = sorted(late - known.late)
    if not new:
        return [], replace(known, late=late)
    text = f"{len(new)} {'order is' if len(new) == 1 else 'orders are'} late"
    news = News(topic=Topic.PROMISE, is_better=False, text=text, orders=_customers(snapshot, new))
    return [news], replace(known, late=late)


def _customers(snapshot: Snapshot, order_ids: Sequence[int]) -> dict[int, str]:
    named = {}
    for order_id in order_ids:
        order = snapshot.orders.get(order_id)
        named[order_id] = (order.business_name or order.customer_name) if order is not None else ""
    return named
