"""Forecast the queue of a snapshot from the newest runs of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.forecast import Forecast, PastRun, forecast, past_runs
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.ports import OrdersStore, Sources
from sitegenctl.domain.queue.worker import WorkerRoster
from sitegenctl.operations.observe import Attempts, observe

#: Runs that are older say little about the next ones. A run writes some 20 to 30 rows.
_MAX_AGE, _MAX_ROWS = timedelta(days=7), 10_000


async def recent_runs(orders: OrdersStore) -> Sequence[PastRun]:
    """The newest runs, oldest first, from the last rows of the log. Raises ``SourceError``."""
    window = await orders.log_window(_MAX_AGE, lead=timedelta(0))
    first = max(window.first_id, window.last_id - _MAX_ROWS + 1)
    return past_runs(await orders.read_run_rows(first, window.last_id, limit=_MAX_ROWS, bounds_only=True))


async def with_forecast(
    sources: Sources, snapshot: Snapshot, attempts: Attempts, *, roster: WorkerRoster | None = None
) -> Snapshot:
    """The snapshot with its forecast; without one where broker, workers or log did not respond.

    ``roster`` has the workers' details where the snapshot was taken without them.
    """
    roster = snapshot.roster or roster
    if Source.BROKER in snapshot.errors or snapshot.workers is None or roster is None:
        return snapshot
    runs: Sequence[PastRun] = ()
    if snapshot.tasks:
        known = await attempts.make(
            Source.DATABASE, lambda: attempts.recall("recent runs", lambda: recent_runs(sources.orders))
        )
        if known is None:
            return snapshot
        runs = known
    survey, details = snapshot.workers, roster

    async def simulate() -> Forecast:
        return await asyncio.to_thread(
            forecast,
            snapshot.tasks,
            snapshot.reading.foreign,
            survey,
            details,
            queue=sources.queue_name,
            runs=runs,
            now=snapshot.now,
        )

    # A view that polls does not simulate again as long as every task is where it was.
    places = tuple((task.task_id, task.state, task.position) for task in snapshot.tasks)
    slots = tuple((worker.name, worker.concurrency, worker.queues) for worker in details.workers)
    return replace(snapshot, forecast=await attempts.recall(("forecast", places, slots), simulate))


async def forecast_tasks(sources: Sources, task_ids: Collection[str], order_ids: Collection[int]) -> Mapping[str, str]:
    """Describe when these tasks of these orders start and end, by id; those without a forecast are left out."""
    attempts = Attempts()
    snapshot = await observe(sources, order_ids, files=False, worker_details=True, attempts=attempts)
    snapshot = await with_forecast(sources, snapshot, attempts)
    if snapshot.forecast is None:
        return {}
    texts = {task.task_id: snapshot.forecast.describe(task) for task in snapshot.tasks if task.task_id in task_ids}
    return {task_id: text for task_id, text in texts.items() if text is not None}
