"""Everything about one order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.diagnosis.timeline import TimelineEntry, timeline
from sitegenctl.domain.orders.order import LogRow
from sitegenctl.domain.ports import OrdersStore, QueueBackend, SiteStore
from sitegenctl.domain.queue.task import TaskDetails
from sitegenctl.domain.queue.worker import WorkerSurvey
from sitegenctl.errors import Refused, SourceError
from sitegenctl.operations.observe import observe, utc_now

#: Tasks of one order whose times are looked up: each costs a question.
_TASKS_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class OrderView:
    """A snapshot of one order, with the newest rows of its log, and its story with its tasks' times in it.

    ``unanswered`` says of each source that did not answer, or not fully, why.
    """

    order_id: int
    snapshot: Snapshot
    log: Sequence[LogRow]
    timeline: Sequence[TimelineEntry]
    unanswered: Mapping[Source, str]


async def inspect_order(
    orders: OrdersStore,
    queue: QueueBackend,
    sites: SiteStore,
    order_id: int,
    *,
    grace: timedelta,
    last: int = 10,
    now: Callable[[], datetime] = utc_now,
) -> OrderView:
    """Look at one order. Raises ``Refused`` when the database answers that there is no such order.

    An order that is missing but has a live task is shown all the same: it is a ghost.
    """
    snapshot = await observe(orders, queue, sites, [order_id], grace=grace, check_hollow=True)
    unanswered = dict(snapshot.unanswered)
    if Source.DATABASE in snapshot.errors:
        return OrderView(order_id=order_id, snapshot=snapshot, log=(), timeline=(), unanswered=unanswered)
    if order_id not in snapshot.orders and not snapshot.tasks_of(order_id):
        raise Refused(f"there is no order {order_id}")
    try:
        log = await orders.read_log([order_id], last=last)
        # Each row's age is as of this moment, and not of the snapshot's beginning.
        read_at = now()
    except SourceError as exc:
        # It answered a moment ago; what it said then is still worth showing.
        unanswered[Source.DATABASE] = exc.message
        log, read_at = [], snapshot.taken_at
    tasks: list[TaskDetails] = []
    if last and Source.BROKER not in snapshot.errors:
        try:
            tasks = await _tasks_of(queue, snapshot, order_id, log)
        except SourceError as exc:
            # The log is worth showing without it.
            unanswered[Source.BROKER] = exc.message
    story = timeline(log, tasks, now=read_at)
    return OrderView(order_id=order_id, snapshot=snapshot, log=log, timeline=story, unanswered=unanswered)


async def _tasks_of(queue: QueueBackend, snapshot: Snapshot, order_id: int, log: Sequence[LogRow]) -> list[TaskDetails]:
    """The order's live tasks, and those that the shown part of its log names: their results may still be kept."""
    survey = snapshot.workers or WorkerSurvey()
    named = (row.details.get("task_id") for row in log if isinstance(row.details, dict))
    live = (task.task_id for task in snapshot.tasks_of(order_id))
    ids = dict.fromkeys([*live, *(task_id for task_id in named if isinstance(task_id, str))])
    found = [await queue.task_details(task_id, survey=survey) for task_id in list(ids)[:_TASKS_SHOWN]]
    return [details for details in found if details is not None]
