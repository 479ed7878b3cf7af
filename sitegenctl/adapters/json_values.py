"""Reading JSON that others wrote and that may hold anything: what is not of the kind expected is not there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any


def mapping(value: Any) -> dict[str, Any]:
    """The object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> Sequence[Any]:
    """The array; an empty one for anything else."""
    return value if isinstance(value, list | tuple) else ()


def mappings(value: Any) -> list[dict[str, Any]]:
    """The objects in the array."""
    return [each for each in sequence(value) if isinstance(each, dict)]


def number(value: Any) -> int | None:
    """The whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def text(value: Any) -> str | None:
    """The text."""
    return value if isinstance(value, str) else None


def moment(value: Any) -> datetime | None:
    """The time that a number of seconds since 1970 stands for, UTC; None for 0, and beyond what a time can be."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not value:
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):  # NaN and the infinite, too
        return None


def span(value: Any) -> timedelta | None:
    """So many seconds; None beyond what a span of time can be."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return timedelta(seconds=value)
    except (ValueError, OverflowError):
        return None
