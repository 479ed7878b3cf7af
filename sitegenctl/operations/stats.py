"""How generation went: a window of the log read in pieces, its runs told and summed up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from sitegenctl.domain.orders.run_reader import LoggedRun, RunStream
from sitegenctl.domain.ports import OrdersStore
from sitegenctl.domain.statistics.statistics import LEAD, Collector, LogWindow, Statistics

#: Rows read in one query: what it takes is bounded, however long the window is.
_CHUNK = 20_000


async def statistics(orders: OrdersStore, since: timedelta | datetime) -> Statistics:
    """Sum up the runs that ended since then, as ``OrdersStore.log_window`` reads it.

    The cost depends on the window, not on the log. Raises ``SourceError``.
    """
    window = await orders.log_window(since, lead=LEAD)
    collector = Collector(window)
    async for run in runs_of(orders, window):
        collector.add(run)
    return collector.result()


async def runs_of(orders: OrdersStore, window: LogWindow) -> AsyncIterator[LoggedRun]:
    """Every run of which a row is in the window or in its lead, each when it is over, the newest of an order last."""
    stream = RunStream()
    first = window.first_id
    while first <= window.last_id:
        rows = await orders.read_run_rows(first, window.last_id, limit=_CHUNK)
        for row in rows:
            if (run := stream.feed(row)) is not None:
                yield run
        if len(rows) < _CHUNK:
            break
        first = rows[-1].log_id + 1
    for run in stream.close():
        yield run
