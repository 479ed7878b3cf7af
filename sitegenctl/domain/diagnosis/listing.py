"""Lists of orders: queries, sorting, and how pages are merged.

Open orders are few, and all of them are diagnosed. The others (waiting, finished, cancelled) may be millions, and the
database returns a page of them. Both are sorted the same way and merged.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any, TypeVar
from unicodedata import normalize

from sitegenctl.domain.diagnosis.condition import Condition, Diagnosis, Severity, settled_condition
from sitegenctl.domain.orders.order import OPEN_STATUSES, Order, OrderStatus
from sitegenctl.domain.queue.defaults import MAX_ORDER_ID


class SortBy(StrEnum):
    """The sort keys of a list of orders."""

    FAULT = "fault"  # by condition, faults first; within each the oldest first
    ID = "id"
    UPDATED = "updated"  # last change first
    CREATED = "created"  # newest first
    NAME = "name"  # of the business, else of the customer
    STATUS = "status"  # in the order of an order's life
    DUE = "due"  # the earliest due date first


@dataclass(frozen=True, kw_only=True)
class OrderFilter:
    """Which orders to list: empty sets and None filter nothing."""

    statuses: frozenset[OrderStatus] = frozenset()
    search: str | None = None  # words that are in the names or the e-mail address, or are the number
    since: timedelta | None = None  # it changed within this time
    still_for: timedelta | None = None  # it is unchanged for this time
    due_within: timedelta | None = None  # it is due in less than this time, or late; 0 is late
    due_after: timedelta | None = None  # it is due in more than this time

    @property
    def is_by_due_date(self) -> bool:
        """Whether only orders with a due date match."""
        return self.due_within is not None or self.due_after is not None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is filtered."""
        return self == OrderFilter()

    @property
    def words(self) -> Sequence[str]:
        """The words of the search."""
        return self.search.split() if self.search is not None else ()

    def matches(self, order: Order) -> bool:
        """Whether an order that was read matches.

        Any change of the order counts here; where the database filters, it compares ``updated_at``.
        """
        if self.statuses and order.status not in self.statuses:
            return False
        if self.since is not None and (order.idle is None or order.idle > self.since):
            return False
        if self.still_for is not None and (order.idle is None or order.idle < self.still_for):
            return False
        if self.due_within is not None and (order.due_in is None or order.due_in >= self.due_within):
            return False
        if self.due_after is not None and (order.due_in is None or order.due_in <= self.due_after):
            return False
        if self.search is None:
            return True
        text = "\n".join((order.customer_name, order.customer_email, order.business_name or "")).lower()
        return all(word.lower() in text or order_number(word) == order.order_id for word in self.words)


def order_number(word: str) -> int | None:
    """The order number that a word of a search may be, in ASCII digits."""
    number = int(word) if word.isascii() and word.isdecimal() and len(word) <= len(str(MAX_ORDER_ID)) else None
    return None if number is None or number > MAX_ORDER_ID else number


@dataclass(frozen=True, kw_only=True)
class OrderQuery:
    """A page of a list of orders: ``limit`` of them after ``offset``."""

    filter: OrderFilter = OrderFilter()
    conditions: frozenset[Condition] = frozenset()
    sort: SortBy = SortBy.FAULT
    reverse: bool = False
    limit: int = 50
    offset: int = 0

    @property
    def includes_settled(self) -> bool:
        """Whether orders that are not open can be in the result."""
        statuses = self.filter.statuses
        by_status = not statuses or bool(statuses - OPEN_STATUSES)
        return by_status and (not self.conditions or any(condition.settled for condition in self.conditions))

    @property
    def includes_on_request(self) -> bool:
        """Whether a condition is selected that is checked only on request."""
        return any(condition.on_request for condition in self.conditions)

    def includes(self, condition: Condition) -> bool:
        """Whether orders in this condition are in the result."""
        return not self.conditions or condition in self.conditions


@dataclass(frozen=True, kw_only=True)
class ListedOrder:
    """An order in a list with its diagnosis; ``order`` is None for a missing one that has a live task."""

    order_id: int
    order: Order | None
    verdict: Diagnosis


@dataclass(frozen=True, kw_only=True)
class OrderPage:
    """A page of a list."""

    orders: Sequence[ListedOrder]
    total: int | None  # None where counting would mean diagnosing every finished order
    undecided: int = 0  # other orders that may be in one of the conditions: a source did not respond


_RANKS = {Severity.FAULT: 0, Severity.UNKNOWN: 1, Severity.OK: 2}
_GROUPS = {condition: place for place, condition in enumerate(Condition)}
_LIFE = {status: place for place, status in enumerate(OrderStatus)}
_LAST = float("inf")


def _without_marks() -> dict[str, str]:
    """The Latin letters with marks, each with its base letter."""
    letters = dict(zip("ÆæŒœØøĐđŁłßı", "aaooooddllsi", strict=True))
    for letter in map(chr, range(0xC0, 0x250)):
        base = normalize("NFD", letter)[0].lower()
        if base.isascii() and base.isalpha():
            letters[letter] = base
    return letters


#: Letters, their base letters, and marks to remove: names are sorted as in Portuguese and English, where é is an e.
LETTERS, BASE_LETTERS = ("".join(side) for side in zip(*_without_marks().items(), strict=True))
MARKS = "".join(map(chr, range(0x300, 0x370)))
_SORTED_AS = str.maketrans(LETTERS, BASE_LETTERS, MARKS)


def sort_key(query: OrderQuery) -> Callable[[ListedOrder], Any]:
    """The sort key of a query, the same as the database's: what is missing comes last, ties by id."""
    sign = -1 if query.reverse else 1

    def newest_first(time: datetime | None) -> float:
        # Naive UTC on both sides: only the order matters.
        return _LAST if time is None else -sign * (time - datetime.min).total_seconds()  # noqa: DTZ901

    def key(listed: ListedOrder) -> Any:
        order, order_id = listed.order, listed.order_id
        if query.sort is SortBy.ID:
            return sign * order_id
        if query.sort is SortBy.FAULT:
            return by_condition(listed)
        if order is None:
            return (True, order_id)
        match query.sort:
            case SortBy.UPDATED:
                return (False, newest_first(_changed_at(order)), order_id)
            case SortBy.CREATED:
                return (False, newest_first(order.created_at), order_id)
            case SortBy.NAME:
                name = (order.business_name or order.customer_name).lower().translate(_SORTED_AS).encode()
                if query.reverse:
                    # The end sorts last: a name comes before its own beginning.
                    name = bytes(255 - byte for byte in name) + b"\xff"
                return (False, name, order_id)
            case SortBy.STATUS:
                place = float("inf") if order.status is None else sign * _LIFE[order.status]
                return (False, place, newest_first(order.updated_at), order_id)
            case SortBy.DUE:
                return (False, _LAST if order.due_at is None else -newest_first(order.due_at), order_id)

    def by_condition(listed: ListedOrder) -> Any:
        order, condition, severity = listed.order, listed.verdict.condition, listed.verdict.severity
        is_settled = order is not None and _is_settled(order)
        if order is not None and is_settled and severity is not Severity.FAULT:
            # The database does not know which of these are on hold, or unknown.
            condition = settled_condition(order.status)
        age = float("inf")
        if order is not None and order.idle is not None:
            age = -sign * order.idle.total_seconds()
        return (
            sign * _RANKS[severity],
            sign * _GROUPS[condition],
            order is None,
            sign * is_settled,
            # Of the orders that are not open, which may be millions, the oldest is the one with the lowest number.
            0 if is_settled else age,
            sign * listed.order_id,
        )

    return key


def _is_settled(order: Order) -> bool:
    return order.label is not None and order.status not in OPEN_STATUSES


def _changed_at(order: Order) -> datetime | None:
    """When the order changed; if it is not open, without its log, as the database sorts such orders."""
    if _is_settled(order):
        return max(filter(None, (order.updated_at, order.onboarding_completed_at)), default=None)
    return order.changed_at


def merge(
    query: OrderQuery, parts: Iterable[Iterable[ListedOrder]], key: Callable[[ListedOrder], Any]
) -> list[ListedOrder]:
    """Merge parts sorted by the key into the page of the query."""
    merged = heapq.merge(*parts, key=key)
    return list(islice(merged, query.offset, query.offset + query.limit))


E = TypeVar("E", bound=StrEnum)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_EXAMPLES = {"age": "age>10m", "due": "due<1d"}
_COMPARISON = re.compile(r"(age|due)([<>])(?:(\d{1,9}(?:\.\d{1,9})?)([smhdw])|0)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, kw_only=True)
class FilterText:
    """The parsed filter, and the first problem in it."""

    filter: OrderFilter = field(default_factory=OrderFilter)
    conditions: frozenset[Condition] = frozenset()
    problem: str | None = None

    def applied_to(self, query: OrderQuery) -> OrderQuery:
        """The first page of the query with this filter."""
        return replace(query, filter=self.filter, conditions=self.conditions, offset=0)


def parse_filter(text: str) -> FilterText:
    """Parse a filter; several conditions, or several statuses, mean any of them."""
    words: list[str] = []
    conditions: set[Condition] = set()
    statuses: set[OrderStatus] = set()
    since: timedelta | None = None
    still_for: timedelta | None = None
    due_within: timedelta | None = None
    due_after: timedelta | None = None
    problem: str | None = None
    for word in text.split():
        name, colon, value = word.partition(":")
        if colon and name.lower() in ("condition", "c"):
            matching = with_prefix(Condition, value)
            conditions |= matching
            problem = problem or (None if matching else f"no condition begins with {value!r}")
        elif colon and name.lower() in ("status", "s"):
            matching_statuses = with_prefix(OrderStatus, value)
            statuses |= matching_statuses
            problem = problem or (None if matching_statuses else f"no status begins with {value!r}")
        elif word.lower() == "late":
            due_within = min(due_within or timedelta(0), timedelta(0))
        elif word.lower().startswith(("age>", "age<", "due>", "due<")):
            match = _COMPARISON.fullmatch(word)
            if match is None:
                problem = problem or f"{word[:3].lower()} needs a time, as in {_EXAMPLES[word[:3].lower()]}"
                continue
            time = _time_of(match)
            match match[1].lower(), match[2]:
                case "age", ">":
                    still_for = max(still_for or time, time)
                case "age", _:
                    since = time if since is None else min(since, time)
                case _, ">":
                    due_after = time if due_after is None else max(due_after, time)
                case _:
                    due_within = time if due_within is None else min(due_within, time)
        else:
            words.append(word)
    return FilterText(
        filter=OrderFilter(
            statuses=frozenset(statuses),
            search=" ".join(words) or None,
            since=since,
            still_for=still_for,
            due_within=due_within,
            due_after=due_after,
        ),
        conditions=frozenset(conditions),
        problem=problem,
    )


def _time_of(comparison: re.Match[str]) -> timedelta:
    unit = _UNITS[comparison[4].lower()] if comparison[4] else 0
    return timedelta(seconds=min(float(comparison[3] or 0) * unit, 1e10))


def parse_age(word: str) -> timedelta | None:
    """The time in a word such as ``age<2h``; None if it has none."""
    match = _COMPARISON.fullmatch(word)
    return None if match is None else _time_of(match)


def with_prefix(kind: type[E], prefix: str) -> set[E]:
    """The members whose value begins with the prefix, or the one that equals it."""
    prefix = prefix.lower()
    if not prefix:
        return set()
    exact = {member for member in kind if member.lower() == prefix}
    return exact or {member for member in kind if member.lower().startswith(prefix)}
