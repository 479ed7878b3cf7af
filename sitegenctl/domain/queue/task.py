"""Tasks in the broker and at the workers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sitegenctl.domain.queue.defaults import HARD_LIMIT
from sitegenctl.slotted import slotted

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
    ORPHANED = "orphaned"  # delivered, or deferred by RQ, and proven to run nowhere


@slotted
class LiveTask:
    """One place of a task that is not finished: a list entry, a delivery, or a worker's claim."""

    task_id: str
    name: str
    order_id: int | None  # None for a task of ours whose arguments name no possible order
    state: TaskState
    worker: str | None = None
    attempt: int = 1  # from 1
    enqueued_at: datetime | None = None  # of tasks that carry it, as ours do; a Celery message has no enqueue time
    eta: datetime | None = None
    actor: str | None = None
    position: int | None = None  # in the order of delivery, 0 being next; None once delivered
    delivered_at: datetime | None = None  # by the broker's clock
    delivery: str | None = None  # the key of the delivery there: kombu's tag, RQ's registry member
    limit: timedelta | None = None  # the task's own hard time limit
    started_at: datetime | None = None  # of a running task, by the worker's clock
    pid: int | None = None  # of a running task
    part_of: str | None = None  # the chain, group or map that carries it: it cannot be removed alone
    carrier: str | None = None  # the id of that
    until: datetime | None = None  # when an unaccounted one can be decided, or an orphan requeued, by our clock
    reason: str | None = None  # for the state
    resume: bool = True  # whether it continues after the last finished stage

    @property
    def is_unaccounted(self) -> bool:
        """Whether it was delivered, and nothing shows which worker has it, if any."""
        return self.state in (TaskState.UNACCOUNTED, TaskState.UNACKED)


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignMessage:
    """A message in our queue that belongs to no order; it is shown and never changed."""

    name: str
    reason: str
    state: TaskState
    task_id: str | None = None
    position: int | None = None
    may_be_ours: bool = False  # it may contain our task, but the order can't be read: every order may have a task


@dataclass(frozen=True, kw_only=True)
class BrokerReading:
    """Everything unfinished that the broker holds, read at one moment."""

    tasks: tuple[LiveTask, ...] = ()  # every list entry and every delivery, also of the same id
    foreign: tuple[ForeignMessage, ...] = ()
    taken_at: datetime | None = None  # by the broker's clock
    uptime: timedelta | None = None  # of the broker; None where unknown or irrelevant
    hard_limit: timedelta = DEFAULT_HARD_LIMIT  # where neither message nor worker has a limit
    reconnect_time: timedelta = DEFAULT_RECONNECT  # that workers may take after the broker restarted
    skipped: Mapping[str, int] = field(default_factory=dict)  # malformed values, by what was wrong with them

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


_NO_REASON = "its task failed without a reason"


class TaskPlace(StrEnum):
    """Where a task was found; the first of these that has it."""

    QUEUE = "queue"  # its message is in one of the queue's lists
    UNACKED = "unacked"  # its message is delivered and not acknowledged
    WORKER = "worker"  # a worker reports that it has the task, and the broker has no message of it
    RESULT = "result"  # it is finished, or between two attempts: its result is all there is


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """A task's result in the result backend."""

    status: str  # Celery's, SUCCESS for a failed generation too; UNDECODABLE if not JSON: it is never unpickled
    value: str | None = None  # as JSON: the return value, or the type and message of the exception
    traceback: str | None = None
    date_done: datetime | None = None

    @property
    def failure(self) -> str | None:
        """Why the generation failed; None where this does not show that it failed."""
        try:
            value = json.loads(self.value) if self.value else None
        except (ValueError, RecursionError):
            value = None
        fields = value if isinstance(value, dict) else {}
        if self.status == "SUCCESS":
            # The system's task returns most failures.
            return str(fields.get("error") or _NO_REASON) if fields.get("success") is False else None
        if self.status != "FAILURE":
            return None
        if not fields.get("exc_type"):
            # The last line of a traceback has the exception.
            return (self.traceback or "").strip().rpartition("\n")[2].strip() or _NO_REASON
        message = fields.get("exc_message")
        texts = message if isinstance(message, list) else [message]
        return f"{fields['exc_type']}: {', '.join(map(str, texts))}"


@dataclass(frozen=True, kw_only=True)
class TaskDetails:
    """Everything known about one task; None is unknown."""

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
    list_key: str | None = None  # of the queue's list that it is in
    position: int | None = None  # from the next message of all lists
    delivered_at: datetime | None = None  # of its last delivery
    until: datetime | None = None  # when an unaccounted one can be decided
    undecodable: str | None = None  # why its arguments could not be read
    headers: Mapping[str, Any] = field(default_factory=dict)  # of its message
    result: TaskResult | None = None


@dataclass(frozen=True, kw_only=True)
class Publication:
    """A task to publish, under an id chosen (and journaled) before."""

    task_id: str
    order_id: int
    resume: bool
    actor: str
    enqueued_at: datetime
    eta: datetime | None = None  # it waits until then
    attempt: int = 1  # from 1
