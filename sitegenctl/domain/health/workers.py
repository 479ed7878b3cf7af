"""The workers: what they reply, and the checks of it.

Nothing follows from the silence of a worker except that it does not respond: it is never judged by what it did not
reply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.diagnosis.liveness import StaleClaim
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.health.check import (
    Finding,
    Missing,
    check,
    counted,
    failed,
    listed,
    ok,
    seconds,
    unchecked,
    warning,
)
from sitegenctl.domain.health.messages import MessageFacts, skipped_lines
from sitegenctl.domain.health.redis import RedisFacts
from sitegenctl.domain.health.system import System
from sitegenctl.domain.queue.defaults import HARD_LIMIT, SOFT_LIMIT
from sitegenctl.domain.queue.worker import before_names, describe_shared

_SOFT, _HARD = timedelta(seconds=SOFT_LIMIT), timedelta(seconds=HARD_LIMIT)

#: Kombu's default.
_DEFAULT_VISIBILITY = timedelta(hours=1)

_MAX_STALE = 3

_NO_WORKER = unchecked("no worker responded")


@dataclass(frozen=True, kw_only=True)
class WorkerFacts:
    """The reply of one worker."""

    name: str
    queues: tuple[str, ...]
    tasks: tuple[str, ...] | None  # None for one that imports a task only when it runs it
    hard_limit: timedelta | None = None  # of the task; None: no limit
    soft_limit: timedelta | None = None  # of the task; None: no limit
    visibility_timeout: timedelta | None = None  # None: kombu's default
    uptime: timedelta | None = None
    beat_runs: int = 0  # of beat's task since the worker started
    finished: int = 0  # all tasks that it took
    busy: int = 0  # tasks that it holds now


@dataclass(frozen=True, kw_only=True)
class WorkersFacts:
    """The workers that replied."""

    workers: tuple[WorkerFacts, ...] = ()
    silent: int = 0  # connected, and did not reply within `patience`
    silent_names: tuple[str, ...] = ()  # of those of them whose name is known, or more names that they may have
    shared_names: tuple[str, ...] = ()  # that several workers use
    patience: timedelta = timedelta(0)
    suspended: bool = False  # no worker takes tasks, on an operator's command
    skipped: Mapping[str, int] = field(default_factory=dict)  # values in the replies that did not fit, by problem

    def consumers(self, system: System) -> list[WorkerFacts]:
        """The workers that consume our queue."""
        return [worker for worker in self.workers if system.queue in worker.queues]

    def runners(self, system: System) -> list[WorkerFacts]:
        """The workers that run our task: the consumers or, where there are none, those that could."""
        return self.consumers(system) or [worker for worker in self.workers if system.task in (worker.tasks or ())]


@dataclass(frozen=True)
class StaleClaims:
    """Tasks that workers list as running and that have ended."""

    claims: Sequence[StaleClaim]


@check("worker", Source.WORKERS, quick=True)
def worker(
    redis: RedisFacts, system: System, workers: WorkersFacts | Missing | None = None, stale: StaleClaims | None = None
) -> Finding:
    """Fails if no worker responds on this broker and database number; one on another number is shown.

    "No worker is alive" means that no client waits for messages either. Warns of stale tasks, which have ended and are
    still listed as running, and of replies that can't be read.
    """
    if redis.denied is not None and not isinstance(workers, WorkersFacts):
        return failed(redis.denied, remedy=redis.remedy or "correct its ACL in Redis")
    if isinstance(workers, Missing):
        return workers.finding
    if workers is None:  # a quick check-up asks no worker, but Redis who is connected
        if redis.workers is None:
            return unchecked("Redis does not report how many listen for remote control (PUBLISH is refused)")
        connected = f"{counted(redis.workers, 'worker')} connected to database {redis.database}"
        return ok(connected) if redis.workers else _no_worker(redis, system)
    if workers.silent:
        total = workers.silent + len(workers.workers)
        judge = warning if workers.workers else failed
        return judge(
            f"{workers.silent} of {counted(total, 'connected worker')} did not respond within"
            f" {seconds(workers.patience)}{before_names(workers.silent_names, workers.silent)}"
            f"{listed(workers.silent_names)}",
            *map(describe_shared, workers.shared_names),
            system.texts.silence,
            remedy=replace(
                system.commands.restart_worker, advice="inspect queue shows what it may be running; only then"
            ),
        )
    if not workers.workers:
        return _no_worker(redis, system)
    names = listed([each.name for each in workers.workers], limit=3)
    answer = f"{counted(len(workers.workers), 'worker')}: {names}"
    skipped = skipped_lines(workers.skipped)
    if stale is not None and stale.claims:
        lines = []
        for claim in stale.claims[:_MAX_STALE]:
            order = f" of order {claim.order_id}" if claim.order_id is not None else ""
            lines.append(f"{claim.worker} lists task {claim.task_id}{order} as running: {claim.reason}")
        if more := len(stale.claims) - len(lines):
            lines.append(f"{counted(more, 'more stale task')}; inspect workers lists them")
        return warning(answer, *lines, *skipped, remedy=system.commands.restart_worker)
    if workers.shared_names:
        rename = replace(system.commands.restart_worker, advice="give each worker a node name of its own (-n), then")
        return warning(answer, *map(describe_shared, workers.shared_names), *skipped, remedy=rename)
    if skipped:
        remedy = "find the program that sends such replies on this Redis, and give it a database of its own"
        return warning(answer, *skipped, remedy=remedy)
    return ok(answer)


def _no_worker(redis: RedisFacts, system: System) -> Finding:
    commands = system.commands
    connections = redis.connections or {}
    others = [number for number, each in connections.items() if number != redis.database and each.may_be_workers]
    if others:
        return failed(
            f"no worker on database {redis.database}, but what looks like one on database {listed(others)} of the"
            " same Redis",
            # They may be another system's: systems that share a Redis have a database each.
            remedy=replace(
                commands.start_worker,
                advice=f"if those are ours, let {commands.redis_url} end in /{others[0]} here too; otherwise",
            ),
        )
    if redis.unacked:
        # A worker that is shutting down does not respond, and works on.
        return failed(
            f"no worker responds, but {counted(redis.unacked, 'task is', 'tasks are')} delivered: a worker that is"
            " shutting down, paused or cut off may be running them",
            remedy=replace(commands.start_worker, advice="inspect queue shows these tasks; to start another worker"),
        )
    own = connections.get(redis.database)
    if redis.connections is not None and (own is None or not own.taking):
        return failed("no worker is alive on this broker: tasks wait until one is", remedy=commands.start_worker)
    return failed(
        "no worker responds to remote control",
        f"{counted(own.taking, 'client')} on this broker may be one" if own else "the clients of Redis can't be listed",
        remedy=replace(commands.start_worker, advice="enable remote control (worker_enable_remote_control), or"),
    )


@check("worker queue", Source.WORKERS)
def worker_queue(workers: WorkersFacts, system: System) -> Finding:
    """Fails if no worker consumes the queue; shows what they consume instead.

    On RQ also if the workers are suspended (`queue pause`, `rq suspend`).
    """
    if not workers.workers:
        return _NO_WORKER
    if workers.suspended:
        return failed("the workers are suspended, and take no tasks", remedy=Remedy.run(Command.QUEUE_RESUME))
    if consumers := workers.consumers(system):
        return ok(f"{counted(len(consumers), 'worker')} on {system.queue}")
    others = sorted({queue for each in workers.workers for queue in each.queues})
    return failed(
        f"no worker consumes {system.queue}",
        f"they consume {listed(others)} instead" if others else "they consume no queue at all",
        remedy=make_consume(workers, system),
    )


def make_consume(workers: WorkersFacts, system: System) -> Remedy:
    """What makes a worker consume our queue."""
    option = system.texts.consuming.format(queue=system.queue)
    if workers.suspended:
        return Remedy.run(Command.QUEUE_RESUME)
    if any(each.tasks is None for each in workers.workers):
        return replace(system.commands.start_worker, note=f"with {option}")
    if all(system.task in (each.tasks or ()) for each in workers.workers):
        return Remedy.run(Command.QUEUE_RESUME, note=f"and start the worker with {option}")
    # A worker that starts to consume drops the messages whose task it lacks.
    return replace(system.commands.start_worker, note=f"with {option}; not every worker that runs has the task")


@check("worker task", Source.WORKERS)
def worker_task(workers: WorkersFacts, system: System, messages: MessageFacts | None = None) -> Finding:
    """Fails if a worker of the queue has not registered the task; shows what it has.

    On RQ: if a job failed within the last hour because its function could not be imported.
    """
    if not workers.workers:
        return _NO_WORKER
    function = system.task.rpartition(".")[2]
    if any(each.tasks is None for each in workers.workers):
        # They import a task only when they run it.
        if messages is None:
            return unchecked("the latest failures are not known")
        if not messages.unimportable:
            return ok(f"{function} is imported when it runs; no recent failure to import it")
        return failed(
            f"workers can't import {system.task}",
            *(f"{counted(number, 'recent failure')}: {reason}" for reason, number in messages.unimportable.items()),
            remedy="start the worker where that module is, or set SITEGENCTL_TASK to the path that it has there",
        )
    # A worker of another queue needs no task of ours.
    lacking = [each for each in workers.consumers(system) or workers.workers if system.task not in (each.tasks or ())]
    if not lacking:
        return ok(f"{function} is registered")
    others = sorted({task for each in lacking for task in each.tasks or ()})
    return failed(
        f"{listed([each.name for each in lacking])} does not have {system.task}, and drops such messages",
        f"registered instead: {listed(others)}" if others else "no task is registered at all",
        remedy="start the worker with the app that has the task, or set SITEGENCTL_TASK to the name that it has there",
    )


@check("time limits", Source.WORKERS)
def time_limits(workers: WorkersFacts, system: System, messages: MessageFacts | None = None) -> Finding:
    """Fails if the workers of the task have no hard limit; warns if the limits are not 540 and 600 s.

    On RQ: fails if a job has no timeout; warns if it is not 600 s, as RQ's default of 180 s.
    """
    if not workers.workers:
        return _NO_WORKER
    if messages is not None and (of_jobs := messages.limits) is not None:
        # Each job has its own.
        lines = [f"{counted(number, 'task')} with {seconds(limit)}" for limit, number in of_jobs.items()]
        if not lines:
            return ok("each task has its own limit, and there is no task now")
        if set(of_jobs) == {_HARD}:
            return ok(*lines)
        if None in of_jobs:
            return failed(*lines, "a generation that hangs never ends", remedy=system.texts.limits)
        return warning(*lines, f"the system has {seconds(_HARD)}", remedy=system.texts.limits)
    limits = {(each.soft_limit, each.hard_limit) for each in workers.runners(system)}
    if not limits:
        return unchecked("no worker runs our task: see worker queue")
    text = listed(sorted(f"{seconds(soft)} soft, {seconds(hard)} hard" for soft, hard in limits))
    if limits == {(_SOFT, _HARD)}:
        return ok(text)
    if any(hard is None for _, hard in limits):
        return failed(f"{text}: a generation that hangs never ends", remedy=system.texts.limits)
    return warning(f"{text}; the system has {seconds(_SOFT)} and {seconds(_HARD)}", remedy=system.texts.limits)


@check("scheduler", Source.BROKER, backends={"rq"})
def scheduler(messages: MessageFacts, system: System) -> Finding:
    """Fails if jobs are due later, as retries are, and no worker runs `--with-scheduler`; warns without such jobs."""
    if messages.has_scheduler:
        return ok("a worker enqueues jobs when they are due")
    remedy = replace(system.commands.start_worker, note="with --with-scheduler, which it lacks")
    if messages.held:
        tasks = counted(messages.held, "task is", "tasks are")
        return failed(f"{tasks} due later, and no worker enqueues them then", remedy=remedy)
    return warning(
        "no worker enqueues jobs when they are due: retries of failed tasks would wait forever",
        remedy=remedy,
    )


@check("visibility timeout", Source.WORKERS, backends={"celery"})
def visibility(workers: WorkersFacts, system: System, messages: MessageFacts | None = None) -> Finding:
    """Fails if a worker's timeout is too short, so that a task may run twice.

    It must exceed the hard limit and the longest time from a delivery to its ETA. A worker of another queue counts:
    it restores our messages, too.
    """
    # Every worker that consumes restores what is in `unacked`, ours too, by its own timeout. Source:
    # `QoS.restore_visible` in kombu/transport/redis.py.
    if not workers.workers:
        return _NO_WORKER
    timeouts = {each.name: each.visibility_timeout or _DEFAULT_VISIBILITY for each in workers.workers if each.queues}
    timeout = min(timeouts.values(), default=_DEFAULT_VISIBILITY)
    shortest = [name for name, each in timeouts.items() if each == timeout]
    at = f" at {listed(shortest)}" if len(shortest) < len(timeouts) else ""
    limit = max((each.hard_limit for each in workers.runners(system) if each.hard_limit), default=_HARD)
    hold = messages.longest_hold if messages else None
    for what, span in (("the hard limit", limit), ("the longest wait for an ETA", hold)):
        if span is not None and timeout <= span:
            enough = -(-int(max(span * 2, _DEFAULT_VISIBILITY).total_seconds()) // 600) * 600
            return failed(
                f"{seconds(timeout)}{at} is not longer than {what} of {seconds(span)}: a task may run twice",
                remedy=f"raise visibility_timeout in broker_transport_options to {enough}, and restart the worker",
            )
    evidence = f"{seconds(timeout)}, longer than the hard limit of {seconds(limit)}"
    if messages is None:
        return unchecked(evidence, "the longest wait for an ETA is not known")
    return ok(evidence if hold is None else f"{evidence} and the longest wait for an ETA of {describe_age(hold)}")


@dataclass(frozen=True, kw_only=True)
class QueueHead:
    """The queue's depth, and the messages that are next."""

    depth: int
    head: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class QueueActivity:
    """Queue and workers read twice, or the same reading twice where one was enough."""

    first: QueueHead
    second: QueueHead
    before: WorkersFacts
    after: WorkersFacts
    waited: timedelta = timedelta(0)  # between the readings
    beat_came: bool = False  # whether there were more of beat's messages the second time


@check("queue progress", Source.BROKER)
def progress(activity: QueueActivity, system: System) -> Finding:
    """Fails if messages wait and no worker takes them.

    Either none consumes the queue, or its workers are idle and take none for `--patience` (3s).
    """
    first, second = activity.first, activity.second
    before, after = activity.before.consumers(system), activity.after.consumers(system)
    if not first.depth or not second.depth:
        return ok("no message waits in the queue")
    waiting = counted(second.depth, "message waits", "messages wait")
    if busy := sum(worker.busy for worker in after) or sum(worker.busy for worker in before):
        return ok(f"{waiting}, {counted(busy, 'task')} running or reserved")
    has_moved = first.head != second.head or second.depth < first.depth
    if has_moved or sum(worker.finished for worker in after) != sum(worker.finished for worker in before):
        return ok(f"{waiting}, and the queue moves")
    if not activity.after.workers or activity.after.silent:
        return unchecked(f"{waiting}; it is not known whether a worker takes them: see worker")
    if not after:
        return failed(f"{waiting}, and no worker consumes {system.queue}", remedy=make_consume(activity.after, system))
    return failed(
        f"{waiting}, and {counted(len(after), 'idle worker')} took none for {seconds(activity.waited)}",
        remedy=system.commands.restart_worker,
    )
