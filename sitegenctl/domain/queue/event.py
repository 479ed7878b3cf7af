"""Task and worker events, and the orders that they are for.

Fields: https://docs.celeryq.dev/en/stable/userguide/monitoring.html#event-reference
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from sitegenctl.domain.queue.defaults import MAX_ORDER_ID

HEARTBEAT = "worker-heartbeat"

#: Celery's event types.
EVENT_TYPES = (
    "task-sent",
    "task-received",
    "task-started",
    "task-succeeded",
    "task-failed",
    "task-retried",
    "task-rejected",
    "task-revoked",
    "task-cancelled",
    "worker-online",
    "worker-offline",
    HEARTBEAT,
)

#: Number of tasks whose order is remembered.
REMEMBERED = 50_000

# The representation of the arguments of `generate_site_task`. Celery cuts a long one: then the order is unknown.
_ARGS = re.compile(r"[\[(]\s*(\d{1,10})\s*(?:,\s*(?:True|False))?\s*,?\s*[\])]", re.ASCII)
_KWARGS = re.compile(
    r"\{(?:'resume': (?:True|False), )?'order_id': (\d{1,10})(?:, 'resume': (?:True|False))?\}", re.ASCII
)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event, with what could be read of it."""

    type: str
    fields: Mapping[str, Any]  # exactly as sent
    at: datetime | None = None  # by the sender's clock, in UTC
    task_id: str | None = None
    task_name: str | None = None
    order_id: int | None = None
    worker: str | None = None  # the sender, a client for `task-sent`
    runtime: float | None = None  # in seconds
    error: str | None = None


class NoEvent(Enum):
    """What an event source yields besides events."""

    SILENCE = "silence"  # no message for a while
    MALFORMED = "malformed"  # a message that is not an event


def read_event(fields: Mapping[str, Any]) -> Event | None:
    """Read an event from untrusted fields; None if it is not an event."""
    kind = _text(fields.get("type"))
    if kind is None:
        return None
    runtime = fields.get("runtime")
    return Event(
        type=kind,
        fields=fields,
        at=_time(fields.get("timestamp")),
        task_id=_text(fields.get("uuid")),
        task_name=_text(fields.get("name")),
        worker=_text(fields.get("hostname")),
        runtime=float(runtime) if isinstance(runtime, int | float) and abs(runtime) < 1e12 else None,
        error=_text(fields.get("exception")),
    )


def order_of_call(args: Any, kwargs: Any) -> int | None:
    """Read the order from the representation of a call's arguments, such as ``[42]`` or ``(42,)``."""
    match = _ARGS.fullmatch(args) if isinstance(args, str) else None
    if match is None and isinstance(kwargs, str):
        match = _KWARGS.fullmatch(kwargs)
    order_id = int(match[1]) if match else 0
    return order_id if 0 < order_id <= MAX_ORDER_ID else None


class OrderMemory:
    """Remembers the order of each task: only its first events name the order."""

    def __init__(self, task_name: str) -> None:
        self._task_name = task_name
        self._orders: OrderedDict[str, int] = OrderedDict()

    def learn(self, task_id: str, order_id: int) -> None:
        """Remember a task's order, and forget the least recently used one."""
        self._orders[task_id] = order_id
        self._orders.move_to_end(task_id)
        while len(self._orders) > REMEMBERED:
            self._orders.popitem(last=False)

    def attribute(self, event: Event) -> Event:
        """The event with its order, where it is known."""
        if event.task_id is None:
            return event
        if event.task_name == self._task_name:
            order_id = order_of_call(event.fields.get("args"), event.fields.get("kwargs"))
            if order_id is not None:
                self.learn(event.task_id, order_id)
        return replace(event, order_id=self._orders.get(event.task_id))


@dataclass(frozen=True, kw_only=True)
class EventFilter:
    """Selects events; an empty set selects all."""

    types: frozenset[str] = frozenset()
    orders: frozenset[int] = frozenset()
    worker: str | None = None
    heartbeats: bool = False

    def matches(self, event: Event) -> bool:
        """Whether this event is selected. Heartbeats are so only where requested."""
        if event.type == HEARTBEAT and not self.heartbeats and HEARTBEAT not in self.types:
            return False
        if self.types and event.type not in self.types:
            return False
        if self.orders and event.order_id not in self.orders:
            return False
        return self.worker is None or _is_named(event.worker, self.worker)


def unknown_type(types: Iterable[str]) -> str | None:
    """The first of these that is no type of Celery's events."""
    return next((kind for kind in types if kind not in EVENT_TYPES), None)


def _is_named(worker: str | None, name: str) -> bool:
    """Whether a worker ``celery@host`` goes by this name: all of it, or the part before or after the ``@``."""
    return worker is not None and (worker == name or ("@" not in name and name in worker.split("@", 1)))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _time(value: Any) -> datetime | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
