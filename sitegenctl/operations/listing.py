"""Lists of orders with their diagnoses, a page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from typing import Protocol

from sitegenctl.domain.diagnosis.condition import Condition, Source
from sitegenctl.domain.diagnosis.listing import ListedOrder, OrderFilter, OrderPage, OrderQuery, merge, sort_key
from sitegenctl.domain.diagnosis.remedy import RUN_DOCTOR
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Order
from sitegenctl.domain.orders.promise import Promise
from sitegenctl.domain.orders.site import MIN_SITE_FILES
from sitegenctl.domain.ports import SiteStore, Sources
from sitegenctl.errors import SourceError
from sitegenctl.operations.forecast import with_forecast
from sitegenctl.operations.observe import Attempts, observe_open, require

#: Settled orders that are read and diagnosed at once where the query has conditions.
_BATCH_SIZE = 500


class SettledOrders(Protocol):
    """Reads the orders that are not open; ``OrdersStore`` has the rest."""

    async def read_settled(self, query: OrderQuery, *, excluding: Collection[int]) -> list[Order]:
        """The first ``offset + limit`` of these orders."""

    async def count_settled(self, only: OrderFilter, *, excluding: Collection[int]) -> int:
        """How many of these orders there are."""


async def list_orders(sources: Sources, query: OrderQuery, *, forecast: bool = False) -> tuple[OrderPage, Snapshot]:
    """A page of orders, and the snapshot that their diagnoses come from.

    With a ``forecast`` if an order with a task is due soon: then it may show that the order will be late.
    """
    every = query.includes_on_request
    check_recent = query.includes_settled and not every
    attempts = Attempts()
    snapshot = await observe_open(
        sources, check_hollow=every, check_recent=check_recent, only=query.filter, attempts=attempts
    )
    if Source.DATABASE in snapshot.errors:
        hint = snapshot.hints.get(Source.DATABASE, RUN_DOCTOR)
        raise SourceError(snapshot.errors[Source.DATABASE], hint=hint, source=Source.DATABASE)
    if forecast and any(
        snapshot.promise_of(order) is Promise.DUE_SOON and snapshot.tasks_of(order_id)
        for order_id, order in snapshot.orders.items()
    ):
        roster = await attempts.make(Source.WORKERS, sources.queue.worker_details)
        snapshot = await with_forecast(sources, snapshot, attempts, roster=roster)
    return await page_of(sources.orders, sources.sites, query, snapshot), snapshot


async def page_of(orders: SettledOrders, sites: SiteStore, query: OrderQuery, snapshot: Snapshot) -> OrderPage:
    """The page of a query whose open orders are in the snapshot, which may have others, too."""
    if query.filter.is_empty:
        # A task may name a missing order; one that was filtered out must not look like that.
        ids: Collection[int] = snapshot.known_ids()
    else:
        ids = [order_id for order_id, order in snapshot.orders.items() if query.filter.matches(order)]
    diagnosed = [_listed(order_id, snapshot) for order_id in ids]
    open_orders = [listed for listed in diagnosed if query.includes(listed.verdict.condition)]
    key = sort_key(query)
    open_orders.sort(key=key)
    undecided = 0
    if query.conditions and snapshot.unanswered and Condition.UNKNOWN not in query.conditions:
        undecided = sum(listed.verdict.condition is Condition.UNKNOWN for listed in diagnosed)
    if not query.includes_settled or (query.includes_on_request and Source.FILES in snapshot.errors):
        # Without the files no finished order is known to be hollow.
        return OrderPage(orders=merge(query, [open_orders], key), total=len(open_orders), undecided=undecided)
    settled = [listed async for listed in _settled(orders, sites, query, snapshot)]
    total = None
    if not query.conditions:
        # Fewer than wanted are all: counting them would search every order once more.
        is_complete = len(settled) < query.offset + query.limit
        total = len(open_orders)
        total += len(settled) if is_complete else await orders.count_settled(query.filter, excluding=snapshot.orders)
    return OrderPage(orders=merge(query, [open_orders, settled], key), total=total, undecided=undecided)


async def choose_orders(sources: Sources, query: OrderQuery) -> list[int]:
    """The ids of the orders in a query. Raises ``SourceError`` where a source that decides a condition is missing."""
    page, snapshot = await list_orders(sources, query)
    if query.conditions:
        require(snapshot, *snapshot.errors)
    return [listed.order_id for listed in page.orders]


async def _settled(
    orders: SettledOrders, sites: SiteStore, query: OrderQuery, snapshot: Snapshot
) -> AsyncIterator[ListedOrder]:
    """The first ``offset + limit`` of the orders that are not open and in a condition of the query."""
    needed = query.offset + query.limit
    size = needed if not query.conditions else max(needed, _BATCH_SIZE)
    start = 0
    while needed > 0:
        rows = await orders.read_settled(replace(query, offset=start, limit=size), excluding=snapshot.orders.keys())
        batch = rows[start:]
        files = {}
        if snapshot.check_hollow and Source.FILES not in snapshot.errors:
            finished = [order.order_id for order in batch if order.status is not None and order.status.is_finished]
            files = await sites.count(finished, enough=MIN_SITE_FILES)
        settled = replace(snapshot, orders={order.order_id: order for order in batch}, files=files)
        for order in batch:
            listed = _listed(order.order_id, settled)
            if query.includes(listed.verdict.condition):
                needed -= 1
                yield listed
        if len(batch) < size:
            return
        start += size


def _listed(order_id: int, snapshot: Snapshot) -> ListedOrder:
    return ListedOrder(order_id=order_id, order=snapshot.orders.get(order_id), verdict=snapshot.diagnose(order_id))
