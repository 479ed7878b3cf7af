"""Calls of the task that generates a site, from whatever they came in: which order one is for, and when it was made."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sitegenctl.adapters.json_values import number
from sitegenctl.domain.order import MAX_ORDER_ID


def order_of(args: Any, kwargs: Any) -> int | None:
    """The order that a call with ``(order_id, resume=True)`` is for.

    None also for a number that no order can have: a database that was asked for it would refuse the whole question.
    """
    value = args[0] if isinstance(args, (list, tuple)) and args else None
    if value is None and isinstance(kwargs, dict):
        value = kwargs.get("order_id")
    order_id = number(value)
    return order_id if order_id is not None and 0 < order_id <= MAX_ORDER_ID else None


def parse_time(value: Any) -> datetime | None:
    """Read an ISO 8601 time, UTC when it names no zone; None when it is none, or none any more in UTC."""
    try:
        return _utc(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


# Tasks that were published together have the same time.
@lru_cache(maxsize=256)
def _utc(iso: str) -> datetime:
    time = datetime.fromisoformat(iso)
    # At either end of the calendar there is no such time in another zone: an OverflowError.
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
