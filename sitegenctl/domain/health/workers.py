"""Judging the workers and the queue, each from what was measured of it; who feeds it is in ``health_orders.py``.

One small function for each check. A worker that did not answer is never judged: nothing follows from silence
but that it is silent.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.diagnosis.liveness import StaleClaim
from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.health.backend_texts import CELERY_TERMS, BackendTexts
from sitegenctl.domain.health.check import (
    Check,
    CheckName,
    DeploymentCommands,
    WorkerCommands,
    counted,
    failed,
    listed,
    ok,
    unchecked,
    warning,
)
from sitegenctl.domain.health.facts import (
    Leftovers,
    MessageFacts,
    QueueLook,
    RedisFacts,
    WorkerFacts,
    WorkersFacts,
)
from sitegenctl.domain.queue.defaults import HARD_LIMIT, SOFT_LIMIT

_SOFT, _HARD = timedelta(seconds=SOFT_LIMIT), timedelta(seconds=HARD_LIMIT)

#: What holds where nobody sets one: kombu's own default.
DEFAULT_VISIBILITY = timedelta(hours=1)

#: So many bindings of reply lists slow every remote control down: each answer is matched against all of them.
_BINDINGS = 100

# Stale claims that are listed; the others are counted.
_STALE_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Ours:
    """Which queue and task are ours: what other workers of the same broker do is no concern of these checks."""

    queue: str
    task: str

    def consumers(self, workers: Sequence[WorkerFacts]) -> list[WorkerFacts]:
        """Those that consume our queue."""
        return [worker for worker in workers if self.queue in worker.queues]

    def runners(self, workers: Sequence[WorkerFacts]) -> list[WorkerFacts]:
        """Those that run our task: the consumers or, where there are none, those that could."""
        return self.consumers(workers) or [worker for worker in workers if self.task in (worker.tasks or ())]


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Queue and workers looked at twice, ``waited`` apart; the same look twice where once was enough.

    ``beat_came`` is whether there were more of beat's messages the second time.
    """

    first: QueueLook
    second: QueueLook
    before: WorkersFacts
    after: WorkersFacts
    waited: timedelta = timedelta(0)
    beat_came: bool = False


def judge_connected(facts: RedisFacts, starts: WorkerCommands, access: DeploymentCommands) -> Check:
    """A worker is connected to this broker and database number, by Redis' own word; it was not asked itself."""
    if facts.denied is not None:
        return failed(CheckName.WORKER, Source.WORKERS, facts.denied, remedy=facts.remedy or "correct its ACL in Redis")
    if facts.workers is None:
        return unchecked(CheckName.WORKER, Source.BROKER, "Redis does not tell who listens (PUBLISH is refused)")
    if facts.workers:
        connected = f"{counted(facts.workers, 'worker')} connected to database {facts.database}"
        return ok(CheckName.WORKER, Source.BROKER, connected)
    return _no_worker(facts, starts, access)


def judge_alive(
    facts: WorkersFacts,
    redis: RedisFacts,
    starts: WorkerCommands,
    access: DeploymentCommands,
    terms: BackendTexts = CELERY_TERMS,
    *,
    stale: Sequence[StaleClaim] = (),
) -> Check:
    """A worker responds on this broker and database number; ``stale`` claims of workers are a warning."""
    if facts.workers and not facts.silent:
        names = listed([worker.name for worker in facts.workers], limit=3)
        answer = f"{counted(len(facts.workers), 'worker')}: {names}"
        if stale:
            lines = [answer, *_stale(stale), *_skipped(facts.skipped)]
            return warning(CheckName.WORKER, Source.WORKERS, *lines, remedy=starts.restart_worker)
        if facts.skipped:
            remedy = "find the program that sends such replies on this Redis, and give it a database of its own"
            return warning(CheckName.WORKER, Source.WORKERS, answer, *_skipped(facts.skipped), remedy=remedy)
        return ok(CheckName.WORKER, Source.WORKERS, answer)
    if facts.silent:
        total = facts.silent + len(facts.workers)
        silent = f"{facts.silent} of {counted(total, 'connected worker')}"
        judge = warning if facts.workers else failed
        return judge(
            CheckName.WORKER,
            Source.WORKERS,
            f"{silent} did not answer within {seconds(facts.patience)}",
            terms.silence,
            remedy=Remedy.run(
                Command.INSPECT_QUEUE, note=f"shows what it may be running; only then: {starts.restart_worker}"
            ),
        )
    return _no_worker(redis, starts, access)


def _stale(claims: Sequence[StaleClaim]) -> list[str]:
    """A line for each of the first stale claims, and how many more there are."""
    lines = []
    for claim in claims[:_STALE_SHOWN]:
        of = f" of order {claim.order_id}" if claim.order_id is not None else ""
        lines.append(f"{claim.worker} lists task {claim.task_id}{of} as running: {claim.reason}")
    more = len(claims) - len(lines)
    return [*lines, f"{counted(more, 'more stale task')}; inspect workers lists them"] if more else lines


def _skipped(skipped: Mapping[str, int]) -> list[str]:
    """A line for each kind of value that did not fit and was left out."""
    return [f"skipped {number}: {what}" for what, number in sorted(skipped.items())]


def _no_worker(redis: RedisFacts, starts: WorkerCommands, access: DeploymentCommands) -> Check:
    elsewhere = [
        number
        for number, connections in (redis.connections or {}).items()
        if number != redis.database and connections.may_be_workers
    ]
    if elsewhere:
        return failed(
            CheckName.WORKER,
            Source.WORKERS,
            f"no worker on database {redis.database}, but what looks like one on database {listed(elsewhere)} of the"
            " same Redis",
            # They may be another system's: who shares a Redis takes a number each.
            remedy=f"if those are ours, end {access.redis_url} in /{elsewhere[0]} here too; else {starts.worker}",
        )
    if redis.unacked:
        # A worker that is shutting down listens to nobody, and works on.
        return failed(
            CheckName.WORKER,
            Source.WORKERS,
            f"no worker responds, but {counted(redis.unacked, 'task is', 'tasks are')} delivered: a worker that is"
            " shutting down, paused or cut off may be running them",
            remedy=Remedy.run(Command.INSPECT_QUEUE, note=f"shows them; to start another worker: {starts.worker}"),
        )
    here = (redis.connections or {}).get(redis.database)
    if redis.connections is not None and (here is None or not here.taking):
        alive = "no worker is alive on this broker: tasks wait until one is"
        return failed(CheckName.WORKER, Source.WORKERS, alive, remedy=starts.worker)
    waiting = f"{counted(here.taking, 'client')} on this broker may be one" if here is not None else None
    return failed(
        CheckName.WORKER,
        Source.WORKERS,
        "no worker responds to remote control",
        *([waiting] if waiting is not None else ["the clients of Redis could not be listed"]),
        remedy=f"switch remote control on (worker_enable_remote_control), or: {starts.worker}",
    )


def judge_queue(facts: WorkersFacts, ours: Ours, starts: WorkerCommands, terms: BackendTexts = CELERY_TERMS) -> Check:
    """A worker consumes our queue."""
    workers = facts.workers
    consumers = ours.consumers(workers)
    if facts.suspended:
        return failed(
            CheckName.WORKER_QUEUE,
            Source.WORKERS,
            "the workers are suspended, and take nothing",
            remedy=Remedy.run(Command.QUEUE_RESUME),
        )
    if consumers:
        return ok(CheckName.WORKER_QUEUE, Source.WORKERS, f"{counted(len(consumers), 'worker')} on {ours.queue}")
    instead = sorted({name for worker in workers for name in worker.queues})
    return failed(
        CheckName.WORKER_QUEUE,
        Source.WORKERS,
        f"nobody consumes {ours.queue}",
        f"they consume {listed(instead)} instead" if instead else "they consume no queue at all",
        remedy=_consume(facts, ours, starts, terms),
    )


def _consume(facts: WorkersFacts, ours: Ours, starts: WorkerCommands, terms: BackendTexts) -> Hint:
    option = terms.consuming.format(queue=ours.queue)
    if facts.suspended:
        return Remedy.run(Command.QUEUE_RESUME)
    if any(worker.tasks is None for worker in facts.workers):
        return f"{starts.worker}   (with {option})"
    if all(ours.task in (worker.tasks or ()) for worker in facts.workers):
        return Remedy.run(Command.QUEUE_RESUME, note=f"and start the worker with {option}")
    # A worker that is told to consume throws away what it has no task for.
    return f"{starts.worker}   (with {option}; not every worker that runs has the task)"


def judge_task(workers: Sequence[WorkerFacts], ours: Ours, messages: MessageFacts | None = None) -> Check:
    """Whoever consumes our queue has our task registered: a worker without it throws such messages away."""
    if any(worker.tasks is None for worker in workers):
        return _judge_import(ours, messages)
    lacking = [worker for worker in ours.consumers(workers) or workers if ours.task not in (worker.tasks or ())]
    if not lacking:
        return ok(CheckName.WORKER_TASK, Source.WORKERS, f"{ours.task.rpartition('.')[2]} is registered")
    instead = sorted({name for worker in lacking for name in worker.tasks or ()})
    return failed(
        CheckName.WORKER_TASK,
        Source.WORKERS,
        f"{listed([worker.name for worker in lacking])} does not have {ours.task}, and drops such messages",
        f"registered instead: {listed(instead)}" if instead else "no task is registered at all",
        remedy="start the worker with the app that has the task, or set SITEGENCTL_TASK to the name it has there",
    )


def _judge_import(ours: Ours, messages: MessageFacts | None) -> Check:
    """Workers that import what they run when they run it can do so, as far as they have tried."""
    function = ours.task.rpartition(".")[2]
    if messages is None:
        return unchecked(CheckName.WORKER_TASK, Source.BROKER, "what failed lately is not known")
    if not messages.unimportable:
        return ok(
            CheckName.WORKER_TASK,
            Source.BROKER,
            f"{function} is imported when it runs; nothing failed lately for want of it",
        )
    return failed(
        CheckName.WORKER_TASK,
        Source.BROKER,
        f"workers can't import {ours.task}",
        *(f"{counted(number, 'failure')} lately: {reason}" for reason, number in messages.unimportable.items()),
        remedy="start the worker where that module is, or set SITEGENCTL_TASK to the path that it has there",
    )


def judge_limits(
    workers: Sequence[WorkerFacts],
    ours: Ours,
    messages: MessageFacts | None = None,
    terms: BackendTexts = CELERY_TERMS,
) -> Check:
    """Generations end at the system's limits: one that hangs must not hold its process for ever."""
    if messages is not None and messages.limits is not None:
        return _judge_own_limits(messages.limits, terms)
    limits = {(worker.soft_limit, worker.hard_limit) for worker in ours.runners(workers)}
    if not limits:
        return unchecked(CheckName.LIMITS, Source.WORKERS, "no worker runs our task: see worker queue")
    told = listed(sorted(f"{seconds(soft)} soft, {seconds(hard)} hard" for soft, hard in limits))
    if limits == {(_SOFT, _HARD)}:
        return ok(CheckName.LIMITS, Source.WORKERS, told)
    remedy = terms.limits
    if any(hard is None for _, hard in limits):
        return failed(
            CheckName.LIMITS,
            Source.WORKERS,
            f"{told}: a generation that hangs never ends",
            remedy=remedy,
        )
    return warning(
        CheckName.LIMITS,
        Source.WORKERS,
        f"{told}; the system has {seconds(_SOFT)} and {seconds(_HARD)}",
        remedy=remedy,
    )


def _judge_own_limits(limits: Mapping[timedelta | None, int], terms: BackendTexts) -> Check:
    """The same where each message has a limit of its own."""
    if not limits:
        return ok(CheckName.LIMITS, Source.BROKER, "each task has its own, and none is on its way")
    told = [f"{counted(number, 'task')} with {seconds(limit)}" for limit, number in limits.items()]
    if set(limits) == {_HARD}:
        return ok(CheckName.LIMITS, Source.BROKER, *told)
    if None in limits:
        return failed(CheckName.LIMITS, Source.BROKER, *told, "a generation that hangs never ends", remedy=terms.limits)
    return warning(CheckName.LIMITS, Source.BROKER, *told, f"the system has {seconds(_HARD)}", remedy=terms.limits)


def judge_scheduler(messages: MessageFacts, starts: WorkerCommands) -> Check:
    """Somebody queues what is due: a task that failed and is tried again waits for that, too."""
    if messages.has_scheduler:
        return ok(CheckName.SCHEDULER, Source.BROKER, "a worker queues what is due")
    remedy = f"{starts.worker}   (with --with-scheduler, which it lacks)"
    if messages.held:
        waiting = (
            f"{counted(messages.held, 'task waits', 'tasks wait')} for a time, and nobody queues them when it comes"
        )
        return failed(CheckName.SCHEDULER, Source.BROKER, waiting, remedy=remedy)
    return warning(
        CheckName.SCHEDULER,
        Source.BROKER,
        "no worker queues what is due: a task that fails and is to be tried again would wait for ever",
        remedy=remedy,
    )


def judge_visibility(workers: Sequence[WorkerFacts], ours: Ours, messages: MessageFacts | None) -> Check:
    """No task is delivered a second time while the first delivery is still in work or waits for its ETA.

    Every worker counts that consumes anything: each gives back whatever lies in ``unacked``, ours too, by its own
    timeout. Source: ``QoS.restore_visible`` in kombu/transport/redis.py.
    """
    timeouts = {worker.name: worker.visibility_timeout or DEFAULT_VISIBILITY for worker in workers if worker.queues}
    timeout = min(timeouts.values(), default=DEFAULT_VISIBILITY)
    whose = [name for name, each in timeouts.items() if each == timeout]
    at = f" at {listed(whose)}" if len(whose) < len(timeouts) else ""
    limit = max((worker.hard_limit for worker in ours.runners(workers) if worker.hard_limit), default=_HARD)
    hold = messages.longest_hold if messages else None
    for what, span in (("the hard limit", limit), ("the longest wait for an ETA", hold)):
        if span is not None and timeout <= span:
            return failed(
                CheckName.VISIBILITY,
                Source.WORKERS,
                f"{seconds(timeout)}{at} is not longer than {what} of {seconds(span)}: a task may run twice",
                remedy="raise visibility_timeout in broker_transport_options to "
                f"{_round_up(max(span * 2, DEFAULT_VISIBILITY))}, and restart the worker",
            )
    evidence = f"{seconds(timeout)}, longer than the hard limit of {seconds(limit)}"
    if messages is None:
        return unchecked(CheckName.VISIBILITY, Source.WORKERS, evidence, "the longest wait for an ETA is not known")
    if hold is not None:
        evidence += f" and the longest wait for an ETA of {describe_age(hold)}"
    return ok(CheckName.VISIBILITY, Source.WORKERS, evidence)


def judge_progress(watched: Watched, ours: Ours, starts: WorkerCommands, terms: BackendTexts = CELERY_TERMS) -> Check:
    """The queue moves: who consumes it takes what waits."""
    first, second = watched.first, watched.second
    before, after = ours.consumers(watched.before.workers), ours.consumers(watched.after.workers)
    if not first.depth or not second.depth:
        return ok(CheckName.PROGRESS, Source.BROKER, "nothing waits in the queue")
    waiting = f"{counted(second.depth, 'message')} {'waits' if second.depth == 1 else 'wait'}"
    if busy := sum(worker.busy for worker in after) or sum(worker.busy for worker in before):
        return ok(CheckName.PROGRESS, Source.BROKER, f"{waiting}, {counted(busy, 'task')} in work")
    moved = first.head != second.head or second.depth < first.depth
    if moved or _finished(after) != _finished(before):
        return ok(CheckName.PROGRESS, Source.BROKER, f"{waiting}, and it moves")
    if not watched.after.workers or watched.after.silent:
        return unchecked(
            CheckName.PROGRESS, Source.BROKER, f"{waiting}; whether anybody works on it is not known: see worker"
        )
    if not after:
        return failed(
            CheckName.PROGRESS,
            Source.BROKER,
            f"{waiting}, and no worker consumes {ours.queue}",
            remedy=_consume(watched.after, ours, starts, terms),
        )
    return failed(
        CheckName.PROGRESS,
        Source.BROKER,
        f"{waiting}, and {counted(len(after), 'idle worker')} took none for {seconds(watched.waited)}",
        remedy=starts.restart_worker,
    )


def judge_serialization(facts: MessageFacts, terms: BackendTexts = CELERY_TERMS) -> Check:
    """Every message is in the only format that the workers take."""
    wrong = sum(facts.unreadable.values())
    seen = f"{facts.read} of {facts.total}" if facts.read < facts.total else f"{facts.read}"
    if not wrong:
        answer = f"{seen} {'message' if seen == '1' else 'messages'}, all {facts.format}"
        if facts.skipped:
            remedy = Remedy.run(Command.INSPECT_QUEUE, note="shows them; correct their publisher")
            return warning(CheckName.SERIALIZATION, Source.BROKER, answer, *_skipped(facts.skipped), remedy=remedy)
        return ok(CheckName.SERIALIZATION, Source.BROKER, answer)
    kinds = listed([f"{kind} ({number})" for kind, number in facts.unreadable.items()])
    return failed(
        CheckName.SERIALIZATION,
        Source.BROKER,
        f"{wrong} of {counted(facts.read, 'message')} not {facts.format}: {kinds}",
        terms.unreadable,
        *_skipped(facts.skipped),
        remedy=terms.serialization,
    )


def judge_leftovers(facts: Leftovers, prefix: str, access: DeploymentCommands) -> Check:
    """No reply lists and bindings of clients that died."""
    searched = "" if facts.complete else " (the keyspace was searched in part)"
    bindings = f"{prefix}_kombu.binding.reply.celery.pidbox"
    if facts.reply_lists:
        return warning(
            CheckName.LEFTOVERS,
            Source.BROKER,
            f"{counted(facts.reply_lists, 'reply list')} of clients that are gone{searched}",
            remedy=Remedy.run(Command.MAINTAIN),
        )
    if facts.bindings > _BINDINGS:
        return warning(
            CheckName.LEFTOVERS,
            Source.BROKER,
            f"{facts.bindings} bindings of reply lists: every remote control goes through all of them",
            remedy=f"{access.redis_cli} DEL {shlex.quote(bindings)}   (then restart Flower, if there is one)",
        )
    if facts.undated:
        return unchecked(
            CheckName.LEFTOVERS,
            Source.BROKER,
            f"{counted(facts.undated, 'reply list')}, and Redis does not tell whether anybody uses them{searched}",
        )
    return ok(CheckName.LEFTOVERS, Source.BROKER, f"none{searched}")


def _finished(workers: Sequence[WorkerFacts]) -> int:
    return sum(worker.finished for worker in workers)


def seconds(span: timedelta | None) -> str:
    """``600 s``, or ``none`` for no limit."""
    return "none" if span is None else f"{round(span.total_seconds(), 1):g} s"


def _round_up(span: timedelta) -> int:
    return -(-int(span.total_seconds()) // 600) * 600
