"""The overview: one look at everything, counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import TypeVar

from sitegenctl.domain.condition import Source
from sitegenctl.domain.overview import Overview, conditions, depths
from sitegenctl.domain.ports import OrdersStore, QueueBackend, SiteStore
from sitegenctl.errors import SourceError
from sitegenctl.operations.observe import observe_open

T = TypeVar("T")


async def overview(orders: OrdersStore, queue: QueueBackend, sites: SiteStore, *, grace: timedelta) -> Overview:
    """Look at everything. A source that is away leaves out what it would have told; nothing is raised for it."""
    snapshot, roster, (by_status, last_hour, last_day) = await asyncio.gather(
        observe_open(orders, queue, sites, grace=grace),
        _or_none(queue.worker_details()),
        # One connection serves one call at a time: these wait for each other, not for the broker.
        asyncio.gather(
            _or_none(orders.count_by_status()),
            _or_none(orders.count_runs(timedelta(hours=1))),
            _or_none(orders.count_runs(timedelta(days=1))),
        ),
    )
    can_judge = by_status is not None and Source.DATABASE not in snapshot.errors
    return Overview(
        snapshot=snapshot,
        depth=depths(snapshot),
        foreign=len(snapshot.foreign),
        roster=roster,
        by_status=by_status,
        by_condition=conditions(snapshot, by_status) if can_judge and by_status is not None else None,
        last_hour=last_hour,
        last_day=last_day,
    )


async def _or_none(reading: Awaitable[T]) -> T | None:
    try:
        return await reading
    except SourceError:
        # The snapshot has met the same source and names it.
        return None
