"""Tasks as the broker and the workers tell of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class TaskState(StrEnum):
    """Where a live task is. "Live" means: not finished, whoever has it."""

    QUEUED = "queued"  # in a queue's list, for the next free worker
    RESERVED = "reserved"  # at a worker, waiting for a free process
    RUNNING = "running"
    SCHEDULED = "scheduled"  # held until its ETA
    RETRYING = "retrying"  # held until its ETA, after a failed attempt
    UNACKED = "unacked"  # delivered to a worker and not acknowledged; which worker has it is not known
    ORPHANED = "orphaned"  # delivered, and every living worker has said that it isn't theirs


@dataclass(frozen=True, kw_only=True)
class LiveTask:
    """One task that is not finished.

    ``order_id`` is None for a task of ours whose arguments name none. ``attempt`` counts from 1.
    ``enqueued_at`` is known only for tasks that carry it (ours do: a Celery message has no enqueue time).
    ``position`` is the place in the order of delivery, 0 being next; None once delivered.
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


@dataclass(frozen=True, kw_only=True)
class ForeignMessage:
    """A message in our queue that belongs to no order: shown as what it is, and left alone."""

    name: str
    reason: str
    state: TaskState
    task_id: str | None = None
    position: int | None = None


@dataclass(frozen=True, kw_only=True)
class BrokerReading:
    """Everything unfinished that the broker holds, read in one go."""

    tasks: tuple[LiveTask, ...] = ()
    foreign: tuple[ForeignMessage, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Publication:
    """A task to publish, under an id chosen (and journaled) before."""

    task_id: str
    order_id: int
    resume: bool
    actor: str
    enqueued_at: datetime
