"""Measure everything for monitoring."""

from __future__ import annotations

import time

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.ports import OrdersStore, Sources
from sitegenctl.domain.statistics.metrics import Measurement, RunTotals
from sitegenctl.domain.statistics.statistics import LEAD
from sitegenctl.operations.observe import Attempts
from sitegenctl.operations.overview import overview
from sitegenctl.operations.stats import runs_of


async def measure(sources: Sources) -> Measurement:
    """Read the overview, and count the runs since midnight by the log's clock.

    Nothing is raised for a source that does not respond: its part is None.
    """
    began = time.perf_counter()
    attempts = Attempts()
    everything = await overview(sources, attempts)
    totals = await attempts.make(Source.DATABASE, lambda: _totals(sources.orders))
    return Measurement(
        overview=everything,
        totals=totals,
        unanswered={**everything.unanswered, **attempts.errors},
        took=attempts.took,
        seconds=time.perf_counter() - began,
    )


async def _totals(orders: OrdersStore) -> RunTotals:
    window = await orders.log_window(None, lead=LEAD)
    totals = RunTotals(window.since)
    async for run in runs_of(orders, window):
        totals.add(run)
    return totals
