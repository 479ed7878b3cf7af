"""Lists of orders: what is read of those that are not open."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from sitegenctl.domain.diagnosis.listing import OrderFilter, OrderQuery
from sitegenctl.domain.orders.order import Order, OrderStatus
from sitegenctl.operations.listing import page_of
from tests.support.values import order, snapshot


class Delivered:
    """Delivered orders that count how often they are counted."""

    def __init__(self, number: int) -> None:
        self.orders = [order(number, OrderStatus.DELIVERED) for number in range(1, number + 1)]
        self.counts = 0

    async def read_settled(self, query: OrderQuery, *, excluding: Collection[int]) -> list[Order]:
        return self.orders[: query.offset + query.limit]

    async def count_settled(self, only: OrderFilter, *, excluding: Collection[int]) -> int:
        self.counts += 1
        return len(self.orders)


@pytest.mark.parametrize(("number", "offset", "counts"), [(0, 0, 0), (4, 0, 0), (5, 0, 1), (9, 0, 1), (9, 5, 0)])
def test_search_with_few_results_takes_one_pass(number: int, offset: int, counts: int) -> None:
    store, sites = Delivered(number), Any
    query = OrderQuery(filter=OrderFilter(search="ana"), limit=5, offset=offset)
    page = asyncio.run(page_of(store, sites, query, snapshot()))
    assert (page.total, store.counts) == (number, counts)
