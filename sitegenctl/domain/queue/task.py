"""Tasks as the broker and the workers tell of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sitegenctl.domain.queue.defaults import HARD_LIMIT
from sitegenctl.domain.slotted import light

#: After what time a run is ended where nothing names another limit.
DEFAULT_HARD_LIMIT = timedelta(seconds=HARD_LIMIT)

#: How long after a restart of the broker a worker may still be on its way back to it.
DEFAULT_RECONNECT = timedelta(seconds=30)


class TaskState(StrEnum):
    """Where a live task is. "Live" means: not finished, whoever has it."""

    QUEUED = "queued"  # in a queue's list, for the next free worker
    RESERVED = "reserved"  # at a worker, waiting for a free process
    RUNNING = "running"
    SCHEDULED = "scheduled"  # held until its ETA
    RETRYING = "retrying"  # held until its ETA, after a failed attempt
    UNACKED = "unacked"  # delivered to a worker and not acknowledged, before it is compared with the workers' replies
    UNACCOUNTED = "unaccounted"  # delivered; no worker that responded has it, and one that did not may be running it
    ORPHANED = "orphaned"  # delivered, and proven to run nowhere: its time is over, or its run lock is free


@light
class LiveTask:
    """One place of a task that is not finished: a list entry, a delivery, or a worker's claim.

    The same task id may be in several places at once; each is a ``LiveTask``. ``order_id`` is None for a task of ours
    whose arguments name no order that can exist. ``attempt`` counts from 1. ``enqueued_at`` is known only for tasks
    that carry it (ours do: a Celery message has no enqueue time). ``position`` is the place in the order of delivery,
    0 being next; None once delivered. ``delivered_at`` is by the broker's word, ``delivery`` the key of the delivery
    there (kombu's tag, RQ's registry member). ``limit`` is the task's own hard time limit. ``started_at`` and ``pid``
    are known of tasks that a worker says it runs, by the worker's clock. ``part_of`` names the chain, group or map
    that carries the task, and ``carrier`` is its id: such a task cannot be removed by itself. ``until`` is when an
    unaccounted task can be decided, or an orphaned one requeued where that must wait, by this machine's clock; None
    where that cannot be known. ``reason`` says why the state is what it is.
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
        """Whether it was delivered and nothing shows who has it, if anyone does."""
        return self.state in (TaskState.UNACCOUNTED, TaskState.UNACKED)


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignMessage:
    """A message in our queue that belongs to no order: shown as what it is, and left alone.

    ``may_be_ours`` where it names our task, or may contain it, but the order cannot be read: then no order can be said
    to have no task.
    """

    name: str
    reason: str
    state: TaskState
    task_id: str | None = None
    position: int | None = None
    may_be_ours: bool = False


@dataclass(frozen=True, kw_only=True)
class BrokerReading:
    """Everything unfinished that the broker holds, read in one go.

    ``tasks`` has every list entry and every delivery, also of the same id. ``taken_at`` is by the broker's clock, None
    where it could not be read, ``uptime`` how long the broker has been up, None where that is not known or does not
    matter. ``hard_limit`` is after what time a run is ended, where neither its message nor a worker
    names another; ``reconnect_time`` how long workers may take to come back after a restart of the broker. ``skipped``
    counts values that did not fit, by what was wrong with them.
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
        """How much longer workers may need to reconnect to a broker that has restarted.

        They wait longer after each attempt that failed, and may hold tasks that they had not begun.
        """
        return max(self.reconnect_time - self.uptime, timedelta(0)) if self.uptime is not None else timedelta(0)

    @property
    def unattributed(self) -> tuple[ForeignMessage, ...]:
        """Messages that may be of any order."""
        return tuple(message for message in self.foreign if message.may_be_ours)

    @property
    def order_ids(self) -> set[int]:
        """The orders that have a task, whether they exist or not."""
        return {task.order_id for task in self.tasks if task.order_id is not None}


class TaskPlace(StrEnum):
    """Where something of a task was found; the first of these that holds it."""

    QUEUE = "queue"  # its message is in one of the queue's lists
    UNACKED = "unacked"  # its message is delivered and not acknowledged
    WORKER = "worker"  # a worker says it holds it, and the broker has no message of it
    RESULT = "result"  # it is finished, or between two attempts: its result is all there is


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """What a task left in the result backend.

    ``status`` is Celery's word, which says SUCCESS of a generation that failed; ``value`` is the result as JSON
    text, with what the task returned, or the exception's type and message. A result that isn't JSON has the
    status ``UNDECODABLE`` and no value: it is never unpickled.
    """

    status: str
    value: str | None = None
    traceback: str | None = None
    date_done: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class TaskDetails:
    """Everything to be found of one task; None is what is not known.

    ``list_key`` names the queue's list that it is in, and ``position`` counts from the next to be delivered of
    all lists; ``delivered_at`` is when the broker last handed it to a worker, ``until`` when an
    unaccounted one can be decided. ``headers`` are its message's,
    as they came, and ``undecodable`` says why its arguments could not be read.
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
