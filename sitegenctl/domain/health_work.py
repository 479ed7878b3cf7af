"""Judging the workers, the queue and whoever feeds it, each from what was measured of it.

One small function for each check. A worker that did not answer is never judged: nothing follows from silence
but that it is silent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sitegenctl.domain.condition import Condition, Severity, Source, describe_age
from sitegenctl.domain.health import Check, CheckName, StartCommands, counted, failed, listed, ok, unchecked, warning
from sitegenctl.domain.probes import (
    Connections,
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

#: So many bindings of reply lists slow every remote control down: each answer is matched against all of them.
_BINDINGS = 100

_CLI = 'redis-cli -u "$REDIS_URL"'


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Queue and workers looked at twice, ``waited`` apart; the same look twice where once was enough."""

    first: QueueLook
    second: QueueLook
    before: WorkersFacts
    after: WorkersFacts
    waited: timedelta = timedelta(0)


def judge_connected(facts: RedisFacts, starts: StartCommands) -> Check:
    """A worker is connected to this broker and database number, by Redis' own word; it was not asked itself."""
    if facts.connections is None:
        return unchecked(
            CheckName.WORKER, Source.BROKER, "Redis does not tell who is connected (CLIENT LIST is refused)"
        )
    here = facts.connections.get(facts.database, Connections())
    if here.workers:
        return ok(
            CheckName.WORKER, Source.BROKER, f"{counted(here.workers, 'worker')} connected to database {facts.database}"
        )
    return _no_worker(facts, starts)


def judge_alive(facts: WorkersFacts, redis: RedisFacts, starts: StartCommands) -> Check:
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
    return _no_worker(redis, starts)


def _no_worker(redis: RedisFacts, starts: StartCommands) -> Check:
    elsewhere = [
        number
        for number, connections in (redis.connections or {}).items()
        if number != redis.database and connections.workers
    ]
    if elsewhere:
        return failed(
            CheckName.WORKER,
            Source.WORKERS,
            f"no worker on database {redis.database}, but on database {listed(elsewhere)} of the same Redis",
            # They may be another system's: who shares a Redis takes a number each.
            remedy=f"if those are ours, end REDIS_URL in /{elsewhere[0]} here too; else {starts.worker}",
        )
    return failed(
        CheckName.WORKER,
        Source.WORKERS,
        "no worker is alive on this broker: tasks wait until one is",
        remedy=starts.worker,
    )


def judge_queue(workers: Sequence[WorkerFacts], queue: str) -> Check:
    """A worker consumes our queue."""
    consuming = [worker for worker in workers if queue in worker.queues]
    if consuming:
        return ok(CheckName.WORKER_QUEUE, Source.WORKERS, f"{counted(len(consuming), 'worker')} on {queue}")
    instead = sorted({name for worker in workers for name in worker.queues})
    return failed(
        CheckName.WORKER_QUEUE,
        Source.WORKERS,
        f"nobody consumes {queue}",
        f"they consume {listed(instead)} instead" if instead else "they consume no queue at all",
        remedy=f'celery -b "$REDIS_URL" control add_consumer {queue}   (and start the worker with --queues={queue})',
    )


def judge_task(workers: Sequence[WorkerFacts], queue: str, task: str) -> Check:
    """Whoever consumes our queue has our task registered: a worker without it throws such messages away."""
    ours = [worker for worker in workers if queue in worker.queues] or list(workers)
    lacking = [worker for worker in ours if task not in worker.tasks]
    if not lacking:
        return ok(CheckName.WORKER_TASK, Source.WORKERS, f"{task.rpartition('.')[2]} is registered")
    instead = sorted({name for worker in lacking for name in worker.tasks})
    return failed(
        CheckName.WORKER_TASK,
        Source.WORKERS,
        f"{listed([worker.name for worker in lacking])} does not have {task}, and drops such messages",
        f"registered instead: {listed(instead)}" if instead else "no task is registered at all",
        remedy="start the worker with the app that has the task, or set SITEGENCTL_TASK to the name it has there",
    )


def judge_limits(workers: Sequence[WorkerFacts]) -> Check:
    """Generations end at the system's limits: one that hangs must not hold its process for ever."""
    limits = {(worker.soft_limit, worker.hard_limit) for worker in workers}
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


def judge_visibility(workers: Sequence[WorkerFacts], messages: MessageFacts | None) -> Check:
    """No task is delivered a second time while the first delivery is still in work or waits for its ETA."""
    timeout = min((worker.visibility_timeout or DEFAULT_VISIBILITY for worker in workers), default=DEFAULT_VISIBILITY)
    limit = max((worker.hard_limit for worker in workers if worker.hard_limit), default=HARD_LIMIT)
    eta = messages.longest_eta if messages else None
    for what, span in (("the hard limit", limit), ("the longest ETA", eta)):
        if span is not None and timeout <= span:
            return failed(
                CheckName.VISIBILITY,
                Source.WORKERS,
                f"{_seconds(timeout)} is not longer than {what} of {_seconds(span)}: a task may run twice",
                remedy="raise visibility_timeout in broker_transport_options to "
                f"{_round_up(max(span * 2, DEFAULT_VISIBILITY))}, and restart the worker",
            )
    evidence = f"{_seconds(timeout)}, longer than the hard limit of {_seconds(limit)}"
    if messages is None:
        return unchecked(CheckName.VISIBILITY, Source.WORKERS, evidence, "the longest ETA is not known")
    return ok(
        CheckName.VISIBILITY, Source.WORKERS, evidence + (f" and the longest ETA of {describe_age(eta)}" if eta else "")
    )


def judge_progress(watched: Watched, starts: StartCommands) -> Check:
    """The queue moves: what is connected takes what waits."""
    first, second, before, after = watched.first, watched.second, watched.before, watched.after
    if not first.depth or not second.depth:
        return ok(CheckName.PROGRESS, Source.BROKER, "nothing waits in the queue")
    waiting = f"{counted(second.depth, 'message')} {'waits' if second.depth == 1 else 'wait'}"
    if any(worker.busy for worker in (*before.workers, *after.workers)):
        busy = sum(worker.busy for worker in after.workers) or sum(worker.busy for worker in before.workers)
        return ok(CheckName.PROGRESS, Source.BROKER, f"{waiting}, {counted(busy, 'task')} in work")
    moved = first.head != second.head or second.depth < first.depth
    if moved or _finished(after) != _finished(before):
        return ok(CheckName.PROGRESS, Source.BROKER, f"{waiting}, and it moves")
    if not after.workers or after.silent:
        return unchecked(
            CheckName.PROGRESS, Source.BROKER, f"{waiting}; whether anybody works on it is not known: see worker"
        )
    return failed(
        CheckName.PROGRESS,
        Source.BROKER,
        f"{waiting}, and {counted(len(after.workers), 'idle worker')} took none for {_seconds(watched.waited)}",
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


def judge_leftovers(facts: Leftovers, prefix: str) -> Check:
    """No reply lists and bindings of clients that died."""
    searched = "" if facts.complete else " (the keyspace was searched in part)"
    bindings = f"{prefix}_kombu.binding.reply.celery.pidbox"
    if facts.reply_lists:
        pattern = f"{prefix}*.reply.celery.pidbox"
        return warning(
            CheckName.LEFTOVERS,
            Source.BROKER,
            f"{counted(facts.reply_lists, 'reply list')} of clients that are gone{searched}",
            remedy=f"{_CLI} --scan --pattern '{pattern}' | xargs {_CLI} DEL",
        )
    if facts.bindings > _BINDINGS:
        return warning(
            CheckName.LEFTOVERS,
            Source.BROKER,
            f"{facts.bindings} bindings of reply lists: every remote control goes through all of them",
            remedy=f"{_CLI} DEL {bindings}   (then restart Flower, if there is one)",
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
        remedy=_enqueue(sorted(forgotten)),
    )


def judge_beat(
    workers: WorkersFacts | None,
    messages: MessageFacts | None,
    conditions: Mapping[int, Condition] | None,
    starts: StartCommands,
) -> Check:
    """Beat's task comes through, as far as that can be seen: beat itself answers no question."""
    if messages is not None and messages.beat:
        return ok(CheckName.BEAT, Source.BROKER, f"{counted(messages.beat, 'message')} of its own in the queue")
    if workers is None or not workers.workers:
        return unchecked(CheckName.BEAT, Source.WORKERS, "no worker could tell whether its task comes through")
    runs = sum(worker.beat_runs for worker in workers.workers)
    uptime = max((worker.uptime for worker in workers.workers if worker.uptime), default=timedelta(0))
    expected = uptime / BEAT_INTERVAL
    told = f"its task ran {counted(runs, 'time')} in {describe_age(uptime)}"
    # Half of what is due: it may have been started, or stopped for a while, after the workers.
    if runs and runs >= expected / 2:
        return ok(CheckName.BEAT, Source.WORKERS, told)
    if conditions is not None and Condition.UNSTARTED not in conditions.values():
        return ok(CheckName.BEAT, Source.WORKERS, f"not needed now: no order waits to be started ({told})")
    return unchecked(CheckName.BEAT, Source.WORKERS, f"{told}; beat itself can't be asked", remedy=starts.beat)


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
            remedy="sitegenctl inspect orders",
        )
    if unknown:
        return unchecked(CheckName.ORDERS, Source.DATABASE, f"{counted(unknown, 'order')} can't be judged now")
    return ok(CheckName.ORDERS, Source.DATABASE, f"{counted(len(conditions), 'open order')}, none in fault")


def _finished(facts: WorkersFacts) -> int:
    return sum(worker.finished for worker in facts.workers)


def _seconds(span: timedelta | None) -> str:
    return "none" if span is None else f"{round(span.total_seconds(), 1):g} s"


def _round_up(span: timedelta) -> int:
    return -(-int(span.total_seconds()) // 600) * 600


def _enqueue(order_ids: Collection[int]) -> str:
    """The command for these orders, in ranges; a very long list is begun with its first part."""
    ranges: list[list[int]] = []
    for order_id in order_ids:
        if ranges and order_id == ranges[-1][1] + 1:
            ranges[-1][1] = order_id
        else:
            ranges.append([order_id, order_id])
    words = [f"{first}" if first == last else f"{first}-{last}" for first, last in ranges]
    return f"sitegenctl enqueue {' '.join(words[:20])}" + ("   (and look again)" if len(words) > 20 else "")
