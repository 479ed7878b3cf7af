"""What is typed to filter a list of orders: words, and ``condition:failed status:review age>10m``.

Typed text is never wrong for long: what is not finished yet filters nothing, and ``FilterText.problem`` says so.
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
    """What was typed, understood: the orders meant, and what could not be understood."""

    filter: OrderFilter = field(default_factory=OrderFilter)
    conditions: frozenset[Condition] = frozenset()
    problem: str | None = None

    def applied_to(self, query: OrderQuery) -> OrderQuery:
        """The same query, for these orders only, from its beginning."""
        return replace(query, filter=self.filter, conditions=self.conditions, offset=0)


def parse_filter(text: str) -> FilterText:
    """Understand what was typed; several conditions, or several statuses, mean any of them."""
    words: list[str] = []
    conditions: set[Condition] = set()
    statuses: set[OrderStatus] = set()
    since: timedelta | None = None
    still_for: timedelta | None = None
    problem: str | None = None
    for word in text.split():
        name, colon, value = word.partition(":")
        if colon and name.lower() in ("condition", "c"):
            found = _beginning(Condition, value)
            conditions |= found
            problem = problem or (None if found else f"no condition begins with {value!r}")
        elif colon and name.lower() in ("status", "s"):
            found_statuses = _beginning(OrderStatus, value)
            statuses |= found_statuses
            problem = problem or (None if found_statuses else f"no status begins with {value!r}")
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


def _beginning(kind: type[E], value: str) -> set[E]:
    """The members whose value begins so; one that is named in full is meant alone."""
    wanted = value.lower()
    if not wanted:
        return set()
    exact = {member for member in kind if member.lower() == wanted}
    return exact or {member for member in kind if member.lower().startswith(wanted)}
