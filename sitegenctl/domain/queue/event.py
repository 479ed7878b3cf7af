"""What workers say while they work: task and worker events, which order each is of, and who keeps silent.

Pure: where events come from is ``adapters/celery_events.py``, what is shown of them ``render/``.
Source of the fields: https://docs.celeryq.dev/en/stable/userguide/monitoring.html#event-reference
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from sitegenctl.domain.orders.order import MAX_ORDER_ID

HEARTBEAT = "worker-heartbeat"

#: The events that Celery knows.
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

#: For so many tasks the order is remembered.
REMEMBERED = 50_000

# The representation of `generate_site_task`'s arguments and of nothing else. Celery cuts a long one: then no
# order is known.
_ARGS = re.compile(r"[\[(]\s*(\d{1,10})\s*(?:,\s*(?:True|False))?\s*,?\s*[\])]", re.ASCII)
_KWARGS = re.compile(
    r"\{(?:'resume': (?:True|False), )?'order_id': (\d{1,10})(?:, 'resume': (?:True|False))?\}", re.ASCII
)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event. ``fields`` is all of it exactly as sent; the rest is what could be made out of that.

    ``at`` is the sender's clock, UTC. ``worker`` is the sender's name, which for ``task-sent`` is a client's.
    ``runtime`` is in seconds.
    """

    type: str
    fields: Mapping[str, Any]
    at: datetime | None = None
    task_id: str | None = None
    task_name: str | None = None
    order_id: int | None = None
    worker: str | None = None
    runtime: float | None = None
    error: str | None = None


class Heard(Enum):
    """What else can be heard."""

    NOTHING = "nothing"  # for a while there was no message at all
    GARBAGE = "garbage"  # a message that is no event


def read_event(fields: Mapping[str, Any]) -> Event | None:
    """Make an event out of what was sent, trusting no field to be what it should; None if it is no event."""
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
    """The order in the representation of a call's arguments, as in ``[42]`` or ``(42,)``."""
    match = _ARGS.fullmatch(args) if isinstance(args, str) else None
    if match is None and isinstance(kwargs, str):
        match = _KWARGS.fullmatch(kwargs)
    order_id = int(match[1]) if match else 0
    return order_id if 0 < order_id <= MAX_ORDER_ID else None


class OrderMemory:
    """Which order a task is for: only its first events say so, the later ones name the task alone."""

    def __init__(self, task_name: str) -> None:
        self._task_name = task_name
        self._orders: OrderedDict[str, int] = OrderedDict()

    def learn(self, task_id: str, order_id: int) -> None:
        """Remember a task's order; what was used longest ago is forgotten first."""
        self._orders[task_id] = order_id
        self._orders.move_to_end(task_id)
        while len(self._orders) > REMEMBERED:
            self._orders.popitem(last=False)

    def attribute(self, event: Event) -> Event:
        """The event with its order, where that is known."""
        if event.task_id is None:
            return event
        if event.task_name == self._task_name:
            order_id = order_of_call(event.fields.get("args"), event.fields.get("kwargs"))
            if order_id is not None:
                self.learn(event.task_id, order_id)
        return replace(event, order_id=self._orders.get(event.task_id))


@dataclass(frozen=True, kw_only=True)
class EventFilter:
    """Which events are wanted; an empty set means any."""

    types: frozenset[str] = frozenset()
    orders: frozenset[int] = frozenset()
    worker: str | None = None
    heartbeats: bool = False

    def wants(self, event: Event) -> bool:
        """Whether this event is wanted. Heartbeats are wanted only where asked for."""
        if event.type == HEARTBEAT and not self.heartbeats and HEARTBEAT not in self.types:
            return False
        if self.types and event.type not in self.types:
            return False
        if self.orders and event.order_id not in self.orders:
            return False
        return self.worker is None or _is_named(event.worker, self.worker)


class Silence:
    """Finds workers that work and send no events of it: their heartbeats count tasks that nobody told of."""

    def __init__(self) -> None:
        self._talkers: set[str] = set()
        self._processed: dict[str, int] = {}
        self._suspects: set[str] = set()
        self._told: set[str] = set()

    def note(self, event: Event) -> str | None:
        """Take an event into account; returns the name of a worker found silent by it, each once.

        A worker is found by the second heartbeat that counts more tasks than its first one: task events are
        sent in batches and may come a moment after the heartbeat.
        """
        worker = event.worker
        if worker is None or worker in self._told:
            return None
        if event.type.startswith("task-"):
            self._talkers.add(worker)
        processed = event.fields.get("processed")
        if event.type != HEARTBEAT or worker in self._talkers or not isinstance(processed, int):
            return None
        if processed <= self._processed.setdefault(worker, processed):
            return None
        if worker not in self._suspects:
            self._suspects.add(worker)
            return None
        self._told.add(worker)
        return worker


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
