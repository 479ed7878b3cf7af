"""Read everything for the overview."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.overview import Overview, conditions, depths
from sitegenctl.domain.ports import Sources
from sitegenctl.operations.observe import Attempts, observe_open


async def overview(sources: Sources, attempts: Attempts | None = None) -> Overview:
    """Read everything. Nothing is raised for a source that does not respond: its part is None."""
    attempts = attempts or Attempts()
    # Raises before anything is read where one of them is not configured.
    orders, _ = sources.orders, sources.queue
    snapshot, by_status = await asyncio.gather(
        observe_open(sources, worker_details=True, attempts=attempts),
        attempts.make(Source.DATABASE, orders.count_by_status),
    )
    last_hour = await attempts.make(Source.DATABASE, lambda: orders.count_runs(timedelta(hours=1)))
    last_day = await attempts.make(Source.DATABASE, lambda: orders.count_runs(timedelta(days=1)))
    has_database = by_status is not None and Source.DATABASE not in snapshot.errors
    has_broker = Source.BROKER not in snapshot.errors
    roster = snapshot.roster
    if roster is not None and snapshot.workers is not None:
        roster = replace(roster, may_run=snapshot.workers.may_run)
    return Overview(
        snapshot=snapshot,
        depth=depths(snapshot) if has_broker else None,
        foreign=len(snapshot.foreign) if has_broker else None,
        roster=roster,
        by_status=by_status,
        by_condition=conditions(snapshot, by_status or {}) if has_database else None,
        last_hour=last_hour,
        last_day=last_day,
        unanswered={**attempts.errors, **snapshot.unanswered},
    )
