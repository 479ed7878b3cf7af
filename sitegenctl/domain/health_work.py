"""Judging the workers, the queue and whoever feeds it, each from what was measured of it.

One small function for each check. A worker that did not answer is never judged: nothing follows from silence
but that it is silent.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sitegenctl.domain.condition import REMEDIES, Condition, Severity, Source, describe_age
from sitegenctl.domain.health import (
    Access,
    Check,
    CheckName,
    StartCommands,
    counted,
    failed,
    listed,
    ok,
    unchecked,
    warning,
)
from sitegenctl.domain.probes import (
    Leftovers,
    MessageFacts,
    QueueLook,
    RedisFacts,
    WorkerFacts,
    WorkersFacts,
)

#: Limits of a generation, as the system has them.
HARD_LIMIT = timedelta(seconds=600)
SOFT_LIMIT = timedelta(seconds=540)

#: What holds where nobody sets one: kombu's own default.
DEFAULT_VISIBILITY = timedelta(hours=1)

BEAT_TASK = "app.tasks.auto_start_stuck_orders.check_and_start_stuck_orders"
BEAT_INTERVAL = timedelta(seconds=120)

#: Every second call of beat's task fails: an order that has waited for three of them waits for nothing.
_MISSED = 3

#: So many bindings of reply lists slow every remote control down: each answer is matched against all of them.
_BINDINGS = 100


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
        return self.consumers(workers) or [worker for worker in workers if self.task in worker.tasks]


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


def judge_connected(facts: RedisFacts, starts: StartCommands, access: Access) -> Check:
    """A worker is connected to this broker and database number, by Redis' own word; it was not asked itself."""
    if facts.workers is None:
        return unchecked(CheckName.WORKER, Source.BROKER, "Redis does not tell who listens (PUBLISH is refused)")
    if facts.workers:
        connected = f"{counted(facts.workers, 'worker')} connected to database {facts.database}"
        return ok(CheckName.WORKER, Source.BROKER, connected)
    return _no_worker(facts, starts, access)


def judge_alive(facts: WorkersFacts, redis: RedisFacts, starts: StartCommands, access: Access) -> Check:
    """A worker answers on this broker and database number."""
    if facts.workers and not facts.silent:
        names = listed([worker.name for worker in facts.workers], limit=3)
        return ok(CheckName.WORKER, Source.WORKERS, f"{counted(len(facts.workers), 'worker')}: {names}")
    if facts.silent:
        total = facts.silent + len(facts.workers)
        silent = f"{facts.silent} of {counted(total, 'connected worker')}"
        judge = warning if facts.workers else failed
        return judge(
            CheckName.WORKER,
            Source.WORKERS,
            f"{silent} did not answer within {_seconds(facts.patience)}",
            "it hangs, or it runs with -P solo and is in the middle of a task",
            remedy=starts.restart_worker,
        )
    return _no_worker(redis, starts, access)


def _no_worker(redis: RedisFacts, starts: StartCommands, access: Access) -> Check:
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
    return failed(
        CheckName.WORKER,
        Source.WORKERS,
        "no worker is alive on this broker: tasks wait until one is",
        remedy=starts.worker,
    )


def judge_queue(workers: Sequence[WorkerFacts], ours: Ours, starts: StartCommands) -> Check:
    """A worker consumes our queue."""
    consumers = ours.consumers(workers)
    if consumers:
        return ok(CheckName.WORKER_QUEUE, Source.WORKERS, f"{counted(len(consumers), 'worker')} on {ours.queue}")
    instead = sorted({name for worker in workers for name in worker.queues})
    return failed(
        CheckName.WORKER_QUEUE,
        Source.WORKERS,
        f"nobody consumes {ours.queue}",
        f"they consume {listed(instead)} instead" if instead else "they consume no queue at all",
        remedy=_consume(workers, ours, starts),
    )


def _consume(workers: Sequence[WorkerFacts], ours: Ours, starts: StartCommands) -> str:
    option = f"--queues={ours.queue}"
    if all(ours.task in worker.tasks for worker in workers):
        return f"sitegenctl queue resume   (and start the worker with {option})"
    # A worker that is told to consume throws away what it has no task for.
    return f"{starts.worker}   (with {option}; not every worker that runs has the task)"


def judge_task(workers: Sequence[WorkerFacts], ours: Ours) -> Check:
    """Whoever consumes our queue has our task registered: a worker without it throws such messages away."""
    lacking = [worker for worker in ours.consumers(workers) or workers if ours.task not in worker.tasks]
    if not lacking:
        return ok(CheckName.WORKER_TASK, Source.WORKERS, f"{ours.task.rpartition('.')[2]} is registered")
    instead = sorted({name for worker in lacking for name in worker.tasks})
    return failed(
        CheckName.WORKER_TASK,
        Source.WORKERS,
        f"{listed([worker.name for worker in lacking])} does not have {ours.task}, and drops such messages",
        f"registered instead: {listed(instead)}" if instead else "no task is registered at all",
        remedy="start the worker with the app that has the task, or set SITEGENCTL_TASK to the name it has there",
    )


def judge_limits(workers: Sequence[WorkerFacts], ours: Ours) -> Check:
    """Generations end at the system's limits: one that hangs must not hold its process for ever."""
    limits = {(worker.soft_limit, worker.hard_limit) for worker in ours.runners(workers)}
    if not limits:
        return unchecked(CheckName.LIMITS, Source.WORKERS, "no worker runs our task: see worker queue")
    told = listed(sorted(f"{_seconds(soft)} soft, {_seconds(hard)} hard" for soft, hard in limits))
    if limits == {(SOFT_LIMIT, HARD_LIMIT)}:
        return ok(CheckName.LIMITS, Source.WORKERS, told)
    remedy = "set task_soft_time_limit=540 and task_time_limit=600 in the worker's app, and restart it"
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
        f"{told}; the system has {_seconds(SOFT_LIMIT)} and {_seconds(HARD_LIMIT)}",
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
    limit = max((worker.hard_limit for worker in ours.runners(workers) if worker.hard_limit), default=HARD_LIMIT)
    hold = messages.longest_hold if messages else None
    for what, span in (("the hard limit", limit), ("the longest wait for an ETA", hold)):
        if span is not None and timeout <= span:
            return failed(
                CheckName.VISIBILITY,
                Source.WORKERS,
                f"{_seconds(timeout)}{at} is not longer than {what} of {_seconds(span)}: a task may run twice",
                remedy="raise visibility_timeout in broker_transport_options to "
                f"{_round_up(max(span * 2, DEFAULT_VISIBILITY))}, and restart the worker",
            )
    evidence = f"{_seconds(timeout)}, longer than the hard limit of {_seconds(limit)}"
    if messages is None:
        return unchecked(CheckName.VISIBILITY, Source.WORKERS, evidence, "the longest wait for an ETA is not known")
    if hold is not None:
        evidence += f" and the longest wait for an ETA of {describe_age(hold)}"
    return ok(CheckName.VISIBILITY, Source.WORKERS, evidence)


def judge_progress(watched: Watched, ours: Ours, starts: StartCommands) -> Check:
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
            remedy=_consume(watched.after.workers, ours, starts),
        )
    return failed(
        CheckName.PROGRESS,
        Source.BROKER,
        f"{waiting}, and {counted(len(after), 'idle worker')} took none for {_seconds(watched.waited)}",
        remedy=starts.restart_worker,
    )


def judge_serialization(facts: MessageFacts) -> Check:
    """Every message is JSON, the only thing that the workers accept."""
    wrong = sum(facts.not_json.values())
    seen = f"{facts.read} of {facts.total}" if facts.read < facts.total else f"{facts.read}"
    if not wrong:
        return ok(
            CheckName.SERIALIZATION, Source.BROKER, f"{seen} {'message' if seen == '1' else 'messages'}, all JSON"
        )
    kinds = listed([f"{kind} ({number})" for kind, number in facts.not_json.items()])
    return failed(
        CheckName.SERIALIZATION,
        Source.BROKER,
        f"{wrong} of {counted(facts.read, 'message')} not JSON: {kinds}",
        "workers that accept JSON alone drop them",
        remedy="set task_serializer='json' in whoever publishes them",
    )


def judge_leftovers(facts: Leftovers, prefix: str, access: Access) -> Check:
    """No reply lists and bindings of clients that died."""
    searched = "" if facts.complete else " (the keyspace was searched in part)"
    bindings = f"{prefix}_kombu.binding.reply.celery.pidbox"
    if facts.reply_lists:
        return warning(
            CheckName.LEFTOVERS,
            Source.BROKER,
            f"{counted(facts.reply_lists, 'reply list')} of clients that are gone{searched}",
            remedy="sitegenctl maintain",
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


def judge_backend(conditions: Mapping[int, Condition], idle: Mapping[int, timedelta | None]) -> Check:
    """Orders that are ready are enqueued; one that is ready beyond grace and has no task was forgotten."""
    forgotten = [order_id for order_id, condition in conditions.items() if condition is Condition.UNSTARTED]
    if not forgotten:
        return ok(CheckName.BACKEND, Source.DATABASE, "every order that is ready has been enqueued")
    longest = max((idle.get(order_id) or timedelta(0) for order_id in forgotten), default=timedelta(0))
    return failed(
        CheckName.BACKEND,
        Source.DATABASE,
        f"{counted(len(forgotten), 'order is', 'orders are')} ready, the oldest for {describe_age(longest)},"
        f" and nobody enqueued {'it' if len(forgotten) == 1 else 'them'}",
        remedy=REMEDIES[Condition.UNSTARTED],
    )


def judge_beat(
    watched: Watched | None,
    messages: MessageFacts | None,
    due: Mapping[int, timedelta] | None,
    ours: Ours,
    starts: StartCommands,
    *,
    interval: timedelta = BEAT_INTERVAL,
) -> Check:
    """Beat's task comes through, or is not needed, as far as that can be seen: beat itself answers no question.

    ``due``: for how long each order has waited that beat would start, None when that is not known. ``interval``
    is how often beat sends its message.
    """
    consumers = ours.consumers(watched.after.workers) if watched else []
    if watched is None or not consumers:
        return _beat_unheard(watched, messages, interval)
    if messages is not None and messages.beat:
        return ok(CheckName.BEAT, Source.BROKER, f"{counted(messages.beat, 'message')} of its own in the queue")
    runs = sum(worker.beat_runs for worker in consumers)
    uptime = max((worker.uptime for worker in consumers if worker.uptime), default=timedelta(0))
    told = f"its task ran {counted(runs, 'time')} in {describe_age(uptime)}"
    # Half of what is due: it may have been started, or stopped for a while, after the workers.
    if runs and runs >= uptime / interval / 2:
        return ok(CheckName.BEAT, Source.WORKERS, told)
    if due is not None and not due:
        return ok(CheckName.BEAT, Source.WORKERS, f"not needed now: no order waits to be started ({told})")
    if due:
        waiting = f"{counted(len(due), 'order waits', 'orders wait')} to be started"
        if not any(BEAT_TASK in worker.tasks for worker in consumers):
            return warning(
                CheckName.BEAT,
                Source.WORKERS,
                f"no worker has its task, and {waiting}",
                remedy=f"{REMEDIES[Condition.UNSTARTED]}   (where there is no beat: maintain, in cron)",
            )
        if min(uptime, max(due.values())) >= _MISSED * interval:
            return failed(
                CheckName.BEAT,
                Source.WORKERS,
                f"{told}, and {waiting}: it does not send its message every {describe_age(interval)}",
                remedy=starts.restart_beat or REMEDIES[Condition.UNSTARTED],
            )
    return unchecked(CheckName.BEAT, Source.WORKERS, f"{told}; beat itself can't be asked", remedy=starts.beat)


def _beat_unheard(watched: Watched | None, messages: MessageFacts | None, interval: timedelta) -> Check:
    """Without a worker beat's messages pile up: old ones prove nothing, a new one does."""
    if watched is not None and watched.beat_came:
        return ok(CheckName.BEAT, Source.BROKER, f"a message of its own came within {_seconds(watched.waited)}")
    waits = interval + timedelta(seconds=10)
    if messages is not None and messages.beat:
        told = f"{counted(messages.beat, 'message')} of its own in the queue, of any age: no worker takes them"
    else:
        told = "no worker could tell whether its task comes through"
    return unchecked(
        CheckName.BEAT,
        Source.BROKER,
        told,
        remedy=f"sitegenctl doctor --patience {round(waits.total_seconds())}s   (waits for its next message)",
    )


def judge_orders(conditions: Mapping[int, Condition]) -> Check:
    """No open order needs anybody."""
    faults = Counter(condition for condition in conditions.values() if condition.severity is Severity.FAULT)
    unknown = sum(condition.severity is Severity.UNKNOWN for condition in conditions.values())
    told = [f"{number} {condition}" for condition, number in faults.most_common()]
    if unknown:
        told.append(f"{unknown} unknown")
    if faults:
        return failed(
            CheckName.ORDERS,
            Source.DATABASE,
            f"{faults.total()} of {counted(len(conditions), 'open order')} in fault: {listed(told, limit=12)}",
            remedy=_mend(faults),
        )
    if unknown:
        return unchecked(CheckName.ORDERS, Source.DATABASE, f"{counted(unknown, 'order')} can't be judged now")
    return ok(CheckName.ORDERS, Source.DATABASE, f"{counted(len(conditions), 'open order')}, none in fault")


def _mend(faults: Collection[Condition]) -> str:
    remedies = {REMEDIES[condition] for condition in faults}
    if len(remedies) == 1:
        return remedies.pop()
    return "sitegenctl maintain --dry-run   (then without; inspect tells of the rest)"


def _finished(workers: Sequence[WorkerFacts]) -> int:
    return sum(worker.finished for worker in workers)


def _seconds(span: timedelta | None) -> str:
    return "none" if span is None else f"{round(span.total_seconds(), 1):g} s"


def _round_up(span: timedelta) -> int:
    return -(-int(span.total_seconds()) // 600) * 600
