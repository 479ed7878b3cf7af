"""Judging whether orders get into the queue, and what has become of them: the backend, beat, and the orders.

One small function for each check, as in ``health_work.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Condition, Severity, Source
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.health.check import (
    Check,
    CheckName,
    WorkerCommands,
    counted,
    failed,
    listed,
    ok,
    unchecked,
    warning,
)
from sitegenctl.domain.health.facts import MessageFacts
from sitegenctl.domain.health.workers import Ours, Watched, seconds

BEAT_TASK = "app.tasks.auto_start_stuck_orders.check_and_start_stuck_orders"
BEAT_INTERVAL = timedelta(seconds=120)

#: Every second call of beat's task fails: an order that has waited for three of them waits for nothing.
_MISSED = 3


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
        remedy=Remedy.run(Command.START_STUCK),
    )


def judge_beat(
    watched: Watched | None,
    messages: MessageFacts | None,
    due: Mapping[int, timedelta] | None,
    ours: Ours,
    starts: WorkerCommands,
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
        if not any(BEAT_TASK in (worker.tasks or ()) for worker in consumers):
            return warning(
                CheckName.BEAT,
                Source.WORKERS,
                f"no worker has its task, and {waiting}",
                remedy=Remedy.run(Command.START_STUCK, note="where there is no beat: maintain, in cron"),
            )
        if min(uptime, max(due.values())) >= _MISSED * interval:
            return failed(
                CheckName.BEAT,
                Source.WORKERS,
                f"{told}, and {waiting}: it does not send its message every {describe_age(interval)}",
                remedy=starts.restart_beat or Remedy.run(Command.START_STUCK),
            )
    return unchecked(CheckName.BEAT, Source.WORKERS, f"{told}; beat itself can't be asked", remedy=starts.beat)


def _beat_unheard(watched: Watched | None, messages: MessageFacts | None, interval: timedelta) -> Check:
    """Without a worker beat's messages pile up: old ones prove nothing, a new one does."""
    if watched is not None and watched.beat_came:
        return ok(CheckName.BEAT, Source.BROKER, f"a message of its own came within {seconds(watched.waited)}")
    waits = interval + timedelta(seconds=10)
    if messages is not None and messages.beat:
        told = f"{counted(messages.beat, 'message')} of its own in the queue, of any age: no worker takes them"
    else:
        told = "no worker could tell whether its task comes through"
    return unchecked(
        CheckName.BEAT,
        Source.BROKER,
        told,
        remedy=Remedy.run(
            Command.DOCTOR, patience=f"{round(waits.total_seconds())}s", note="waits for its next message"
        ),
    )


def judge_orders(
    conditions: Mapping[int, Condition], remedies: Mapping[Condition, Remedy | None] | None = None
) -> Check:
    """No open order needs anybody; ``remedies`` are what mends those that are there in each condition."""
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
            remedy=_mend({(remedies or {}).get(condition) or condition.remedy for condition in faults}),
        )
    if unknown:
        return unchecked(CheckName.ORDERS, Source.DATABASE, f"{counted(unknown, 'order')} can't be judged now")
    return ok(CheckName.ORDERS, Source.DATABASE, f"{counted(len(conditions), 'open order')}, none in fault")


def _mend(remedies: Collection[Remedy | None]) -> Remedy:
    if len(remedies) == 1 and (only := next(iter(remedies))) is not None:
        return only
    if any(remedy is not None and remedy.command is not None and remedy.advice is None for remedy in remedies):
        return Remedy.run(Command.MAINTAIN, dry_run=True, note="then without --dry-run; inspect shows the rest")
    return Remedy.run(Command.INSPECT, note="shows what each of them needs")
