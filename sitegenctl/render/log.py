"""Rows of the generation log as text and as JSON."""

from __future__ import annotations

from typing import Any

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.domain.orders.order import LogRow
from sitegenctl.render.data import row_of
from sitegenctl.render.text import NARROW, hanging, neutralise

#: The mark of a row by its status.
MARKS = {"error": "✗", "warning": "!", "success": "✓"}

_SEVERITIES = {"error": Severity.FAULT, "warning": Severity.UNKNOWN}

LOG_COLUMNS = ("log_id", "order_id", "at", "step", "status", "message", "details")


def log_data(row: LogRow) -> dict[str, Any]:
    """The row for JSON. Texts are exact; ``at`` is in the time zone of the database session."""
    return row_of(row, LOG_COLUMNS, at=row.created_at)


def log_lines(row: LogRow, *, width: int, prefix: str = "", indent: str = "  ") -> list[str]:
    """One log row, its message wrapped to ``width`` columns, with its date if that is not today."""
    mark = MARKS.get(row.status.lower(), " ")
    step = neutralise(row.step)
    if width >= NARROW:
        step = f"{step:<20}"
    return hanging(f"{indent}{prefix}{_time(row)} {mark} {step} ", neutralise(row.message), width)


def log_severity(status: str) -> Severity:
    """The severity of a status, for its colour."""
    return _SEVERITIES.get(status.lower(), Severity.OK)


def _time(row: LogRow) -> str:
    if row.created_at is None:
        return "--:--:--"
    # By the database's clock: this machine may be in another time zone.
    today = row.age is None or (row.created_at + row.age).date() == row.created_at.date()
    return f"{row.created_at:%H:%M:%S}" if today else f"{row.created_at:%Y-%m-%d %H:%M:%S}"
