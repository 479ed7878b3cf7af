"""Workers and their replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sitegenctl.domain.queue.task import LiveTask


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One worker that responded."""

    name: str
    tasks: tuple[LiveTask, ...] = ()  # of ours that it holds
    others: tuple[LiveTask, ...] = ()  # that it runs
    slots: int | None = None  # tasks that it can run at once
    hard_limit: timedelta | None = None
    has_processes: bool = False  # it runs each task in its own process, as a prefork pool does


@dataclass(frozen=True, kw_only=True)
class _Replies:
    """What is known of all workers after one request."""

    silent: int = 0  # asked, and did not respond in time; nothing follows from that
    silent_names: tuple[str, ...] = ()  # of those of them whose name is known, or more names that they may have
    shared_names: tuple[str, ...] = ()  # node names that several workers use
    consumers: int | None = None  # clients that wait for messages in the broker's database
    ever_consumed: bool = True  # False only where nothing shows that one did
    taken_at: datetime | None = None  # by the broker's clock, where it is known
    skipped: Mapping[str, int] = field(default_factory=dict)  # malformed values, by what was wrong
    asked_by: str | None = "remote control"  # how workers are asked, None where they leave records
    may_run: bool = False  # whether a task that no worker claims may be running


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
    """Everything that one worker reports about itself; None is unknown."""

    name: str
    pid: int | None = None
    concurrency: int | None = None  # tasks that it can run at once
    pool: str | None = None  # the module of its execution pool
    queues: tuple[str, ...] = ()
    registered: tuple[str, ...] = ()
    processed: int | None = None  # tasks since it started
    processed_by_task: Mapping[str, int] = field(default_factory=dict)
    uptime: timedelta | None = None
    prefetch_count: int | None = None
    software: str = "celery"
    version: str | None = None  # of its `software`
    soft_limit: timedelta | None = None  # of the pool; a task may have its own
    hard_limit: timedelta | None = None  # as `soft_limit`
    processes: tuple[int, ...] = ()  # that run tasks
    peak_memory: int | None = None  # of its main process, in bytes
    memory: Mapping[int, int] = field(default_factory=dict)  # now, by process on this machine
    active: tuple[LiveTask, ...] = ()
    reserved: tuple[LiveTask, ...] = ()
    scheduled: tuple[LiveTask, ...] = ()
    parts: tuple[LiveTask, ...] = ()  # tasks of ours carried by others that it holds

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
    names = before_names(replies.silent_names, silent) + ", ".join(replies.silent_names)
    if not responded:
        subject = "the living worker" if silent == 1 else f"{silent} living workers"
        return f"{subject} did not respond{names}"
    return f"{silent} of {silent + responded} living workers did not respond{names}"


def before_names(names: Sequence[str], silent: int) -> str:
    """What stands before the names of ``silent`` workers: more names than workers are those that they may have."""
    if not names:
        return ""
    return ": " if len(names) <= silent else f": {'one' if silent == 1 else silent} of "


def describe_shared(name: str) -> str:
    """Describe that several workers use one node name."""
    return f"several workers have the node name {name}: start each with a name of its own (-n)"


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
