"""Read everything about one order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.diagnosis.timeline import TimelineEntry, timeline
from sitegenctl.domain.orders.order import LogRow
from sitegenctl.domain.ports import Sources
from sitegenctl.domain.queue.task import TaskDetails
from sitegenctl.domain.queue.worker import WorkerSurvey
from sitegenctl.errors import Refused, SourceError
from sitegenctl.operations.observe import observe, utc_now

#: Maximum number of tasks of an order whose times are read: each takes a request.
_MAX_TASKS = 5


@dataclass(frozen=True, kw_only=True)
class OrderView:
    """One order: a snapshot, the newest rows of its log, and its timeline.

    ``unanswered`` says why each source did not respond, or not fully.
    """

    order_id: int
    snapshot: Snapshot
    log: Sequence[LogRow] = ()
    timeline: Sequence[TimelineEntry] = ()
    unanswered: Mapping[Source, str]


async def inspect_order(sources: Sources, order_id: int, *, last: int = 10) -> OrderView:
    """Read one order and the ``last`` rows of its log. Raises ``Refused`` when it does not exist and has no task."""
    snapshot = await observe(sources, [order_id], check_hollow=True)
    unanswered = dict(snapshot.unanswered)
    if Source.DATABASE in snapshot.errors:
        return OrderView(order_id=order_id, snapshot=snapshot, unanswered=unanswered)
    if order_id not in snapshot.orders and not snapshot.tasks_of(order_id):
        raise Refused(f"there is no order {order_id}")
    log: Sequence[LogRow] = ()
    tasks: Sequence[TaskDetails] = ()
    # A source may fail after the snapshot: what was read is shown all the same.
    try:
        log = await sources.orders.read_log([order_id], last=last)
    except SourceError as exc:
        unanswered[Source.DATABASE] = exc.message
    read_at = utc_now()  # the rows' ages are as of this moment
    if last and Source.BROKER not in snapshot.errors:
        try:
            tasks = await _tasks_of(sources, snapshot, order_id, log)
        except SourceError as exc:
            unanswered[Source.BROKER] = exc.message
    entries = timeline(log, tasks, now=read_at)
    return OrderView(order_id=order_id, snapshot=snapshot, log=log, timeline=entries, unanswered=unanswered)


async def _tasks_of(
    sources: Sources, snapshot: Snapshot, order_id: int, log: Sequence[LogRow]
) -> Sequence[TaskDetails]:
    """The order's live tasks, and those that these rows of its log name: their results may still be kept."""
    survey = snapshot.workers or WorkerSurvey()
    logged = (row.details.get("task_id") for row in log if isinstance(row.details, dict))
    live = (task.task_id for task in snapshot.tasks_of(order_id))
    ids = dict.fromkeys([*live, *(task_id for task_id in logged if isinstance(task_id, str))])
    details = [await sources.queue.task_details(task_id, survey=survey) for task_id in list(ids)[:_MAX_TASKS]]
    return [task for task in details if task is not None]
