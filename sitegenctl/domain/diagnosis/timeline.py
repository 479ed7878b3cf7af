"""An order's timeline: its generation log, the operators' journal and the times of its tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from sitegenctl.domain.orders.order import LogRow
from sitegenctl.domain.orders.run import OPERATOR_PREFIX
from sitegenctl.domain.queue.task import TaskDetails


class EntryKind(StrEnum):
    """The source of an entry."""

    LOG = "log"  # the generator
    JOURNAL = "journal"  # an operator
    TASK = "task"  # the broker


@dataclass(frozen=True, kw_only=True)
class TimelineEntry:
    """One event; ``at`` is in UTC, None where its row has no time."""

    at: datetime | None
    kind: EntryKind
    step: str
    status: str
    message: str


#: Rows of an order's log that are read, so that those that its timeline leaves out can be counted.
COUNTED_ROWS = 1000


def newest_rows(rows: Sequence[LogRow], last: int) -> Sequence[LogRow]:
    """The ``last`` rows and, if there are any, the newest one of an operator."""
    if not last:
        return ()
    newest = rows[-last:]
    operator = next((row for row in reversed(rows) if row.step.startswith(OPERATOR_PREFIX)), None)
    return newest if operator is None or operator in newest else [operator, *newest]


def timeline(rows: Iterable[LogRow], tasks: Sequence[TaskDetails], *, now: datetime) -> list[TimelineEntry]:
    """Merge log rows and task times, oldest first.

    A row's time is ``now`` less its age by the database's clock: rows are in the time zone of a session, the broker's
    times in UTC. Rows keep the order of the log where clocks were set back.
    """
    entries = [
        TimelineEntry(
            at=now - row.age if row.age is not None else None,
            kind=EntryKind.JOURNAL if row.step.startswith(OPERATOR_PREFIX) else EntryKind.LOG,
            step=row.step,
            status=row.status,
            message=row.message,
        )
        for row in rows
    ]
    later: datetime | None = None
    for number, entry in reversed(list(enumerate(entries))):
        if entry.at is not None:
            later = entry.at if later is None else min(entry.at, later)
            entries[number] = replace(entry, at=later)
    for task in tasks:
        entries += _of_task(task)
    # Rows without a time come first, in the order of the log.
    return sorted(entries, key=lambda entry: entry.at.timestamp() if entry.at else float("-inf"))


def _of_task(task: TaskDetails) -> Iterator[TimelineEntry]:
    def entry(at: datetime, step: str, message: str, status: str = "info") -> TimelineEntry:
        return TimelineEntry(at=at, kind=EntryKind.TASK, step=step, status=status, message=message)

    name = f"task {task.task_id}"
    # The names come last: they are cut where the line is too long.
    if task.enqueued_at is not None:
        yield entry(task.enqueued_at, "task enqueued", f"by {task.actor}, {name}" if task.actor else name)
    if task.delivered_at is not None:
        yield entry(task.delivered_at, "task delivered", f"to {task.worker}, {name}" if task.worker else name)
    if task.eta is not None:
        yield entry(task.eta, "task due", f"attempt {task.attempt or 1}, {name}")
    if task.result is not None and task.result.date_done is not None:
        failed = task.result.status == "FAILURE"
        yield entry(task.result.date_done, f"task {task.result.status}", name, "error" if failed else "info")
