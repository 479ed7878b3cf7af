"""The syntax of the live view's filter: words, and ``condition:failed status:review age>10m``.

The text is parsed as it is typed: an unfinished term filters nothing, and ``FilterText.problem`` names it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar

from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.diagnosis.listing import OrderFilter, OrderQuery
from sitegenctl.domain.orders.order import OrderStatus

E = TypeVar("E", bound=StrEnum)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_AGE = re.compile(r"age\s*([<>])\s*(\d{1,9}(?:\.\d{1,9})?)([smhdw])", re.IGNORECASE | re.ASCII)


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
    problem: str | None = None
    for word in text.split():
        name, colon, value = word.partition(":")
        if colon and name.lower() in ("condition", "c"):
            matching = _with_prefix(Condition, value)
            conditions |= matching
            problem = problem or (None if matching else f"no condition begins with {value!r}")
        elif colon and name.lower() in ("status", "s"):
            matching_statuses = _with_prefix(OrderStatus, value)
            statuses |= matching_statuses
            problem = problem or (None if matching_statuses else f"no status begins with {value!r}")
        elif word.lower().startswith(("age>", "age<")):
            match = _AGE.fullmatch(word)
            if match is None:
                problem = problem or "age needs a time, as in age>10m"
                continue
            age = timedelta(seconds=min(float(match[2]) * _UNITS[match[3].lower()], 1e10))
            if match[1] == ">":
                still_for = max(still_for or age, age)
            else:
                since = min(since or age, age)
        else:
            words.append(word)
    return FilterText(
        filter=OrderFilter(
            statuses=frozenset(statuses), search=" ".join(words) or None, since=since, still_for=still_for
        ),
        conditions=frozenset(conditions),
        problem=problem,
    )


def _with_prefix(kind: type[E], prefix: str) -> set[E]:
    """The members whose value begins with the prefix, or the one that equals it."""
    prefix = prefix.lower()
    if not prefix:
        return set()
    exact = {member for member in kind if member.lower() == prefix}
    return exact or {member for member in kind if member.lower().startswith(prefix)}
