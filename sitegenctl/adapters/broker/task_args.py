"""Arguments of the task that generates a site: the order that a call is for, and when it was made."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sitegenctl.adapters.broker.json_values import mapping
from sitegenctl.domain.queue.defaults import MAX_ORDER_ID

# What int() takes, in ASCII digits and without underscores.
_WHOLE = re.compile(r"\s*([+-]?[0-9]+)\s*", re.ASCII)


class UnreadableOrder(ValueError):
    """The arguments do not name an order in a readable form: the call may be for any order."""


def read_order(args: Any, kwargs: Any) -> int | None:
    """Read the order that a call with ``(order_id, resume=True)`` is for, as the task would.

    None for a number that no order can have. Raises ``UnreadableOrder`` for anything that is no whole number.
    """
    value = args[0] if isinstance(args, list | tuple) and args else mapping(kwargs).get("order_id")
    if isinstance(value, dict) and value.get("__type__") == "decimal":  # as kombu encodes a Decimal
        value = value.get("__value__")
    if isinstance(value, str) and (digits := _WHOLE.fullmatch(value)):
        # A longer number is beyond every order, and int() refuses very long ones.
        value = int(digits[1]) if len(digits[1]) <= len(str(MAX_ORDER_ID)) + 1 else MAX_ORDER_ID + 1
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise UnreadableOrder
    return value if 0 < value <= MAX_ORDER_ID else None


def order_of(args: Any, kwargs: Any) -> int | None:
    """The order of a call as ``read_order`` reads it; None also where it cannot be read."""
    try:
        return read_order(args, kwargs)
    except UnreadableOrder:
        return None


def resume_of(args: Any, kwargs: Any) -> bool:
    """Whether such a call continues after the last finished stage, which is the default."""
    return all((mapping(kwargs).get("resume", True), *(args[1:2] if isinstance(args, list | tuple) else ())))


def parse_time(value: Any) -> datetime | None:
    """Read an ISO 8601 time, UTC when it names no zone; None for anything else, and beyond the calendar in UTC."""
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
