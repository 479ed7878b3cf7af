"""Reading JSON that others wrote and that may hold anything: a value of an unexpected kind counts as absent.

Texts that a terminal or PostgreSQL cannot take are escaped here, so that no other module meets them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")

_LARGEST = 2**63 - 1


def fitting(skipped: Counter[str], where: str, what: str, read: Callable[[Any], T | None], value: Any) -> T | None:
    """Read the value; count it in ``skipped`` if it is present and does not fit."""
    if value is None:
        return None
    fit = read(value)
    if fit is None:
        skipped[f"{where}: an unusable value of {what}"] += 1
    return fit


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


def is_encodable(value: str) -> bool:
    """Whether the text can be sent to Redis: half of a surrogate pair, which JSON may hold, cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def moment(value: Any) -> datetime | None:
    """The UTC time of a Unix timestamp; None for 0, and beyond the range of a datetime."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not value:
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):  # NaN and the infinite, too
        return None


def span(value: Any) -> timedelta | None:
    """A number of seconds; None beyond the range of a timedelta."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return timedelta(seconds=value)
    except (ValueError, OverflowError):
        return None


def time_limit(value: Any) -> timedelta | None:
    """A time limit in seconds; None for 0, which is Celery's "no limit", and for what cannot be one."""
    time = span(value)
    return time if time is not None and time > timedelta(0) else None
