"""Plots of block characters."""

from __future__ import annotations

from collections.abc import Sequence

_HEIGHTS = " ▁▂▃▄▅▆▇█"
_LENGTHS = " ▏▎▍▌▋▊▉█"


def sparkline(values: Sequence[float], *, most: float | None = None) -> str:
    """A character for each value by its height; only 0 is invisible."""
    top = max([most or 0.0, *values])
    return "".join(_HEIGHTS[max(round(value / top * 8), 1)] if value > 0 else " " for value in values)


def bar(value: float, most: float, width: int) -> str:
    """A bar of up to ``width`` columns; only 0 is invisible."""
    if value <= 0 or most <= 0:
        return ""
    eighths = max(round(min(value / most, 1.0) * width * 8), 1)
    return _LENGTHS[8] * (eighths // 8) + _LENGTHS[eighths % 8].strip()
