"""Numbers, sizes and times in the words of the checks."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 message``, ``2 messages``; ``many`` where an s is not enough."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def listed(names: Collection[object], *, limit: int = 5) -> str:
    """The first names, and how many more there are."""
    shown = [str(name) for name in names][:limit]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def seconds(span: timedelta | None) -> str:
    """``600 s``, or ``none`` for no limit."""
    return "none" if span is None else f"{round(span.total_seconds(), 1):g} s"


def milliseconds(span: timedelta) -> str:
    """``0.4 ms``, ``12 ms``."""
    number = span.total_seconds() * 1000
    return f"{number:.1f} ms" if number < 10 else f"{number:.0f} ms"


def size(number: int) -> str:
    """Bytes as in ``977 kB``."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} TB"
