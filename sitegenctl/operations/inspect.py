"""Read everything about one order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.liveness import Liveness, StaleClaim, separate_claims
from sitegenctl.domain.diagnosis.remedy import RUN_DOCTOR
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.diagnosis.timeline import COUNTED_ROWS, TimelineEntry, newest_rows, timeline
from sitegenctl.domain.orders.order import LogRow, Order
from sitegenctl.domain.ports import Consumers, OrdersStore, QueueBackend, SiteStore, Sources, WorkerSource
from sitegenctl.domain.queue.task import DEFAULT_HARD_LIMIT, BrokerReading, LiveTask, TaskDetails, TaskPlace, TaskState
from sitegenctl.domain.queue.worker import WorkerRoster, WorkerSurvey, describe_silence, survey_of
from sitegenctl.errors import Refused, SourceError
from sitegenctl.operations.forecast import with_forecast
from sitegenctl.operations.observe import CONFIRM_DELAY, Attempts, observe, require_right_directory, utc_now

#: Maximum number of tasks of an order whose times are read: each takes a request.
_MAX_TASKS = 5


@dataclass(frozen=True, kw_only=True)
class OrderView:
    """One order: a snapshot, the newest rows of its log, and its timeline."""

    order_id: int
    snapshot: Snapshot
    log: Sequence[LogRow] = ()
    timeline: Sequence[TimelineEntry] = ()
    rows_left_out: int = 0
    unanswered: Mapping[Source, str]


async def inspect_order(sources: Sources, order_id: int, *, last: int = 10) -> OrderView:
    """Read one order and the ``last`` rows of its log. Raises ``Refused`` when it does not exist and has no task."""
    attempts = Attempts()
    snapshot = await observe(sources, [order_id], check_hollow=True, worker_details=True, attempts=attempts)
    if Source.DATABASE in snapshot.errors:
        return OrderView(order_id=order_id, snapshot=snapshot, unanswered=snapshot.unanswered)
    if order_id not in snapshot.orders and not snapshot.tasks_of(order_id):
        raise Refused(f"there is no order {order_id}")
    if snapshot.tasks_of(order_id):
        snapshot = await with_forecast(sources, snapshot, attempts)
    # A source may fail after the snapshot: what was read is shown all the same.
    newest = partial(sources.orders.read_log, [order_id], last=max(last, COUNTED_ROWS))
    rows = await attempts.make(Source.DATABASE, newest) or ()
    log = newest_rows(rows, last)
    read_at = utc_now()  # the rows' ages are as of this moment
    ask = partial(_tasks_of, sources, snapshot, order_id, log)
    tasks = (await attempts.make(Source.BROKER, ask) if last else None) or ()
    snapshot = replace(snapshot, hints=attempts.hints)
    entries = timeline(log, tasks, now=read_at + snapshot.clock_offset)
    return OrderView(
        order_id=order_id,
        snapshot=snapshot,
        log=log,
        timeline=entries,
        rows_left_out=len(rows) - len(log),
        unanswered={**attempts.errors, **snapshot.unanswered},
    )


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


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """One task, its order where it could be read, and the workers' replies where they had to be asked."""

    task: TaskDetails
    order: Order | None
    workers: WorkerSurvey | None = None

    @property
    def unanswered(self) -> Mapping[Source, str]:
        """Workers that did not respond."""
        silence = describe_silence(self.workers) if self.workers else None
        return {Source.WORKERS: silence} if silence else {}


async def inspect_queue(sources: Sources) -> Snapshot:
    """Read everything live and its orders. Raises ``SourceError`` without the broker."""
    attempts = Attempts()
    snapshot = await observe(sources, None, files=False, worker_details=True, attempts=attempts)
    if Source.BROKER in snapshot.errors:
        hint = snapshot.hints.get(Source.BROKER, RUN_DOCTOR)
        raise SourceError(snapshot.errors[Source.BROKER], hint=hint, source=Source.BROKER)
    return await with_forecast(sources, snapshot, attempts)


async def would_consume(workers: WorkerSource) -> Consumers:
    """The workers that a pause or resume would ask; one may still reject it."""
    survey = await workers.survey()
    return Consumers(acknowledged=[worker.name for worker in survey.workers], rejected={}, unresponsive=survey.silent)


async def inspect_workers(sources: Sources) -> tuple[WorkerRoster, Sequence[StaleClaim]]:
    """Read the workers, and their claims of tasks that have ended. Raises ``SourceError`` without the broker.

    The queue, which is slow to import, is used only where a worker runs something or none responds.
    """
    roster = await sources.workers.worker_details()
    survey = survey_of(roster, task_name=sources.task_name)
    running = {task.task_id for worker in roster.workers for task in worker.active}
    if not roster.workers and not roster.silent:
        # Then only deliveries show whether anything may be running.
        delivered = (task.state is TaskState.UNACKED for task in (await sources.queue.read()).tasks)
        return replace(roster, may_run=any(delivered)), ()
    if not running:
        return roster, ()
    finished = await sources.queue.finished(running)
    _, stale = separate_claims(survey, (), finished)
    if not stale:
        return roster, ()
    # A task with a message may be about to be acknowledged.
    messages = {task.task_id for task in (await sources.queue.read()).tasks}
    return roster, separate_claims(survey, messages, finished)[1]


async def inspect_task(
    orders: OrdersStore | None, queue: QueueBackend, task_id: str, *, hard_limit: timedelta = DEFAULT_HARD_LIMIT
) -> TaskView:
    """Read one task, and its order where there are ``orders``.

    ``hard_limit`` applies where no worker reports a limit. Raises ``Refused`` when the task does not exist, and
    ``SourceError`` without the broker or where a worker that did not respond may have it.
    """
    task, workers = await _find(queue, task_id)
    silence = describe_silence(workers) if workers else None
    if task is None and silence:
        raise SourceError(
            f"task {task_id} is not in the queue and has no result, and {silence}",
            hint="a worker that does not respond may have it: try again, or with a longer --timeout",
            source=Source.WORKERS,
        )
    if task is None:
        raise Refused(
            f"there is no task {task_id}: not in the queue, at no worker, and without a result",
            hint="results are kept for a day",
        )
    order = None
    if task.order_id is not None and orders is not None:
        try:
            order = (await orders.read_orders([task.order_id])).get(task.order_id)
        except SourceError:
            order = None  # the task is shown without its customer
    if task.state is TaskState.UNACKED and workers is not None:
        # No worker claims it: it is unaccounted or, where proven, orphaned.
        place = LiveTask(
            task_id=task_id,
            name=task.name or "",
            order_id=task.order_id,
            state=TaskState.UNACCOUNTED,
            delivered_at=task.delivered_at,
        )
        liveness = Liveness(reading=BrokerReading(hard_limit=hard_limit), survey=workers, now=utc_now())
        (settled,) = liveness.decide([place], {order.order_id: order} if order is not None else {})
        task = replace(task, state=settled.state, until=settled.until)
    return TaskView(task=task, order=order, workers=workers)


async def _find(queue: QueueBackend, task_id: str) -> tuple[TaskDetails | None, WorkerSurvey | None]:
    """The task, and the workers' replies; workers are asked twice for a delivered task that none of them has."""
    task = await queue.task_details(task_id, survey=WorkerSurvey())
    if task is not None and task.place is TaskPlace.QUEUE:
        return task, None
    survey = await queue.survey()
    task = await queue.task_details(task_id, survey=survey)
    if task is None or task.state is not TaskState.UNACKED:
        return task, survey
    await asyncio.sleep(CONFIRM_DELAY)
    survey = await queue.survey()
    return await queue.task_details(task_id, survey=survey), survey


async def try_database(orders: OrdersStore) -> str:
    """Log in, check the tables and count the orders."""
    await orders.require_tables()
    count = sum((await orders.count_by_status()).values())
    return f"{count} {'order' if count == 1 else 'orders'}"


async def try_broker(workers: WorkerSource) -> str:
    """Ask for the workers; there may be none."""
    survey = await workers.survey()
    alive = len(survey.workers) + survey.silent
    return f"{alive} {'worker' if alive == 1 else 'workers'}"


async def try_sites(sites: SiteStore, orders: OrdersStore | None) -> str:
    """Read the directory and, if the orders can be read, check that it has their files."""
    await sites.count([])
    if orders is not None:
        await require_right_directory(orders, sites)
    return "it is there"
