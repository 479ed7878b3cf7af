"""Guards that every plan applies to an order: an outcome leaves it alone, None lets it pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from sitegenctl.domain.diagnosis.condition import NO_STATUS_REMEDY, REMOVE_MESSAGE, fix_then_reset
from sitegenctl.domain.diagnosis.describe import describe_age, describe_exhausted, describe_task, describe_time
from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Onboarding, Order, OrderStatus
from sitegenctl.domain.orders.run import OPERATOR_FAILED_SUFFIX
from sitegenctl.domain.plans.plan import Obstacle, Outcome, OutcomeKind, refuse, skip
from sitegenctl.domain.queue.task import LiveTask, TaskState

#: States in which a task may be held until it is due, by a worker or by the queue itself.
_HELD_BACK = (TaskState.SCHEDULED, TaskState.RETRYING)


def waits(task: LiveTask) -> bool:
    """Whether no worker has the task: it is in the queue, or the queue holds it until it is due."""
    if task.worker is not None:
        return False
    return task.position is not None or (task.state in _HELD_BACK and task.eta is not None)


def is_younger(order: Order, age: timedelta) -> bool:
    """Whether the order changed within this time; one without any timestamp did not."""
    return order.idle is not None and order.idle < age


def without_status(order: Order) -> Outcome | None:
    """Refuse an order whose status is NULL or unknown to this release."""
    if order.status_problem is None:
        return None
    hint = NO_STATUS_REMEDY if order.label is None else None
    return refuse(order.order_id, order.status_problem, hint=hint, obstacle=Obstacle.STATUS)


def without_onboarding(order: Order) -> Outcome | None:
    """Refuse an order whose generation can't succeed."""
    if order.onboarding is not Onboarding.MISSING:
        return None
    hint = "a generation can't succeed without an onboarding"
    return refuse(order, "has no onboarding", hint=hint, obstacle=Obstacle.ONBOARDING)


def possibly_live(order: Order, snapshot: Snapshot) -> Outcome | None:
    """Skip an order with a live task; refuse it where it may have one."""
    if tasks := snapshot.tasks_of(order.order_id):
        task_id, log_id = tasks[0].task_id, order.last_log_id
        if tasks[0].is_unaccounted:
            return replace(_unaccounted(order, tasks[0], snapshot), task_id=task_id, log_id=log_id)
        return skip(order, describe_task(tasks[0]), task_id=task_id, log_id=log_id)
    if order.run_lock_held:
        return skip(order, "its run lock is held in PostgreSQL: it is running")
    if snapshot.reading.unattributed:
        reason = "a message of our task cannot be attributed to an order, and may be of this one"
        return refuse(order, reason, hint=REMOVE_MESSAGE, obstacle=Obstacle.UNATTRIBUTED)
    if order.order_id in snapshot.possible:
        until = snapshot.possible[order.order_id]
        return _until(order, "its last run has no outcome and may still be going", until, snapshot)
    return None


def reconnecting(order: Order | int, task: LiveTask, snapshot: Snapshot) -> Outcome | None:
    """Skip an orphaned task while its worker may reconnect to a Redis that has just restarted."""
    if task.state is not TaskState.ORPHANED or task.until is None:
        return None
    return skip(
        order,
        "Redis has just restarted: its worker may reconnect",
        task_id=task.task_id,
        hint=f"re-check in {describe_age(task.until - snapshot.taken_at)}",
    )


def changed_recently(order: Order, snapshot: Snapshot) -> Outcome | None:
    """Skip a GENERATING order that changed within the grace period: its task may be on its way."""
    if order.status is not OrderStatus.GENERATING or not is_younger(order, snapshot.grace):
        return None
    reason = f"it changed {describe_age(order.idle)} ago and may be on its way"
    return skip(order, reason, hint=f"re-check after {describe_age(snapshot.grace)}, or use --force")


def announced_recently(order: Order, snapshot: Snapshot) -> Outcome | None:
    """Skip a GENERATING order if the journal has just announced a task that does not exist yet.

    The process that announced it may still be revoking the old task. Two such processes would publish a task each.
    """
    journal = order.journal
    if journal is None or journal.task_id is None or journal.step.endswith(OPERATOR_FAILED_SUFFIX):
        return None
    if order.status is not OrderStatus.GENERATING or journal.age is None or journal.age >= snapshot.grace:
        return None
    if any(task.task_id == journal.task_id for task in snapshot.tasks_of(order.order_id)):
        return None
    reason = f"task {short_id(journal.task_id)} was announced {describe_age(journal.age)} ago and may be on its way"
    return skip(order, reason, hint=f"re-check after {describe_age(snapshot.grace)}, or use --force")


def attempts_exhausted(order: Order, max_attempts: int | None, *, hint: Hint | None = None) -> Outcome | None:
    """Skip an order with ``max_attempts`` attempts, if there is a maximum: it may be what kills its worker."""
    attempts = order.history.attempts
    if max_attempts is None or attempts < max_attempts:
        return None
    reason = describe_exhausted(attempts, max_attempts)
    return skip(order, reason, hint=hint or fix_then_reset(order.order_id), obstacle=Obstacle.ATTEMPTS_EXHAUSTED)


def not_revocable(
    order: Order | int, tasks: Iterable[LiveTask], snapshot: Snapshot, *, terminate: bool
) -> Outcome | None:
    """Refuse an order if one of these tasks can't or must not be removed."""
    for task in tasks:
        if task.is_unaccounted:
            return _unaccounted(order, task, snapshot)
        if waiting := reconnecting(order, task, snapshot):
            return replace(waiting, outcome=OutcomeKind.REFUSED)
        if task.part_of is not None:
            reason = f"task {short_id(task.task_id)} is part of {task.part_of}, and can't be removed by itself"
            return refuse(order, reason, obstacle=Obstacle.NOT_REMOVABLE)
        if task.state is TaskState.RUNNING and task.worker is None:
            reason = f"{describe_task(task)}: its worker does not respond, so it can't be stopped"
            hint = "wait: it ends by itself, or by its time limit"
            return refuse(order, reason, hint=hint, obstacle=Obstacle.NOT_REMOVABLE)
        if task.state is TaskState.RUNNING and not terminate:
            hint = "--terminate stops a running task"
            return refuse(order, describe_task(task), hint=hint, obstacle=Obstacle.RUNNING)
    return None


def describe_revoked(tasks: Iterable[LiveTask]) -> list[str]:
    """What happens to each of these tasks."""
    return [
        f"task {short_id(task.task_id)} {'stopped' if task.state is TaskState.RUNNING else 'revoked'}" for task in tasks
    ]


def short_id(task_id: str) -> str:
    """Enough of a task's id to recognise it; the journal has all of it."""
    return task_id[:8]


def _unaccounted(order: Order | int, task: LiveTask, snapshot: Snapshot) -> Outcome:
    may = "a worker that is shutting down, paused or cut off may still be running it"
    reason = f"task {short_id(task.task_id)} is unaccounted: no worker that responds has it; {may}"
    return _until(order, reason, task.until, snapshot)


def _until(order: Order | int, reason: str, until: datetime | None, snapshot: Snapshot) -> Outcome:
    """Refuse an order that may be running until then; None: nothing says until when."""
    when = f" until {describe_time(until, snapshot.taken_at)}" if until is not None else ""
    order_id = order if isinstance(order, int) else order.order_id
    advice = "wait; or, once its worker is known to be dead"
    hint = Remedy.run(Command.REPAIR, order_id, advice=advice, worker_dead=True)
    return refuse(order, f"{reason}{when}", hint=hint, obstacle=Obstacle.UNDATED if until is None else None)
