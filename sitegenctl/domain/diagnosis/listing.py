"""Lists of orders: what is asked for, in which order, and how the pages come together.

Orders that may need somebody are few and are diagnosed all; the others (waiting, finished, cancelled) may be
millions, and the database hands out a page of them. Both come sorted the same way and are merged.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any

from sitegenctl.domain.diagnosis.condition import Condition, Diagnosis, Severity
from sitegenctl.domain.orders.order import MAX_ORDER_ID, OPEN_STATUSES, Order, OrderStatus


class SortBy(StrEnum):
    """What a list of orders is sorted by."""

    FAULT = "fault"  # faults first, then the newest order
    ID = "id"
    UPDATED = "updated"  # what moved last first
    CREATED = "created"  # newest first
    NAME = "name"
    STATUS = "status"  # in the order of an order's life


@dataclass(frozen=True, kw_only=True)
class OrderFilter:
    """Which orders: empty sets and None filter nothing.

    Every word of ``search`` must be in the customer's name or address or the business's name, or be the order's
    number. ``since`` is the time within which the order moved, ``still_for`` the time for which it has not.
    """

    statuses: frozenset[OrderStatus] = frozenset()
    search: str | None = None
    since: timedelta | None = None
    still_for: timedelta | None = None

    @property
    def takes_everything(self) -> bool:
        """Whether nothing is filtered."""
        return self == OrderFilter()

    @property
    def words(self) -> Sequence[str]:
        """What is searched for."""
        return self.search.split() if self.search is not None else ()

    def takes(self, order: Order) -> bool:
        """Whether the order is one of these; of orders that have been read, what the database says of others.

        An order moved when anything of it did; of the orders that it alone knows the database takes ``updated_at``.
        """
        if self.statuses and order.status not in self.statuses:
            return False
        if self.since is not None and (order.idle is None or order.idle > self.since):
            return False
        if self.still_for is not None and (order.idle is None or order.idle < self.still_for):
            return False
        if self.search is None:
            return True
        text = "\n".join((order.customer_name, order.customer_email, order.business_name or "")).lower()
        return all(word.lower() in text or order_number(word) == order.order_id for word in self.words)


def order_number(word: str) -> int | None:
    """The number of an order that a word of a search may be; digits of other scripts are letters."""
    number = int(word) if word.isascii() and word.isdecimal() and len(word) <= len(str(MAX_ORDER_ID)) else None
    return None if number is None or number > MAX_ORDER_ID else number


@dataclass(frozen=True, kw_only=True)
class OrderQuery:
    """A page of orders: ``limit`` of them after ``offset``."""

    filter: OrderFilter = OrderFilter()
    conditions: frozenset[Condition] = frozenset()
    sort: SortBy = SortBy.FAULT
    reverse: bool = False
    limit: int = 50
    offset: int = 0

    @property
    def wants_settled(self) -> bool:
        """Whether orders beyond the open ones can be in the answer."""
        statuses = self.filter.statuses
        by_status = not statuses or bool(statuses - OPEN_STATUSES)
        return by_status and (not self.conditions or any(condition.settled for condition in self.conditions))

    def takes(self, condition: Condition) -> bool:
        """Whether an order in this condition belongs into the answer."""
        return not self.conditions or condition in self.conditions


@dataclass(frozen=True, kw_only=True)
class ListedOrder:
    """An order in a list, with its verdict; ``order`` is None for one that is missing and has a live task."""

    order_id: int
    order: Order | None
    verdict: Diagnosis


@dataclass(frozen=True, kw_only=True)
class OrderPage:
    """A page of a list; ``total`` is None where counting would mean judging every finished order.

    ``undecided`` more may be in one of the conditions asked for: a source that did not answer would tell.
    """

    orders: Sequence[ListedOrder]
    total: int | None
    undecided: int = 0


_RANKS = {Severity.FAULT: 0, Severity.UNKNOWN: 1, Severity.OK: 2}
_LIFE = {status: place for place, status in enumerate(OrderStatus)}


def sort_key(query: OrderQuery) -> Callable[[ListedOrder], Any]:
    """What the list is sorted by; the database sorts by the same, NULLs last, ties by id."""
    sign = -1 if query.reverse else 1

    def newest_first(time: datetime | None) -> float:
        # Naive UTC on both sides: only the order matters.
        return float("inf") if time is None else -sign * (time - datetime.min).total_seconds()  # noqa: DTZ901

    def key(listed: ListedOrder) -> Any:
        order, order_id = listed.order, listed.order_id
        updated = newest_first(order.updated_at if order else None)
        match query.sort:
            case SortBy.FAULT:
                return (sign * _RANKS[listed.verdict.severity], -sign * order_id)
            case SortBy.ID:
                return (sign * order_id,)
            case SortBy.UPDATED:
                return (updated, order_id)
            case SortBy.CREATED:
                return (newest_first(order.created_at if order else None), order_id)
            case SortBy.NAME:
                name = (order.customer_name if order else "").lower().encode()
                return (_Reversed(name) if query.reverse else name, order_id)
            case SortBy.STATUS:
                status = order.status if order else None
                return (float("inf") if status is None else sign * _LIFE[status], updated, order_id)

    return key


@dataclass(frozen=True)
class _Reversed:
    """Bytes that sort the other way round."""

    value: bytes

    def __lt__(self, other: _Reversed) -> bool:
        return other.value < self.value


def merge(query: OrderQuery, parts: Iterable[Iterable[ListedOrder]]) -> list[ListedOrder]:
    """The page of the query from parts that are each sorted already."""
    merged = heapq.merge(*parts, key=sort_key(query))
    return list(islice(merged, query.offset, query.offset + query.limit))
