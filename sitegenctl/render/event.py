"""Task and worker events as text and as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.domain.queue.event import Event
from sitegenctl.render.text import NARROW, hanging, neutralise

#: Minimum width for full task ids.
_WIDE = 110
_SHORT_ID = 8

_MARKS = {
    "task-succeeded": "✓",
    "task-failed": "✗",
    "task-rejected": "✗",
    "task-retried": "!",
    "task-revoked": "!",
    "worker-offline": "!",
}

# The result of a generation that failed inside its task, which Celery calls succeeded.
_UNSUCCESSFUL = re.compile(r"\{'success': False\b")


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
    return "!" if _hides_failure(event) else _MARKS.get(event.type, " ")


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
