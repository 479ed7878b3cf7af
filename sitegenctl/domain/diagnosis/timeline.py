"""One order's story: its generation log, the operators' journal and its tasks' own times, in one line of time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sitegenctl.domain.orders.order import LogRow
from sitegenctl.domain.orders.run import OPERATOR_PREFIX
from sitegenctl.domain.queue.task import TaskDetails


class EntryKind(StrEnum):
    """Who tells it."""

    LOG = "log"  # the generator
    JOURNAL = "journal"  # an operator
    TASK = "task"  # the broker


@dataclass(frozen=True, kw_only=True)
class TimelineEntry:
    """One thing that happened, ``at`` a time in UTC; None where its row has none."""

    at: datetime | None
    kind: EntryKind
    step: str
    status: str
    message: str


def timeline(rows: Iterable[LogRow], tasks: Sequence[TaskDetails], *, now: datetime) -> list[TimelineEntry]:
    """Merge them, oldest first.

    A row's time is ``now`` less its age, which the database measured against the row's own clock: the rows'
    timestamps are in the zone of a session, the broker's are in UTC.
    """
    entries = [*(_of_row(row, now) for row in rows), *(entry for task in tasks for entry in _of_task(task))]
    # Rows without a time stay where the log has them: at the front, sorted is stable.
    return sorted(entries, key=lambda entry: entry.at.timestamp() if entry.at else float("-inf"))


def _of_row(row: LogRow, now: datetime) -> TimelineEntry:
    return TimelineEntry(
        at=now - row.age if row.age is not None else None,
        kind=EntryKind.JOURNAL if row.step.startswith(OPERATOR_PREFIX) else EntryKind.LOG,
        step=row.step,
        status=row.status,
        message=row.message,
    )


def _of_task(task: TaskDetails) -> Iterator[TimelineEntry]:
    def entry(at: datetime, step: str, message: str, status: str = "info") -> TimelineEntry:
        return TimelineEntry(at=at, kind=EntryKind.TASK, step=step, status=status, message=message)

    name = f"task {task.task_id}"
    # Names last: where the line is too short for all of it, they are what can be spared.
    if task.enqueued_at is not None:
        yield entry(task.enqueued_at, "task enqueued", f"by {task.actor}, {name}" if task.actor else name)
    if task.delivered_at is not None:
        yield entry(task.delivered_at, "task delivered", f"to {task.worker}, {name}" if task.worker else name)
    if task.eta is not None:
        yield entry(task.eta, "task due", f"attempt {task.attempt or 1}, {name}")
    if task.result is not None and task.result.date_done is not None:
        failed = task.result.status == "FAILURE"
        yield entry(task.result.date_done, f"task {task.result.status}", name, "error" if failed else "info")
