"""Plan new tasks for orders: those selected, those never started, those that failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import onboarding_warning
from sitegenctl.domain.diagnosis.describe import describe_age, describe_wait
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Onboarding, Order, OrderStatus
from sitegenctl.domain.orders.run import OPERATOR_RESET, RunOutcome
from sitegenctl.domain.plans.guards import (
    attempts_exhausted,
    changed_recently,
    is_younger,
    possibly_live,
    without_onboarding,
    without_status,
)
from sitegenctl.domain.plans.plan import Action, Outcome, Plan, Step, refuse, skip


def plan_enqueue(
    snapshot: Snapshot,
    order_ids: Sequence[int],
    *,
    resume: bool,
    force: bool,
    new_task_id: Callable[[], str],
) -> Plan:
    """Decide for each order whether it may be enqueued; database and broker must have responded.

    ``force`` includes GENERATING orders changed within the grace period; nothing overrides a live task.
    """
    decisions: list[Step | Outcome] = []
    for order_id in order_ids:
        order = snapshot.orders.get(order_id)
        if order is None:
            decisions.append(refuse(order_id, "no such order"))
        else:
            refusal = _refusal(order, snapshot, force=force)
            decisions.append(refusal or _enqueue(order, new_task_id(), resume=resume, verb="enqueued"))
    return Plan.of("enqueue", decisions)


def plan_start(snapshot: Snapshot, *, new_task_id: Callable[[], str]) -> Plan:
    """Start every BUILDING order that is ready and has no task, unless it is on hold or changed recently."""
    ready = [
        order
        for order_id, order in snapshot.orders.items()
        if order.status is OrderStatus.BUILDING
        and order.onboarding is Onboarding.COMPLETE
        and not snapshot.tasks_of(order_id)
    ]
    decisions = [start(order, snapshot, new_task_id=new_task_id) for order in ready]
    return Plan.of("start-stuck", decisions, named=False)


def start(order: Order, snapshot: Snapshot, *, new_task_id: Callable[[], str]) -> Step | Outcome:
    """Start an order that is ready, unless it is on hold, changed recently, or may have a task."""
    if order.is_held:
        return skip(order, "on hold: an operator cancelled it", hint="enqueue starts it all the same")
    if is_younger(order, snapshot.grace):
        return skip(order, f"it changed {describe_age(order.idle)} ago")
    return possibly_live(order, snapshot) or _enqueue(order, new_task_id(), verb="started")


def plan_retry(
    snapshot: Snapshot,
    *,
    max_attempts: int,
    match: Callable[[str], object] | None,
    older_than: timedelta,
    force: bool,
    new_task_id: Callable[[], str],
) -> Plan:
    """Retry every GENERATING order whose last run ended in ERROR and that has no task."""
    failed = [
        order
        for order_id, order in snapshot.orders.items()
        if order.status is OrderStatus.GENERATING
        and (run := order.history.last_run) is not None
        and run.outcome is RunOutcome.ERROR
        and not snapshot.tasks_of(order_id)
        and (match is None or match(order.last_error or ""))
        and not is_younger(order, older_than)
    ]
    decisions = [
        retry(order, snapshot, max_attempts=max_attempts, force=force, new_task_id=new_task_id) for order in failed
    ]
    return Plan.of("retry-failed", decisions, named=False)


def retry(
    order: Order, snapshot: Snapshot, *, max_attempts: int, force: bool = False, new_task_id: Callable[[], str]
) -> Step | Outcome:
    """Retry a failed order, unless it can't succeed, may have a task, has no attempt left, or is not due."""
    hint = "fix the cause; then reset the order, or raise --max-attempts"
    refusal = (
        without_onboarding(order)
        or possibly_live(order, snapshot)
        or attempts_exhausted(order, max_attempts, hint=hint)
    )
    if refusal:
        return refusal
    if not force and (wait := order.wait_for_attempt(snapshot.grace)):
        reason = f"attempt {order.history.attempts} failed {describe_age(order.idle)} ago; the next is due in"
        return skip(order, f"{reason} {describe_wait(wait, snapshot.taken_at)}", hint="--force does not wait")
    return _enqueue(order, new_task_id(), verb="retried")


def _refusal(order: Order, snapshot: Snapshot, *, force: bool) -> Outcome | None:
    status = order.status
    if status is None:
        return without_status(order)
    if status is OrderStatus.CANCELLED and not order.is_held:
        return refuse(order, "it is CANCELLED")
    if status.is_finished:
        hint = Remedy.run(Command.RESET, order.order_id, advice="to generate its site again")
        return refuse(order, f"it is in {status}: a generation would be skipped", hint=hint)
    if refusal := possibly_live(order, snapshot) or without_onboarding(order):
        return refusal
    if status.precedes_building and not order.is_held:
        return refuse(order, f"it is {status}, not yet BUILDING")
    return None if force else changed_recently(order, snapshot)


def _enqueue(order: Order, task_id: str, *, resume: bool = True, verb: str) -> Step:
    # A reset must not resume the old site, whose files may be left if the reset was cut short.
    was_reset = order.history.last_journal == OPERATOR_RESET and order.history.last_run is None
    return Step(
        order_id=order.order_id,
        action=Action.ENQUEUE,
        before=order.status,
        after=OrderStatus.GENERATING,
        last_log_id=order.last_log_id,
        publish=task_id,
        resume=resume and not was_reset,
        idle=order.idle,
        verb=verb,
        details=onboarding_warning(order),
    )
