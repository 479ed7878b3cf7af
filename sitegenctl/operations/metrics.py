"""Measuring for monitoring: one look, and the log's counters of the day."""

from __future__ import annotations

import time
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.ports import OrdersStore, QueueBackend, SiteStore
from sitegenctl.domain.statistics.metrics import Measurement, RunMeter, RunTotals
from sitegenctl.domain.statistics.statistics import LEAD
from sitegenctl.operations.observe import Attempts
from sitegenctl.operations.overview import overview
from sitegenctl.operations.stats import runs_of


async def measure(
    orders: OrdersStore, queue: QueueBackend, sites: SiteStore, *, task_name: str, grace: timedelta
) -> Measurement:
    """Look at everything and count the runs of the log's day. A source that is away leaves out what it would tell.

    ``task_name`` is the name of the task that generates.
    """
    began = time.perf_counter()
    attempts = Attempts()
    seen = await overview(orders, queue, sites, task_name=task_name, grace=grace, attempts=attempts)
    totals = await attempts.make(Source.DATABASE, lambda: _totals(orders))
    return Measurement(
        overview=seen,
        totals=totals,
        unanswered={**seen.unanswered, **attempts.errors},
        took=attempts.took,
        seconds=time.perf_counter() - began,
    )


async def _totals(orders: OrdersStore) -> RunTotals:
    window = await orders.log_window(None, lead=LEAD)
    meter = RunMeter(window.since)
    async for run in runs_of(orders, window):
        meter.add(run)
    return meter.totals()
