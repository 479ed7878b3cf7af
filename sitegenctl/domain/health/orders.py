"""The open orders, and the checks that they are enqueued and not in fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Condition, Severity, Source
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.health.check import Finding, check, counted, failed, listed, ok, seconds, unchecked, warning
from sitegenctl.domain.health.messages import MessageFacts
from sitegenctl.domain.health.system import System
from sitegenctl.domain.health.workers import QueueActivity

BEAT_TASK = "app.tasks.auto_start_stuck_orders.check_and_start_stuck_orders"

#: Every second call of beat's task fails: an order that beat did not start in three intervals waits in vain.
_INTERVALS = 3


@dataclass(frozen=True, kw_only=True)
class OpenOrders:
    """The open orders and those with a task."""

    conditions: Mapping[int, Condition]
    idle: Mapping[int, timedelta | None] = field(default_factory=dict)  # for how long each has not changed
    remedies: Mapping[Condition, Remedy | None] = field(default_factory=dict)
    due: Mapping[int, timedelta] = field(default_factory=dict)  # orders that beat would start


@check("backend", Source.DATABASE)
def backend(orders: OpenOrders) -> Finding:
    """Fails if orders are ready for longer than the grace period and not enqueued."""
    unstarted = [order_id for order_id, condition in orders.conditions.items() if condition is Condition.UNSTARTED]
    if not unstarted:
        return ok("every order that is ready has been enqueued")
    longest = max(orders.idle.get(order_id) or timedelta(0) for order_id in unstarted)
    return failed(
        f"{counted(len(unstarted), 'order is', 'orders are')} ready, the oldest for {describe_age(longest)}, and not"
        " enqueued",
        remedy=Remedy.run(Command.START_STUCK),
    )


@check("beat", Source.WORKERS, backends={"celery"})
def beat(
    activity: QueueActivity, system: System, messages: MessageFacts | None = None, orders: OpenOrders | None = None
) -> Finding:
    """Fails if orders wait for beat and its task has not run; warns if no worker has its task.

    Beat itself can't be asked: without a worker only a message that comes within `--patience` shows that it runs.
    """
    queued = messages.beat if messages is not None else 0
    consumers = activity.after.consumers(system)
    if not consumers:
        # Its messages pile up: an old one proves nothing, a new one does.
        if activity.beat_came:
            return ok(f"a message of its own came within {seconds(activity.waited)}")
        evidence = "without a worker it is not known whether its task runs"
        if queued:
            evidence = f"{counted(queued, 'message')} of its own in the queue, of any age: no worker takes them"
        patience = f"{round(system.beat_interval.total_seconds()) + 10}s"
        remedy = Remedy.run(Command.DOCTOR, patience=patience, note="waits for its next message")
        return unchecked(evidence, remedy=remedy)
    if queued:
        return ok(f"{counted(queued, 'message')} of its own in the queue")
    runs = sum(worker.beat_runs for worker in consumers)
    uptime = max((worker.uptime for worker in consumers if worker.uptime), default=timedelta(0))
    ran = f"its task ran {counted(runs, 'time')} in {describe_age(uptime)}"
    # Half of what is due: beat may have been started after the workers, or stopped for a while.
    if runs and runs >= uptime / system.beat_interval / 2:
        return ok(ran)
    if orders is not None and not orders.due:
        return ok(f"not needed now: no order waits to be started ({ran})")
    if orders is not None:
        waiting = counted(len(orders.due), "order waits to be started", "orders wait to be started")
        if not any(BEAT_TASK in (worker.tasks or ()) for worker in consumers):
            return warning(
                f"no worker has its task, and {waiting}",
                remedy=Remedy.run(Command.START_STUCK, note="where there is no beat: maintain, in cron"),
            )
        if min(uptime, max(orders.due.values())) >= _INTERVALS * system.beat_interval:
            return failed(
                f"{ran}, and {waiting}: it does not send its message every {describe_age(system.beat_interval)}",
                remedy=system.commands.restart_beat or Remedy.run(Command.START_STUCK),
            )
    return unchecked(f"{ran}; beat itself can't be asked", remedy=system.commands.show_beat)


@check("orders", Source.DATABASE)
def open_orders(orders: OpenOrders) -> Finding:
    """Fails if an open order is in fault."""
    total = counted(len(orders.conditions), "open order")
    faults = Counter(condition for condition in orders.conditions.values() if condition.severity is Severity.FAULT)
    unknown = sum(condition.severity is Severity.UNKNOWN for condition in orders.conditions.values())
    if faults:
        numbers = [f"{number} {condition}" for condition, number in faults.most_common()]
        if unknown:
            numbers.append(f"{unknown} unknown")
        return failed(
            f"{faults.total()} of {total} in fault: {listed(numbers, limit=12)}",
            remedy=_common_remedy({orders.remedies.get(condition) or condition.remedy for condition in faults}),
        )
    if unknown:
        return unchecked(f"the condition of {counted(unknown, 'order')} is unknown now")
    return ok(f"{total}, none in fault")


def _common_remedy(remedies: Collection[Remedy | None]) -> Remedy:
    if len(remedies) == 1 and (only := next(iter(remedies))) is not None:
        return only
    # Where no command fixes an order without a person, maintain would do nothing.
    if any(remedy is not None and remedy.command is not None and remedy.advice is None for remedy in remedies):
        return Remedy.run(Command.MAINTAIN, dry_run=True, note="then without --dry-run; inspect shows the rest")
    return Remedy.run(Command.INSPECT, note="shows what each of them needs")
