"""Workers and their replies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from sitegenctl.domain.queue.task import LiveTask


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One worker that responded; ``tasks`` are the tasks of ours that it holds, ``others`` all others that it runs.

    ``slots`` is how many tasks it can run at once, ``hard_limit`` its time limit; None where unknown. ``has_processes``
    is whether it runs each task in its own process, as a prefork pool does.
    """

    name: str
    tasks: tuple[LiveTask, ...] = ()
    others: tuple[LiveTask, ...] = ()
    slots: int | None = None
    hard_limit: timedelta | None = None
    has_processes: bool = False


@dataclass(frozen=True, kw_only=True)
class _Replies:
    """What is known of all workers after one request.

    ``silent`` workers were asked and did not respond in time; nothing follows from their silence. ``consumers`` is the
    number of clients that wait for messages in the broker's database, None where it was not or could not be read.
    ``ever_consumed`` is False only where nothing in the broker shows that a worker ever consumed from it. ``skipped``
    counts malformed values by what was wrong. ``asked_by`` is how workers are asked, None where they leave records
    instead. ``may_run`` is whether a task that no worker claims may be running.
    """

    silent: int = 0
    consumers: int | None = None
    ever_consumed: bool = True
    skipped: Mapping[str, int] = field(default_factory=dict)
    asked_by: str | None = "remote control"
    may_run: bool = False


@dataclass(frozen=True, kw_only=True)
class WorkerSurvey(_Replies):
    """The tasks of all workers."""

    workers: tuple[Worker, ...] = ()

    @property
    def anyone_alive(self) -> bool:
        """Whether there is any worker, silent or not."""
        return bool(self.workers or self.silent)


@dataclass(frozen=True, kw_only=True)
class WorkerDetails:
    """Everything that one worker reports about itself; None is unknown.

    ``concurrency`` is the number of tasks it can run at once, ``pool`` the module of its execution pool, ``processed``
    the number of tasks since it started (also by task name), ``version`` that of its ``software``. ``soft_limit`` and
    ``hard_limit`` are those of the pool; a task may have its own. ``processes`` are the ids of the processes that run
    tasks. ``peak_memory`` is the peak of its main process in bytes, ``memory`` the current use of each process on this
    machine. ``parts`` are tasks of ours carried by others that it holds.
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
    active: tuple[LiveTask, ...] = ()
    reserved: tuple[LiveTask, ...] = ()
    scheduled: tuple[LiveTask, ...] = ()
    parts: tuple[LiveTask, ...] = ()

    @property
    def held(self) -> tuple[LiveTask, ...]:
        """Every task that it holds."""
        return (*self.active, *self.reserved, *self.scheduled)


@dataclass(frozen=True, kw_only=True)
class WorkerRoster(_Replies):
    """The details of the workers that responded."""

    workers: tuple[WorkerDetails, ...] = ()


def survey_of(roster: WorkerRoster, *, task_name: str) -> WorkerSurvey:
    """The survey of one task name in a roster."""
    workers = tuple(
        Worker(
            name=worker.name,
            tasks=(*(task for task in worker.held if task.name == task_name), *worker.parts),
            others=tuple(task for task in worker.held if task.name != task_name),
            slots=worker.concurrency,
            hard_limit=worker.hard_limit,
            has_processes="prefork" in (worker.pool or ""),
        )
        for worker in roster.workers
    )
    return WorkerSurvey(**{**vars(roster), "workers": workers})


def describe_silence(replies: WorkerSurvey | WorkerRoster) -> str | None:
    """Describe how many living workers did not respond; None if all did."""
    silent, responded = replies.silent, len(replies.workers)
    if not silent:
        return None
    if not responded:
        return "the living worker did not respond" if silent == 1 else f"{silent} living workers did not respond"
    return f"{silent} of {silent + responded} living workers did not respond"


def describe_no_worker(replies: WorkerSurvey | WorkerRoster) -> str:
    """Describe what follows where no worker responded.

    One may be working all the same: remote control may be off or cut off, and a worker that shuts down does not
    respond.
    """
    if replies.consumers == 0 and not replies.may_run:
        return "no worker is alive"
    return f"no worker responds to {replies.asked_by}" if replies.asked_by else "no worker responds"


def standstill(survey: WorkerSurvey, roster: WorkerRoster | None, *, queue: str) -> str | None:
    """Why no task of a queue will run, judging by its workers; None if one may.

    ``roster`` may be older than ``survey``: it counts only where both have the same workers.
    """
    if not survey.anyone_alive:
        return describe_no_worker(survey)
    if roster is None or survey.silent:
        return None
    if {worker.name for worker in survey.workers} != {worker.name for worker in roster.workers}:
        return None
    return None if any(queue in worker.queues for worker in roster.workers) else f"no worker consumes {queue}"
