"""Workers, and what they answered when asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sitegenctl.domain.queue.task import LiveTask, TaskState


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One worker that responded; ``tasks`` are those of ours that it says it holds, ``others`` all else that it runs.

    ``slots`` is how many tasks it can run at once, ``hard_limit`` after what time it ends a task; None where unknown.
    ``has_processes`` is whether it runs each task in a process of its own, as a prefork pool does.
    """

    name: str
    tasks: tuple[LiveTask, ...] = ()
    others: tuple[LiveTask, ...] = ()
    slots: int | None = None
    hard_limit: timedelta | None = None
    has_processes: bool = False


@dataclass(frozen=True, kw_only=True)
class WorkerSurvey:
    """The answers to one question to all workers.

    ``silent`` is the number of workers that were asked and did not respond in time: they are there, so nothing may be
    concluded from their silence. ``consumers`` is the number of clients that wait for messages of this broker's
    database, None where that could not be read or was not needed. ``ever_consumed`` is False only where nothing in the
    broker shows that a worker ever consumed from it. ``skipped`` counts values that did not fit, by what was wrong.
    ``asked_by`` is how workers are asked, None where they are not asked but leave records. ``may_run`` is whether a
    task may be running although no worker claims it.
    """

    workers: tuple[Worker, ...] = ()
    silent: int = 0
    consumers: int | None = None
    ever_consumed: bool = True
    skipped: Mapping[str, int] = field(default_factory=dict)
    asked_by: str | None = "remote control"
    may_run: bool = False

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
    what each process holds now, known of those on this machine. ``parts`` are tasks of ours that the others which it
    holds carry.
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
    parts: tuple[LiveTask, ...] = ()

    @property
    def held(self) -> Iterator[LiveTask]:
        """Every task that it says it holds."""
        states = (
            (TaskState.RUNNING, self.active),
            (TaskState.RESERVED, self.reserved),
            (TaskState.SCHEDULED, self.scheduled),
        )
        for state, tasks in states:
            for task in tasks:
                yield LiveTask(
                    task_id=task.task_id,
                    name=task.name,
                    order_id=task.order_id,
                    state=state,
                    worker=self.name,
                    eta=task.eta,
                    started_at=task.started_at,
                    pid=task.pid,
                )


@dataclass(frozen=True, kw_only=True)
class WorkerRoster:
    """What the workers that responded report of themselves; the other fields are as in ``WorkerSurvey``."""

    workers: tuple[WorkerDetails, ...] = ()
    silent: int = 0
    consumers: int | None = None
    ever_consumed: bool = True
    skipped: Mapping[str, int] = field(default_factory=dict)
    asked_by: str | None = "remote control"
    may_run: bool = False


def survey_of(roster: WorkerRoster, *, task_name: str) -> WorkerSurvey:
    """What the workers hold of this task, out of all that they told."""
    return WorkerSurvey(
        workers=tuple(
            Worker(
                name=worker.name,
                tasks=(*(task for task in worker.held if task.name == task_name), *worker.parts),
                others=tuple(task for task in worker.held if task.name != task_name),
                slots=worker.concurrency,
                hard_limit=worker.hard_limit,
                has_processes="prefork" in (worker.pool or ""),
            )
            for worker in roster.workers
        ),
        silent=roster.silent,
        consumers=roster.consumers,
        ever_consumed=roster.ever_consumed,
        skipped=roster.skipped,
        asked_by=roster.asked_by,
        may_run=roster.may_run,
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


def describe_no_worker(seen: WorkerSurvey | WorkerRoster) -> str:
    """What it means that no worker responded.

    That none responds does not mean that none works: remote control may be off, or cut off, and a worker that shuts
    down no longer responds.
    """
    if seen.consumers == 0 and not seen.may_run:
        return "no worker is alive"
    return f"no worker responds to {seen.asked_by}" if seen.asked_by else "no worker responds"


def standstill(seen: WorkerSurvey, roster: WorkerRoster | None, *, queue: str) -> str | None:
    """Why nothing of a queue is going to be done, as far as workers can tell; None if something may be.

    ``roster`` may be older than ``seen``: of workers that have come or gone since it says nothing.
    """
    if not seen.anyone_alive:
        return describe_no_worker(seen)
    if roster is None or seen.silent or {each.name for each in seen.workers} != {each.name for each in roster.workers}:
        return None
    return None if any(queue in each.queues for each in roster.workers) else f"no worker consumes {queue}"
