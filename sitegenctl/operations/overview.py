"""Read everything for the overview."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.overview import Overview, conditions, depths
from sitegenctl.domain.orders.order import Order, OrderStatus
from sitegenctl.domain.orders.run import RunCounts, RunOutcome
from sitegenctl.domain.orders.run_reader import LoggedRun, RunStream
from sitegenctl.domain.ports import OrdersStore, QueueBackend, Sources
from sitegenctl.domain.statistics.log_window import LEAD, LogWindow
from sitegenctl.domain.statistics.metrics import Measurement, RunTotals
from sitegenctl.domain.statistics.statistics import Collector, Statistics
from sitegenctl.operations.forecast import with_forecast
from sitegenctl.operations.observe import Attempts, observe_open, utc_now

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def overview(sources: Sources, attempts: Attempts | None = None) -> Overview:
    """Read everything. Nothing is raised for a source that does not respond: its part is None."""
    attempts = attempts or Attempts()
    # Raises before anything is read where one of them is not configured.
    orders, _ = sources.orders, sources.queue
    snapshot, by_status, promises = await asyncio.gather(
        observe_open(sources, check_recent=True, worker_details=True, attempts=attempts),
        attempts.make(Source.DATABASE, orders.count_by_status),
        attempts.make(Source.DATABASE, lambda: orders.count_promises(sources.due_soon)),
    )
    counts = await attempts.make(Source.DATABASE, lambda: count_runs(orders, HOUR, DAY, known=snapshot.orders))
    last_hour, last_day = counts or (None, None)
    snapshot = replace(await with_forecast(sources, snapshot, attempts), hints=attempts.hints)
    has_database = by_status is not None and Source.DATABASE not in snapshot.errors
    has_broker = Source.BROKER not in snapshot.errors
    roster = snapshot.roster
    if roster is not None and snapshot.workers is not None:
        roster = replace(roster, may_run=snapshot.workers.may_run)
    return Overview(
        snapshot=snapshot,
        depth=depths(snapshot) if has_broker else None,
        foreign=len(snapshot.reading.foreign) if has_broker else None,
        roster=roster,
        by_status=by_status,
        by_condition=conditions(snapshot, by_status or {}) if has_database else None,
        promises=snapshot.with_expected(promises),
        last_hour=last_hour,
        last_day=last_day,
        unanswered={**attempts.errors, **snapshot.unanswered},
    )


async def measure(sources: Sources) -> Measurement:
    """Read the overview, and count the runs since midnight by the log's clock."""
    began = time.perf_counter()
    attempts = Attempts()
    everything = await overview(sources, attempts)

    async def count() -> RunTotals:
        window = await sources.orders.log_window(None, lead=LEAD)
        totals = RunTotals(window.since)
        async for run in runs_of(sources.orders, window):
            totals.add(run)
        return totals

    totals = await attempts.make(Source.DATABASE, count)
    return Measurement(
        overview=everything,
        totals=totals,
        unanswered={**everything.unanswered, **attempts.errors},
        took=attempts.took,
        seconds=time.perf_counter() - began,
    )


#: Rows read in one query, so that the memory used does not depend on the window.
_BATCH_SIZE = 20_000


async def statistics(
    orders: OrdersStore,
    since: timedelta | datetime,
    *,
    queue: QueueBackend | None = None,
    attempts: Attempts | None = None,
) -> Statistics:
    """Summarise the runs that ended since then, as in ``OrdersStore.log_window``. Raises ``SourceError``.

    With the ``queue``, runs without an outcome in the log end by the results of their tasks; ``attempts`` has the error
    if these could not be read.
    """
    window = await orders.log_window(since, lead=LEAD)
    collector = Collector(window)
    unended: list[LoggedRun] = []
    async for run in runs_of(orders, window):
        if run.outcome is None and run.is_newest:
            unended.append(run)
        else:
            collector.add(run)
    if queue is not None:
        await end_by_results(unended, orders, queue, window, attempts or Attempts())
    for run in unended:
        collector.add(run)
    return collector.result()


async def end_by_results(
    runs: Iterable[LoggedRun], orders: OrdersStore, queue: QueueBackend, window: LogWindow, attempts: Attempts
) -> None:
    """End those of these runs that have no outcome in the log, and failed by the result of their task.

    Orders are not read, which takes a while where their logs are long.
    """
    unended = {run.order_id: run for run in runs if run.outcome is None and run.is_newest}
    generating = set(await orders.in_status(OrderStatus.GENERATING)) if unended else set()
    unended = {order_id: run for order_id, run in unended.items() if order_id in generating}
    if not unended:
        return
    failed = await attempts.make(Source.BROKER, partial(queue.failed, unended)) or {}
    ids = [
        (run, task_id)
        for run in unended.values()
        for task_id in (failed.get(run.order_id), run.enqueued_id, run.task_id)
        if task_id is not None
    ]
    read = partial(queue.results, {task_id for _, task_id in ids})
    results = (await attempts.make(Source.BROKER, read) or {}) if ids else {}
    now = utc_now()
    for run, task_id in ids:
        if (result := results.get(task_id)) is not None and result.failure is not None:
            ended_at = window.read_at - max(now - (result.date_done or now), timedelta(0))
            if ended_at <= window.until:
                run.fail(result.failure, ended_at, task_id=task_id)


async def count_runs(
    orders: OrdersStore, *spans: timedelta, known: Mapping[int, Order] | None = None
) -> list[RunCounts]:
    """Count the runs that ended within each of these spans until now, by the database's clock.

    Runs without an outcome in the log end by what is known of their orders.
    """
    window = await orders.log_window(max(spans), lead=LEAD)
    ended: list[tuple[timedelta, RunOutcome]] = []
    async for run in runs_of(orders, window, bounds_only=True):
        _end(run, (known or {}).get(run.order_id), window)
        if run.outcome is not None and run.ended_at is not None and run.ended_at <= window.until:
            ended.append((window.until - run.ended_at, run.outcome))
    return [RunCounts.of(outcome for age, outcome in ended if age <= span) for span in spans]


def _end(run: LoggedRun, order: Order | None, window: LogWindow) -> None:
    """End a run whose order failed by the result of its task."""
    last = order.history.last_run if order is not None else None
    if order is None or last is None or last.failed_ago is None or not last.last_step:
        return
    if run.outcome is None and run.is_newest:
        run.fail(order.last_error, window.until - last.failed_ago)


async def runs_of(orders: OrdersStore, window: LogWindow, *, bounds_only: bool = False) -> AsyncIterator[LoggedRun]:
    """Every run with a row in the window or in its lead; see ``OrdersStore.read_run_rows``."""
    stream = RunStream()
    first = window.first_id
    while first <= window.last_id:
        rows = await orders.read_run_rows(first, window.last_id, limit=_BATCH_SIZE, bounds_only=bounds_only)
        for row in rows:
            if (run := stream.feed(row)) is not None:
                yield run
        if len(rows) < _BATCH_SIZE:
            break
        first = rows[-1].log_id + 1
    for run in stream.close():
        yield run
