"""Tasks in the broker and at the workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sitegenctl.domain.queue.defaults import HARD_LIMIT
from sitegenctl.domain.slotted import slotted

#: The hard time limit where no message, worker or setting has one.
DEFAULT_HARD_LIMIT = timedelta(seconds=HARD_LIMIT)

#: How long workers may take to reconnect after the broker restarted.
DEFAULT_RECONNECT = timedelta(seconds=30)


class TaskState(StrEnum):
    """Where a live task is. A task is live until it has ended."""

    QUEUED = "queued"  # in a queue's list, for the next free worker
    RESERVED = "reserved"  # at a worker, waiting for a free process
    RUNNING = "running"
    SCHEDULED = "scheduled"  # held until its ETA
    RETRYING = "retrying"  # held until its ETA, after a failed attempt
    UNACKED = "unacked"  # delivered and not acknowledged; not yet compared with the workers' replies
    UNACCOUNTED = "unaccounted"  # delivered; no worker that responded has it, another one may be running it
    ORPHANED = "orphaned"  # delivered, and proven to run nowhere


@slotted
class LiveTask:
    """One place of a task that is not finished: a list entry, a delivery, or a worker's claim.

    A task id can be in several places; each is a ``LiveTask``. ``order_id`` is None for a task of ours whose arguments
    name no possible order. ``attempt`` counts from 1. ``enqueued_at`` is known for tasks that carry it, as ours do (a
    Celery message has no enqueue time). ``position`` is the position in the order of delivery, 0 being next; None once
    delivered. ``delivered_at`` is by the broker's clock, ``delivery`` the key of the delivery there (kombu's tag, RQ's
    registry member). ``limit`` is the task's own hard time limit. ``started_at`` (by the worker's clock) and ``pid``
    are known for running tasks. ``part_of`` names the chain, group or map that carries the task, ``carrier`` is its id:
    such a task cannot be removed alone. ``until`` is when an unaccounted task can be decided, or an orphaned one
    requeued, by this machine's clock; None where unknown. ``reason`` is the reason for the state.
    """

    task_id: str
    name: str
    order_id: int | None
    state: TaskState
    worker: str | None = None
    attempt: int = 1
    enqueued_at: datetime | None = None
    eta: datetime | None = None
    actor: str | None = None
    position: int | None = None
    delivered_at: datetime | None = None
    delivery: str | None = None
    limit: timedelta | None = None
    started_at: datetime | None = None
    pid: int | None = None
    part_of: str | None = None
    carrier: str | None = None
    until: datetime | None = None
    reason: str | None = None

    @property
    def is_unaccounted(self) -> bool:
        """Whether it was delivered, and nothing shows which worker has it, if any."""
        return self.state in (TaskState.UNACCOUNTED, TaskState.UNACKED)


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignMessage:
    """A message in our queue that belongs to no order; it is shown and never changed.

    ``may_be_ours`` is set where it is or may contain our task, but the order cannot be read: then every order may have
    a task.
    """

    name: str
    reason: str
    state: TaskState
    task_id: str | None = None
    position: int | None = None
    may_be_ours: bool = False


@dataclass(frozen=True, kw_only=True)
class BrokerReading:
    """Everything unfinished that the broker holds, read at one moment.

    ``tasks`` has every list entry and every delivery, also of the same id. ``taken_at`` is by the broker's clock, None
    where it could not be read. ``uptime`` is that of the broker, None where it is unknown or does not matter.
    ``hard_limit`` applies where neither the message nor a worker has a limit; ``reconnect_time`` is how long workers
    may take to reconnect after the broker restarted. ``skipped`` counts malformed values by what was wrong with them.
    """

    tasks: tuple[LiveTask, ...] = ()
    foreign: tuple[ForeignMessage, ...] = ()
    taken_at: datetime | None = None
    uptime: timedelta | None = None
    hard_limit: timedelta = DEFAULT_HARD_LIMIT
    reconnect_time: timedelta = DEFAULT_RECONNECT
    skipped: Mapping[str, int] = field(default_factory=dict)

    @property
    def reconnecting(self) -> timedelta:
        """How much longer workers may need to reconnect to a broker that has restarted."""
        return max(self.reconnect_time - self.uptime, timedelta(0)) if self.uptime is not None else timedelta(0)

    @property
    def unattributed(self) -> tuple[ForeignMessage, ...]:
        """Messages that may be of any order."""
        return tuple(message for message in self.foreign if message.may_be_ours)

    @property
    def order_ids(self) -> set[int]:
        """The orders that have a task; some may not exist."""
        return {task.order_id for task in self.tasks if task.order_id is not None}


class TaskPlace(StrEnum):
    """Where a task was found; the first of these that has it."""

    QUEUE = "queue"  # its message is in one of the queue's lists
    UNACKED = "unacked"  # its message is delivered and not acknowledged
    WORKER = "worker"  # a worker reports that it has the task, and the broker has no message of it
    RESULT = "result"  # it is finished, or between two attempts: its result is all there is


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """A task's result in the result backend.

    ``status`` is Celery's, which is SUCCESS for a failed generation too. ``value`` is the result as JSON: the return
    value, or the type and message of the exception. A result that is not JSON is never unpickled: its status is
    ``UNDECODABLE``, without a value.
    """

    status: str
    value: str | None = None
    traceback: str | None = None
    date_done: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class TaskDetails:
    """Everything known about one task; None is unknown.

    ``list_key`` is the key of the queue's list that it is in, ``position`` counts from the next message of all lists.
    ``delivered_at`` is the time of its last delivery, ``until`` when an unaccounted one can be decided. ``headers`` are
    those of its message, ``undecodable`` is why its arguments could not be read.
    """

    task_id: str
    place: TaskPlace
    name: str | None = None
    order_id: int | None = None
    state: TaskState | None = None
    worker: str | None = None
    attempt: int | None = None
    enqueued_at: datetime | None = None
    eta: datetime | None = None
    actor: str | None = None
    list_key: str | None = None
    position: int | None = None
    delivered_at: datetime | None = None
    until: datetime | None = None
    undecodable: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    result: TaskResult | None = None


@dataclass(frozen=True, kw_only=True)
class Publication:
    """A task to publish, under an id chosen (and journaled) before."""

    task_id: str
    order_id: int
    resume: bool
    actor: str
    enqueued_at: datetime
