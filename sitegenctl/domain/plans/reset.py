"""Plan resets: tasks revoked, files moved to the trash, a new task that starts from the beginning, or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import onboarding_warning
from sitegenctl.domain.diagnosis.describe import describe_age, describe_files
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Order, OrderStatus
from sitegenctl.domain.orders.run import RunOutcome
from sitegenctl.domain.plans.guards import (
    announced_recently,
    attempts_exhausted,
    changed_recently,
    describe_revoked,
    is_younger,
    not_revocable,
    possibly_live,
    without_onboarding,
    without_status,
)
from sitegenctl.domain.plans.plan import Action, Obstacle, Outcome, Plan, Step, refuse, skip
from sitegenctl.domain.queue.task import TaskState

#: How long an empty order must have been unchanged.
EMPTY_FOR = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class ResetOptions:
    """Running tasks are stopped only with ``terminate``; ``force`` includes orders changed within the grace period."""

    enqueue: bool = True
    keep_files: bool = False
    terminate: bool = False
    force: bool = False


def plan_reset(
    snapshot: Snapshot,
    order_ids: Sequence[int],
    options: ResetOptions = ResetOptions(),
    *,
    new_task_id: Callable[[], str],
) -> Plan:
    """Decide for each order whether it may be reset; all sources must have responded."""
    decisions: list[Step | Outcome] = []
    for order_id in order_ids:
        order = snapshot.orders.get(order_id)
        if order is None:
            decisions.append(refuse(order_id, "no such order"))
        else:
            decisions.append(reset(order, snapshot, options, new_task_id=new_task_id))
    return Plan.of("reset", decisions)


def reset(
    order: Order,
    snapshot: Snapshot,
    options: ResetOptions = ResetOptions(),
    *,
    new_task_id: Callable[[], str],
) -> Step | Outcome:
    """Reset one order, unless it must not be generated, or something of it can't be removed."""
    return _refusal(order, snapshot, options) or _reset(order, snapshot, options, new_task_id)


def plan_reset_empty(
    snapshot: Snapshot,
    *,
    min_files: int,
    older_than: timedelta,
    enqueue: bool,
    spare_failed: bool,
    max_attempts: int | None = None,
    new_task_id: Callable[[], str],
) -> Plan:
    """Reset every GENERATING order without a live task and with fewer than ``min_files`` files."""
    decisions: list[Step | Outcome] = []
    for order_id, order in snapshot.orders.items():
        if order.status is not OrderStatus.GENERATING or snapshot.tasks_of(order_id):
            continue
        run = order.history.last_run
        if spare_failed and run is not None and run.outcome is RunOutcome.ERROR:
            continue
        files = snapshot.files.get(order_id)
        if files is not None and files.count >= min_files:
            continue
        decisions.append(
            reset_empty(
                order,
                snapshot,
                older_than=older_than,
                options=ResetOptions(enqueue=enqueue),
                max_attempts=max_attempts,
                new_task_id=new_task_id,
            )
        )
    return Plan.of("reset-empty", decisions, named=False)


def reset_empty(
    order: Order,
    snapshot: Snapshot,
    *,
    older_than: timedelta = EMPTY_FOR,
    options: ResetOptions = ResetOptions(),
    max_attempts: int | None,
    new_task_id: Callable[[], str],
) -> Step | Outcome:
    """Reset one empty order, unless it changed recently, can't succeed, or may have a task."""
    files = snapshot.files.get(order.order_id)
    if files is None:
        return uncounted(order)
    if is_younger(order, max(older_than, snapshot.grace)):
        return skip(order, f"{describe_files(files)}, but it changed {describe_age(order.idle)} ago")
    return (
        without_onboarding(order)
        or possibly_live(order, snapshot)
        or attempts_exhausted(order, max_attempts)
        or _reset(order, snapshot, options, new_task_id)
    )


def _refusal(order: Order, snapshot: Snapshot, options: ResetOptions) -> Outcome | None:
    status, order_id = order.status, order.order_id
    if status is None:
        return without_status(order)
    if status is OrderStatus.CANCELLED:
        return refuse(order, "it is CANCELLED")
    if status.precedes_building:
        return refuse(order, f"it is {status}, not yet BUILDING")
    if options.enqueue and (blocked := without_onboarding(order)):
        return blocked
    tasks = snapshot.tasks_of(order_id)
    if refusal := not_revocable(order, tasks, snapshot, terminate=options.terminate):
        return refusal
    if not tasks and (live := possibly_live(order, snapshot)):
        return live
    if not options.keep_files and order_id not in snapshot.files:
        return uncounted(order)
    if options.force:
        return None
    return announced_recently(order, snapshot) or (None if tasks else changed_recently(order, snapshot))


def uncounted(order: Order) -> Outcome:
    """Refuse an order whose files are not known."""
    reason = "its files could not be counted: its folder is a link or can't be read"
    return refuse(order, reason, hint="check its folder in the sites directory", obstacle=Obstacle.FILES)


def _reset(order: Order, snapshot: Snapshot, options: ResetOptions, new_task_id: Callable[[], str]) -> Step:
    tasks = snapshot.tasks_of(order.order_id)
    files = snapshot.files.get(order.order_id)
    is_running = any(task.state is TaskState.RUNNING for task in tasks)
    details = [*onboarding_warning(order)] if options.enqueue else ["not enqueued"]
    if files is not None and files.count > 0:
        details.append(f"{describe_files(files)} {'kept' if options.keep_files else 'to the trash'}")
    return Step(
        order_id=order.order_id,
        action=Action.RESET,
        before=order.status,
        after=OrderStatus.GENERATING if options.enqueue else OrderStatus.BUILDING,
        last_log_id=None if is_running else order.last_log_id,
        revoke=tasks,
        terminate=options.terminate,
        # Also an empty folder, and one that appeared since: the new run must not find the old site.
        trash=not options.keep_files,
        files=files.count if files is not None else 0,
        publish=new_task_id() if options.enqueue else None,
        resume=False,
        idle=order.idle,
        verb="reset",
        details=(*details, *describe_revoked(tasks)),
    )
