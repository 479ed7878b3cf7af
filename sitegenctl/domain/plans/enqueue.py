"""Which orders get a new task: those asked for, those never started, those that failed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import timedelta

from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Onboarding, Order, OrderStatus
from sitegenctl.domain.orders.run import OPERATOR_RESET, RunOutcome
from sitegenctl.domain.plans.guards import (
    changed_recently,
    is_younger,
    possibly_live,
    used_up,
    with_live_task,
    without_onboarding,
    without_status,
)
from sitegenctl.domain.plans.plan import Action, Plan, Step, refuse, skip
from sitegenctl.domain.plans.result import Outcome

_BACKOFF = timedelta(minutes=2)
_LONGEST_BACKOFF = timedelta(hours=2)


def plan_enqueue(
    snapshot: Snapshot,
    order_ids: Sequence[int],
    *,
    resume: bool,
    force: bool,
    new_task_id: Callable[[], str],
) -> Plan:
    """Decide for each order whether it may be enqueued.

    The snapshot's database and broker must have answered. ``force`` enqueues a GENERATING order even though
    it moved within grace; nothing overrides a live task.
    """
    steps: list[Step] = []
    left_alone: list[Outcome] = []
    for order_id in order_ids:
        order = snapshot.orders.get(order_id)
        verdict = refuse(order_id, "no such order") if order is None else _why_not(order, snapshot, force=force)
        if order is None or verdict is not None:
            left_alone.append(verdict or refuse(order_id, "no such order"))
        else:
            steps.append(_enqueue(order, new_task_id(), resume=resume, verb="enqueued"))
    return Plan(command="enqueue", order_ids=order_ids, steps=steps, left_alone=left_alone)


def plan_start(snapshot: Snapshot, *, new_task_id: Callable[[], str]) -> Plan:
    """Start every BUILDING order that is ready, has no task and has not moved within grace.

    Those that an operator holds, and those that moved a moment ago, are left alone.
    """
    ready = [
        order
        for order_id, order in sorted(snapshot.orders.items())
        if order.status is OrderStatus.BUILDING
        and order.onboarding is Onboarding.COMPLETE
        and not snapshot.tasks_of(order_id)
    ]
    decisions = [start(order, snapshot, new_task_id=new_task_id) for order in ready]
    return Plan.of("start-stuck", decisions, named=False)


def start(order: Order, snapshot: Snapshot, *, new_task_id: Callable[[], str]) -> Step | Outcome:
    """Start an order that is ready, unless it is on hold, was modified within grace, or may have a task."""
    if order.is_held:
        return skip(
            order.order_id, "held: an operator cancelled it", before=order.status, hint="enqueue starts it all the same"
        )
    if is_younger(order, snapshot.grace):
        return skip(order.order_id, f"it moved {describe_age(order.idle)} ago", before=order.status)
    return possibly_live(order, snapshot) or _enqueue(order, new_task_id(), verb="started")


def plan_retry(
    snapshot: Snapshot,
    *,
    max_attempts: int,
    match: re.Pattern[str] | None,
    older_than: timedelta,
    force: bool,
    new_task_id: Callable[[], str],
) -> Plan:
    """Retry every GENERATING order whose last run ended in ERROR and that has no task.

    Left alone, with the reason: blocked ones, those whose attempts are used up, and those whose next attempt is
    not due yet (``force`` doesn't wait). ``match`` is searched for in the error, ``older_than`` is the least
    time since the order moved; orders that don't match are not mentioned.
    """
    failed = [order for _, order in sorted(snapshot.orders.items()) if _has_failed(order, snapshot)]
    chosen = [
        order
        for order in failed
        if (match is None or match.search(order.last_error or "")) and not is_younger(order, older_than)
    ]
    decisions = [
        retry(order, snapshot, max_attempts=max_attempts, force=force, new_task_id=new_task_id) for order in chosen
    ]
    return Plan.of("retry-failed", decisions, named=False)


def retry(
    order: Order, snapshot: Snapshot, *, max_attempts: int, force: bool = False, new_task_id: Callable[[], str]
) -> Step | Outcome:
    """Retry a failed order, unless it can't succeed, may have a task, has no attempt left, or is not due."""
    return (
        without_onboarding(order)
        or possibly_live(order, snapshot)
        or _not_due(order, snapshot, max_attempts=max_attempts, force=force)
        or _enqueue(order, new_task_id(), verb="retried")
    )


def backoff(attempts: int) -> timedelta:
    """How long the next attempt waits after so many: 2 minutes, then twice as long each time, 2 hours at most."""
    doublings = min(max(attempts, 1) - 1, 16)
    return min(_BACKOFF * (1 << doublings), _LONGEST_BACKOFF)


def _has_failed(order: Order, snapshot: Snapshot) -> bool:
    run = order.history.last_run
    return (
        order.status is OrderStatus.GENERATING
        and run is not None
        and run.outcome is RunOutcome.ERROR
        and not snapshot.tasks_of(order.order_id)
    )


def _not_due(order: Order, snapshot: Snapshot, *, max_attempts: int, force: bool) -> Outcome | None:
    if verdict := used_up(order, max_attempts, hint="fix the cause; then reset the order, or raise --max-attempts"):
        return verdict
    attempts = order.history.attempts
    wait = max(backoff(attempts), snapshot.grace)
    if force or order.idle is None or order.idle >= wait:
        return None
    return skip(
        order.order_id,
        f"attempt {attempts} failed {describe_age(order.idle)} ago; the next is due in "
        f"{describe_age(wait - order.idle)}",
        before=order.status,
        hint="--force doesn't wait",
    )


def _why_not(order: Order, snapshot: Snapshot, *, force: bool) -> Outcome | None:
    status = order.status
    if status is None:
        return without_status(order)
    if status is OrderStatus.CANCELLED and not order.is_held:
        return refuse(order.order_id, "it is CANCELLED", before=status)
    if status.is_finished:
        return refuse(
            order.order_id,
            f"it is in {status}: a generation would be skipped",
            before=status,
            hint=Remedy.run(Command.RESET, order.order_id, advice="to generate its site again"),
        )
    verdict = with_live_task(order, snapshot) or without_onboarding(order)
    if verdict is not None:
        return verdict
    if status.precedes_building and not order.is_held:
        return refuse(order.order_id, f"it is {status}, not yet BUILDING", before=status)
    return None if force else changed_recently(order, snapshot)


def _enqueue(order: Order, task_id: str, *, resume: bool = True, verb: str) -> Step:
    # Whoever reset it wants nothing of the old site, of which files may be left if that was cut short.
    was_reset = order.history.last_journal == OPERATOR_RESET and order.history.last_run is None
    return Step(
        order_id=order.order_id,
        action=Action.ENQUEUE,
        before=order.status,
        after=OrderStatus.GENERATING,
        last_log_id=order.last_log_id,
        publish=task_id,
        resume=resume and not was_reset,
        verb=verb,
    )
