"""Everything about one order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sitegenctl.domain.condition import Source
from sitegenctl.domain.order import LogRow
from sitegenctl.domain.ports import OrdersStore, QueueBackend, SiteStore
from sitegenctl.domain.snapshot import Snapshot
from sitegenctl.errors import Refused, SourceError
from sitegenctl.operations.observe import observe


@dataclass(frozen=True, kw_only=True)
class OrderView:
    """A snapshot of one order, with the newest rows of its log."""

    order_id: int
    snapshot: Snapshot
    log: Sequence[LogRow]


async def inspect_order(
    orders: OrdersStore,
    queue: QueueBackend,
    sites: SiteStore,
    order_id: int,
    *,
    grace: timedelta,
    last: int = 10,
) -> OrderView:
    """Look at one order. Raises ``Refused`` when the database answers that there is no such order.

    An order that is missing but has a live task is shown all the same: it is a ghost.
    """
    snapshot = await observe(orders, queue, sites, [order_id], grace=grace, check_hollow=True)
    if Source.DATABASE in snapshot.errors:
        return OrderView(order_id=order_id, snapshot=snapshot, log=())
    if order_id not in snapshot.orders and not snapshot.tasks_of(order_id):
        raise Refused(f"there is no order {order_id}")
    try:
        log = await orders.read_log([order_id], last=last)
    except SourceError:
        # It answered a moment ago; what it said then is still worth showing.
        log = []
    return OrderView(order_id=order_id, snapshot=snapshot, log=log)
