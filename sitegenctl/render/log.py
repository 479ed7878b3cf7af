"""Rows of the generation log as text and as JSON."""

from __future__ import annotations

from datetime import datetime
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
    # By the database's clock: this machine may be in another time zone.
    today = row.created_at if row.created_at is None or row.age is None else row.created_at + row.age
    head = row_prefix(row.created_at, today, MARKS.get(row.status.lower(), " "), row.step, width)
    return hanging(f"{indent}{prefix}{head}", neutralise(row.message), width)


def row_prefix(at: datetime | None, today: datetime | None, mark: str, step: str, width: int) -> str:
    """The time, mark and step before a message; the time has its date if that is not the date of ``today``."""
    time = "--:--:--"
    if at is not None:
        time = f"{at:%H:%M:%S}" if today and at.date() == today.date() else f"{at:%Y-%m-%d %H:%M:%S}"
    return f"{time} {mark} {neutralise(step):<{20 if width >= NARROW else 0}} "


def log_severity(status: str) -> Severity:
    """The severity of a status, for its colour."""
    return _SEVERITIES.get(status.lower(), Severity.OK)
