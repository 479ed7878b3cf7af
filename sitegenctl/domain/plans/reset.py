"""Which orders begin again from nothing: tasks withdrawn, files to the trash, a fresh task or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from sitegenctl.domain.diagnosis.describe import describe_age, describe_files
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Order, OrderStatus
from sitegenctl.domain.orders.run import RunOutcome
from sitegenctl.domain.orders.site import SiteFiles
from sitegenctl.domain.plans.guards import (
    announced_recently,
    given_up,
    is_younger,
    moved_recently,
    not_withdrawable,
    possibly_live,
    withdrawals,
    without_onboarding,
    without_status,
)
from sitegenctl.domain.plans.plan import Action, Plan, Step, refuse, skip
from sitegenctl.domain.plans.result import Obstacle, Outcome
from sitegenctl.domain.queue.task import TaskState


def plan_reset(
    snapshot: Snapshot,
    order_ids: Sequence[int],
    *,
    enqueue: bool,
    keep_files: bool,
    terminate: bool,
    force: bool,
    new_task_id: Callable[[], str],
) -> Plan:
    """Decide for each order whether it may be reset; all sources must have answered.

    A running task is withdrawn only with ``terminate``. ``force`` resets a GENERATING order even though it moved
    within grace.
    """
    decisions: list[Step | Outcome] = []
    for order_id in order_ids:
        order = snapshot.orders.get(order_id)
        if order is None:
            decisions.append(refuse(order_id, "no such order"))
            continue
        decision = reset(
            order,
            snapshot,
            enqueue=enqueue,
            keep_files=keep_files,
            terminate=terminate,
            force=force,
            new_task_id=new_task_id,
        )
        decisions.append(decision)
    return Plan.of("reset", decisions)


def reset(
    order: Order,
    snapshot: Snapshot,
    *,
    enqueue: bool = True,
    keep_files: bool = False,
    terminate: bool = False,
    force: bool = False,
    new_task_id: Callable[[], str],
) -> Step | Outcome:
    """Reset one order, unless it may not be generated, or something of it can't be removed."""
    verdict = _why_not(order, snapshot, enqueue=enqueue, keep_files=keep_files, terminate=terminate, force=force)
    if verdict is not None:
        return verdict
    return _reset(order, snapshot, new_task_id() if enqueue else None, keep_files=keep_files, terminate=terminate)


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
    """Reset every GENERATING order without a live task and with fewer than ``min_files`` files.

    One that moved within ``older_than`` (or grace, where that is longer), and one that has had ``max_attempts``, is
    left alone; a blocked one, and one whose files could not be counted, is refused. ``spare_failed`` passes over
    those whose last run ended in ERROR.
    """
    decisions: list[Step | Outcome] = []
    patience = max(older_than, snapshot.grace)
    for order_id, order in sorted(snapshot.orders.items()):
        if order.status is not OrderStatus.GENERATING or snapshot.tasks_of(order_id):
            continue
        run = order.history.last_run
        if spare_failed and run is not None and run.outcome is RunOutcome.ERROR:
            continue
        files = snapshot.files.get(order_id)
        if files is not None and files.count >= min_files:
            continue
        decision = reset_empty(
            order,
            snapshot,
            patience=patience,
            enqueue=enqueue,
            max_attempts=max_attempts,
            new_task_id=new_task_id,
        )
        decisions.append(decision)
    return Plan.of("reset-empty", decisions, named=False)


def reset_empty(
    order: Order,
    snapshot: Snapshot,
    *,
    patience: timedelta,
    enqueue: bool = True,
    max_attempts: int | None = None,
    new_task_id: Callable[[], str],
) -> Step | Outcome:
    """Reset one empty order, unless it was modified within ``patience``, can't succeed, or may have a task."""
    files = snapshot.files.get(order.order_id)
    verdict = _why_not_empty(order, files, snapshot, patience=patience, max_attempts=max_attempts)
    if verdict is not None:
        return verdict
    return _reset(order, snapshot, new_task_id() if enqueue else None, keep_files=False, terminate=False)


def _why_not(
    order: Order, snapshot: Snapshot, *, enqueue: bool, keep_files: bool, terminate: bool, force: bool
) -> Outcome | None:
    status, order_id = order.status, order.order_id
    if status is None:
        return without_status(order)
    if status is OrderStatus.CANCELLED:
        return refuse(order_id, "it is CANCELLED", before=status)
    if status.precedes_building:
        return refuse(order_id, f"it is {status}, not yet BUILDING", before=status)
    if enqueue and (blocked := without_onboarding(order)):
        return blocked
    tasks = snapshot.tasks_of(order_id)
    if verdict := not_withdrawable(order, order_id, tasks, snapshot, terminate=terminate):
        return verdict
    if not tasks and (live := possibly_live(order, snapshot)):
        return live
    if not keep_files and order_id not in snapshot.files:
        return _uncounted(order)
    if force:
        return None
    return announced_recently(order, snapshot) or (None if tasks else moved_recently(order, snapshot))


def _why_not_empty(
    order: Order, files: SiteFiles | None, snapshot: Snapshot, *, patience: timedelta, max_attempts: int | None
) -> Outcome | None:
    if files is None:
        return _uncounted(order)
    if is_younger(order, patience):
        moved = f"{describe_files(files)}, but it moved {describe_age(order.idle)} ago"
        return skip(order.order_id, moved, before=order.status)
    return without_onboarding(order) or possibly_live(order, snapshot) or given_up(order, max_attempts)


def _uncounted(order: Order) -> Outcome:
    return refuse(
        order.order_id,
        "its files could not be counted: its folder is a link, or can't be read",
        before=order.status,
        hint="look at its folder in the sites directory; nothing was done",
        obstacle=Obstacle.FILES,
    )


def _reset(order: Order, snapshot: Snapshot, task_id: str | None, *, keep_files: bool, terminate: bool) -> Step:
    tasks = snapshot.tasks_of(order.order_id)
    files = snapshot.files.get(order.order_id)
    runs = any(task.state is TaskState.RUNNING for task in tasks)
    details = [] if task_id else ["not enqueued"]
    if files is not None and files.count > 0:
        details.append(f"{describe_files(files)} {'kept' if keep_files else 'to the trash'}")
    details += withdrawals(tasks)
    return Step(
        order_id=order.order_id,
        action=Action.RESET,
        before=order.status,
        after=OrderStatus.GENERATING if task_id else OrderStatus.BUILDING,
        last_log_id=None if runs else order.last_log_id,
        revoke=tasks,
        terminate=terminate,
        # Also a folder with no file in it, and one that came since: nothing of the old site is to be met.
        trash=not keep_files,
        publish=task_id,
        resume=False,
        verb="reset",
        details=tuple(details),
    )
