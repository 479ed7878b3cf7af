"""Read the runs in a window of the log, and summarise them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from sitegenctl.domain.orders.run_reader import LoggedRun, RunStream
from sitegenctl.domain.ports import OrdersStore
from sitegenctl.domain.statistics.statistics import LEAD, Collector, LogWindow, Statistics

#: Rows read in one query, so that the memory used does not depend on the window.
_BATCH_SIZE = 20_000


async def statistics(orders: OrdersStore, since: timedelta | datetime) -> Statistics:
    """Summarise the runs that ended since then, as in ``OrdersStore.log_window``. Raises ``SourceError``."""
    window = await orders.log_window(since, lead=LEAD)
    collector = Collector(window)
    async for run in runs_of(orders, window):
        collector.add(run)
    return collector.result()


async def runs_of(orders: OrdersStore, window: LogWindow) -> AsyncIterator[LoggedRun]:
    """Every run with a row in the window or in its lead."""
    stream = RunStream()
    first = window.first_id
    while first <= window.last_id:
        rows = await orders.read_run_rows(first, window.last_id, limit=_BATCH_SIZE)
        for row in rows:
            if (run := stream.feed(row)) is not None:
                yield run
        if len(rows) < _BATCH_SIZE:
            break
        first = rows[-1].log_id + 1
    for run in stream.close():
        yield run
