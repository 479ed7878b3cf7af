"""The overview: one look at everything, counted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.overview import Overview, conditions, depths
from sitegenctl.domain.ports import OrdersStore, QueueBackend, SiteStore
from sitegenctl.domain.queue.worker import WorkerRoster, WorkerSurvey, survey_of
from sitegenctl.operations.observe import Attempts, observe_open


async def overview(
    orders: OrdersStore,
    queue: QueueBackend,
    sites: SiteStore,
    *,
    task_name: str,
    grace: timedelta,
    attempts: Attempts | None = None,
) -> Overview:
    """Look at everything. A source that is away leaves out what it would have told; nothing is raised for it.

    ``task_name`` is the name of the task that generates; ``attempts`` is for who asks more of the sources in the same
    look.
    """
    roster: WorkerRoster | None = None
    attempts = attempts or Attempts()

    async def ask_workers() -> WorkerSurvey:
        nonlocal roster
        roster = await queue.worker_details()
        return survey_of(roster, task_name=task_name)

    snapshot, by_status = await asyncio.gather(
        observe_open(orders, queue, sites, grace=grace, ask_workers=ask_workers, attempts=attempts),
        attempts.make(Source.DATABASE, orders.count_by_status),
    )
    last_hour = await attempts.make(Source.DATABASE, lambda: orders.count_runs(timedelta(hours=1)))
    last_day = await attempts.make(Source.DATABASE, lambda: orders.count_runs(timedelta(days=1)))
    can_judge = by_status is not None and Source.DATABASE not in snapshot.errors
    broker_answered = Source.BROKER not in snapshot.errors
    if roster is not None and snapshot.workers is not None:
        roster = replace(roster, may_run=snapshot.workers.may_run)
    return Overview(
        snapshot=snapshot,
        depth=depths(snapshot) if broker_answered else None,
        foreign=len(snapshot.foreign) if broker_answered else None,
        roster=roster,
        by_status=by_status,
        by_condition=conditions(snapshot, by_status) if can_judge and by_status is not None else None,
        last_hour=last_hour,
        last_day=last_day,
        unanswered={**attempts.errors, **snapshot.unanswered},
    )
