"""Lists of orders with their verdicts, a page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from sitegenctl.domain.diagnosis.condition import Condition, Source
from sitegenctl.domain.diagnosis.listing import ListedOrder, OrderFilter, OrderPage, OrderQuery, merge, sort_key
from sitegenctl.domain.diagnosis.remedy import RUN_DOCTOR
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Order
from sitegenctl.domain.orders.site import MIN_SITE_FILES
from sitegenctl.domain.ports import OrdersStore, QueueBackend, SiteStore
from sitegenctl.errors import SourceError
from sitegenctl.operations.observe import observe_open, require

#: Finished orders whose sites are looked at together when hollow ones are sought.
_CHUNK = 500


async def list_orders(
    orders: OrdersStore,
    queue: QueueBackend,
    sites: SiteStore,
    query: OrderQuery,
    *,
    grace: timedelta,
) -> tuple[OrderPage, Snapshot]:
    """A page of orders, and the snapshot that their verdicts come from.

    Raises ``SourceError`` without the database: there is no list then. Other sources that are away make
    verdicts unknown. ``hollow`` is looked for only if the query names it.
    """
    hollow = Condition.HOLLOW in query.conditions
    snapshot = await observe_open(orders, queue, sites, grace=grace, check_hollow=hollow, only=query.filter)
    if Source.DATABASE in snapshot.errors:
        raise SourceError(snapshot.errors[Source.DATABASE], hint=RUN_DOCTOR, source=Source.DATABASE)
    return await page_of(orders, sites, query, snapshot), snapshot


class SettledOrders(Protocol):
    """Whoever knows the orders that need nobody; ``OrdersStore`` has the rest."""

    async def read_settled(self, query: OrderQuery, *, excluding: Collection[int]) -> list[Order]:
        """The first ``offset + limit`` of the other orders."""
        ...

    async def count_settled(self, only: OrderFilter, *, excluding: Collection[int]) -> int:
        """How many other orders there are."""
        ...


async def page_of(orders: SettledOrders, sites: SiteStore, query: OrderQuery, snapshot: Snapshot) -> OrderPage:
    """The page of a query whose open orders are in the snapshot; there may be others in it than the query takes."""
    hollow = Condition.HOLLOW in query.conditions
    if query.filter.is_empty:
        # A task may name an order that doesn't exist; one that was merely filtered out must not look like that.
        ids: Collection[int] = snapshot.known_ids()
    else:
        ids = [order_id for order_id, order in snapshot.orders.items() if query.filter.matches(order)]
    judged = [_listed(order_id, snapshot) for order_id in ids]
    open_orders = [listed for listed in judged if query.includes(listed.verdict.condition)]
    open_orders.sort(key=sort_key(query))
    undecided = 0
    if snapshot.unanswered and Condition.UNKNOWN not in query.conditions:
        undecided = sum(listed.verdict.condition is Condition.UNKNOWN for listed in judged) if query.conditions else 0
    if not query.includes_settled or (hollow and Source.FILES in snapshot.errors):
        # Without the files no finished order can be called hollow, however many are gone through.
        return OrderPage(orders=merge(query, [open_orders]), total=len(open_orders), undecided=undecided)
    settled = [listed async for listed in _settled(orders, sites, query, snapshot)]
    total = (
        None
        if query.conditions
        else len(open_orders) + await orders.count_settled(query.filter, excluding=snapshot.orders.keys())
    )
    return OrderPage(orders=merge(query, [open_orders, settled]), total=total, undecided=undecided)


async def choose_orders(
    orders: OrdersStore, queue: QueueBackend, sites: SiteStore, query: OrderQuery, *, grace: timedelta
) -> list[int]:
    """The orders that the query takes, by number. Raises ``SourceError`` where a verdict it asks for can't be had."""
    page, snapshot = await list_orders(orders, queue, sites, query, grace=grace)
    if query.conditions:
        require(snapshot, *snapshot.errors)
    return [listed.order_id for listed in page.orders]


async def _settled(
    orders: SettledOrders, sites: SiteStore, query: OrderQuery, snapshot: Snapshot
) -> AsyncIterator[ListedOrder]:
    """The first ``offset + limit`` of the other orders that are in a condition that the query takes."""
    wanted = query.offset + query.limit
    found = 0
    size = wanted if not query.conditions else max(wanted, _CHUNK)
    start = 0
    while found < wanted:
        chunk = (await orders.read_settled(replace(query, offset=start, limit=size), excluding=snapshot.orders.keys()))[
            start:
        ]
        seen = await _with_files(sites, snapshot, chunk)
        for order in chunk:
            listed = _listed(order.order_id, seen)
            if query.includes(listed.verdict.condition):
                found += 1
                yield listed
        if len(chunk) < size:
            return
        start += size


def _listed(order_id: int, snapshot: Snapshot) -> ListedOrder:
    return ListedOrder(order_id=order_id, order=snapshot.orders.get(order_id), verdict=snapshot.diagnose(order_id))


async def _with_files(sites: SiteStore, snapshot: Snapshot, chunk: Sequence[Order]) -> Snapshot:
    finished = [order.order_id for order in chunk if order.status is not None and order.status.is_finished]
    files = {}
    if snapshot.check_hollow and Source.FILES not in snapshot.errors:
        files = await sites.count(finished, enough=MIN_SITE_FILES)
    return replace(snapshot, orders={order.order_id: order for order in chunk}, files=files)
