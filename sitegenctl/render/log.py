"""Rows of the generation log, and events of tasks and workers, as text and as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.domain.orders.order import LogRow
from sitegenctl.domain.queue.event import Event
from sitegenctl.render.output import row_of
from sitegenctl.render.text import NARROW, hanging, neutralise

#: The mark of a row by its status.
MARKS = {"error": "✗", "warning": "!", "success": "✓"}

_SEVERITIES = {"error": Severity.FAULT, "warning": Severity.UNKNOWN}

#: Minimum width for full task ids.
_WIDE = 110
_SHORT_ID = 8

_EVENT_MARKS = {
    "task-succeeded": "✓",
    "task-failed": "✗",
    "task-rejected": "✗",
    "task-retried": "!",
    "task-revoked": "!",
    "worker-offline": "!",
}

# The result of a generation that failed inside its task, which Celery calls succeeded.
_UNSUCCESSFUL = re.compile(r"\{'success': False\b")

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


def event_data(event: Event) -> dict[str, Any]:
    """The event exactly as sent, with its order where it is known."""
    return {"order_id": event.order_id, **event.fields}


def event_lines(event: Event, *, width: int) -> list[str]:
    """One event, wrapped to ``width`` columns below its type; the time is UTC."""
    time = f"{event.at:%H:%M:%S}" if event.at else "--:--:--"
    prefix = f"{time} {_mark(event)} {neutralise(event.type):<{14 if width >= NARROW else 0}}  "
    parts = []
    if event.task_id is not None:
        order = "-" if event.order_id is None else str(event.order_id)
        parts.append(f"{order:>{6 if width >= NARROW else 0}}")
        if width >= NARROW:
            shown = event.task_id if width >= _WIDE else event.task_id[:_SHORT_ID]
            parts.append(neutralise(shown))
    parts += [neutralise(detail) for detail in _details(event)]
    if event.worker is not None:
        parts.append(f"at {neutralise(event.worker)}")
    return hanging(prefix, "  ".join(parts), width)


def event_detail(event: Event) -> str:
    """The details of an event on one line."""
    return "  ".join(neutralise(detail) for detail in _details(event))


def event_severity(event: Event) -> Severity:
    """The severity of an event, for its colour."""
    mark = _mark(event)
    return Severity.FAULT if mark == "✗" else Severity.UNKNOWN if mark == "!" else Severity.OK


def _mark(event: Event) -> str:
    return "!" if _hides_failure(event) else _EVENT_MARKS.get(event.type, " ")


def _details(event: Event) -> Iterator[str]:
    fields = event.fields
    if event.task_name is not None and event.order_id is None:
        yield event.task_name
    if isinstance(retries := fields.get("retries"), int) and retries:
        yield f"attempt {retries + 1}"
    if isinstance(eta := fields.get("eta"), str):
        yield f"ETA {eta}"
    if event.runtime is not None:
        yield f"in {event.runtime:.1f}s"
    if event.error is not None:
        yield event.error
    if _hides_failure(event):
        yield f"returned {fields['result']}"
    yield from (word for word in ("terminated", "expired", "requeue") if fields.get(word) is True)
    if event.task_id is None and isinstance(fields.get("active"), int) and isinstance(fields.get("processed"), int):
        yield f"{fields['active']} running, {fields['processed']} begun so far"


def _hides_failure(event: Event) -> bool:
    result = event.fields.get("result")
    return event.type == "task-succeeded" and isinstance(result, str) and _UNSUCCESSFUL.match(result) is not None
