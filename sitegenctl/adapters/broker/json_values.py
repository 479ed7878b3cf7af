"""Reading JSON that others wrote and that may hold anything: what is not of the kind expected is not there.

Texts that neither a terminal nor PostgreSQL takes are escaped here, so that nothing behind this edge meets them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")

_LARGEST = 2**63 - 1


def fitting(skipped: Counter[str], where: str, what: str, read: Callable[[Any], T | None], value: Any) -> T | None:
    """Read the value; count in ``skipped`` one that is there and does not fit."""
    found = read(value)
    if found is None and value is not None:
        skipped[f"{where}: an unusable value of {what}"] += 1
    return found


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
    """The whole number; None beyond 64 bits."""
    return value if isinstance(value, int) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST else None


def text(value: Any) -> str | None:
    """The text; NUL and halves of surrogate pairs, which JSON may hold, are escaped."""
    if not isinstance(value, str):
        return None
    printable = value.replace("\0", "\\x00") if "\0" in value else value
    return printable if printable.isascii() else printable.encode("utf-8", "backslashreplace").decode()


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
