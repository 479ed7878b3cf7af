"""Workers, and what they answered when asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sitegenctl.domain.task import LiveTask, TaskState


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One worker that responded; ``tasks`` are those that it says it holds.

    ``slots`` is how many tasks it can run at once, ``hard_limit`` after what time it ends a task; None where unknown.
    """

    name: str
    tasks: tuple[LiveTask, ...] = ()
    slots: int | None = None
    hard_limit: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class WorkerSurvey:
    """The answers to one question to all workers.

    ``silent`` is the number of workers that were asked and did not respond in time: they are there, so nothing may be
    concluded from their silence. ``consumers`` is the number of clients that wait for messages of this broker's
    database, None where that could not be read or was not needed. ``ever_consumed`` is False only where nothing in the
    broker shows that a worker ever consumed from it. ``skipped`` counts values that did not fit, by what was wrong.
    """

    workers: tuple[Worker, ...] = ()
    silent: int = 0
    consumers: int | None = None
    ever_consumed: bool = True
    skipped: Mapping[str, int] = field(default_factory=dict)

    @property
    def anyone_alive(self) -> bool:
        """Whether there is a worker at all, silent or not."""
        return bool(self.workers or self.silent)


@dataclass(frozen=True, kw_only=True)
class HeldTask:
    """A task that a worker says it holds, ours or another; ``order_id`` is None where it is for no order.

    ``started_at`` is by the worker's own clock, and ``pid`` the process that runs it: both known of tasks that run;
    ``eta`` of those held for later.
    """

    task_id: str
    name: str
    order_id: int | None = None
    started_at: datetime | None = None
    eta: datetime | None = None
    pid: int | None = None


@dataclass(frozen=True, kw_only=True)
class WorkerDetails:
    """Everything that one living worker tells of itself; None is what it did not tell.

    ``concurrency`` is the number of tasks it can run at once, ``pool`` the module of its execution pool,
    ``processed`` the number of tasks since it started, also by the tasks' names, ``version`` that of the ``software``
    that it runs.
    ``soft_limit`` and ``hard_limit`` are those of the whole pool; a task may have its own. ``processes`` are the ids of
    the processes that run tasks, ``peak_memory`` is the most that its main process ever held, in bytes, and ``memory``
    what each process holds now, known of those on this machine.
    """

    name: str
    pid: int | None = None
    concurrency: int | None = None
    pool: str | None = None
    queues: tuple[str, ...] = ()
    registered: tuple[str, ...] = ()
    processed: int | None = None
    processed_by_task: Mapping[str, int] = field(default_factory=dict)
    uptime: timedelta | None = None
    prefetch_count: int | None = None
    software: str = "celery"
    version: str | None = None
    soft_limit: timedelta | None = None
    hard_limit: timedelta | None = None
    processes: tuple[int, ...] = ()
    peak_memory: int | None = None
    memory: Mapping[int, int] = field(default_factory=dict)
    active: tuple[HeldTask, ...] = ()
    reserved: tuple[HeldTask, ...] = ()
    scheduled: tuple[HeldTask, ...] = ()


@dataclass(frozen=True, kw_only=True)
class WorkerRoster:
    """What all living workers told of themselves; ``silent`` of them were asked and did not answer in time."""

    workers: tuple[WorkerDetails, ...] = ()
    silent: int = 0


def survey_of(roster: WorkerRoster, *, task_name: str) -> WorkerSurvey:
    """What the workers hold of this task, out of all that they told."""
    return WorkerSurvey(
        workers=tuple(
            Worker(
                name=worker.name,
                tasks=tuple(
                    LiveTask(
                        task_id=held.task_id,
                        name=held.name,
                        order_id=held.order_id,
                        state=state,
                        worker=worker.name,
                        eta=held.eta,
                    )
                    for state, tasks in (
                        (TaskState.RUNNING, worker.active),
                        (TaskState.RESERVED, worker.reserved),
                        (TaskState.SCHEDULED, worker.scheduled),
                    )
                    for held in tasks
                    if held.name == task_name
                ),
            )
            for worker in roster.workers
        ),
        silent=roster.silent,
    )


def describe_silence(seen: WorkerSurvey | WorkerRoster) -> str | None:
    """Say how many living workers did not answer; None if all did."""
    if not seen.silent:
        return None
    if not seen.workers:
        return (
            "the living worker did not answer" if seen.silent == 1 else f"{seen.silent} living workers did not answer"
        )
    return f"{seen.silent} of {seen.silent + len(seen.workers)} living workers did not answer"


def standstill(seen: WorkerSurvey, roster: WorkerRoster | None, *, queue: str) -> str | None:
    """Why nothing of a queue is going to be done, as far as workers can tell; None if something may be.

    ``roster`` may be older than ``seen``: of workers that have come or gone since it says nothing.
    """
    if not seen.anyone_alive:
        return "no worker is alive"
    if roster is None or seen.silent or {each.name for each in seen.workers} != {each.name for each in roster.workers}:
        return None
    return None if any(queue in each.queues for each in roster.workers) else f"no worker consumes {queue}"
