"""What every planner asks of an order before it touches it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import NO_STATUS_REMEDY, REMOVE_MESSAGE, fix_then_reset
from sitegenctl.domain.diagnosis.describe import describe_age, describe_task, describe_time
from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Onboarding, Order, OrderStatus
from sitegenctl.domain.orders.run import OPERATOR_FAILED_SUFFIX
from sitegenctl.domain.plans.plan import refuse, skip
from sitegenctl.domain.plans.result import Obstacle, Outcome, OutcomeKind
from sitegenctl.domain.queue.task import LiveTask, TaskState

#: States in which a task may be held until it is due, by a worker or by the queue itself.
_HELD_BACK = (TaskState.SCHEDULED, TaskState.RETRYING)


def waits(task: LiveTask) -> bool:
    """Whether the task is in nobody's hands: in the queue, or held by the queue itself until it is due."""
    if task.worker is not None:
        return False
    return task.position is not None or (task.state in _HELD_BACK and task.eta is not None)


def without_status(order: Order) -> Outcome | None:
    """Refuse an order whose status is NULL, or one that this release doesn't know."""
    problem = order.status_problem
    if problem is None:
        return None
    hint = NO_STATUS_REMEDY if order.label is None else None
    return refuse(order.order_id, problem, hint=hint, obstacle=Obstacle.STATUS)


def without_onboarding(order: Order) -> Outcome | None:
    """Refuse an order that no generation can ever succeed for."""
    if order.onboarding is Onboarding.COMPLETE:
        return None
    what = "has no onboarding" if order.onboarding is Onboarding.MISSING else "onboarding is not complete"
    return refuse(
        order.order_id,
        what,
        before=order.status,
        hint="a generation can't succeed before the onboarding is complete",
        obstacle=Obstacle.ONBOARDING,
    )


def with_live_task(order: Order, snapshot: Snapshot) -> Outcome | None:
    """Leave an order alone that has a live task; refuse where it may have one."""
    tasks = snapshot.tasks_of(order.order_id)
    if not tasks:
        return possibly_live(order, snapshot)
    if tasks[0].is_unaccounted:
        known = unaccounted(order, order.order_id, tasks[0], snapshot)
        return replace(known, task_id=tasks[0].task_id, log_id=order.last_log_id)
    return skip(
        order.order_id,
        describe_task(tasks[0]),
        before=order.status,
        task_id=tasks[0].task_id,
        log_id=order.last_log_id,
    )


def unaccounted(order: Order | None, order_id: int, task: LiveTask, snapshot: Snapshot) -> Outcome:
    """Refuse while a delivered task may still be running somewhere."""
    may = "a worker that is shutting down, paused or cut off may still be running it"
    when = f" until {describe_time(task.until, snapshot.taken_at)}" if task.until is not None else ""
    return refuse(
        order_id,
        f"task {short_id(task.task_id)} is unaccounted: no worker that responds has it; {may}{when}",
        before=order.status if order else None,
        hint=_worker_dead(order_id),
        obstacle=Obstacle.UNDATED if task.until is None else None,
    )


def _worker_dead(order_id: int) -> Remedy:
    advice = "wait; or, once its worker is known to be dead"
    return Remedy.run(Command.REPAIR, order_id, advice=advice, worker_dead=True)


def possibly_live(order: Order, snapshot: Snapshot) -> Outcome | None:
    """Refuse an order without a known task of which one may be live all the same."""
    if order.run_lock_held:
        return skip(order.order_id, "its run lock is held in PostgreSQL: it is running", before=order.status)
    if snapshot.unattributed:
        return refuse(
            order.order_id,
            "a message of our task cannot be attributed to an order, and may be of this one",
            before=order.status,
            hint=REMOVE_MESSAGE,
            obstacle=Obstacle.UNATTRIBUTED,
        )
    if order.order_id in snapshot.possible:
        until = snapshot.possible[order.order_id]
        when = f" until {describe_time(until, snapshot.taken_at)}" if until is not None else ""
        return refuse(
            order.order_id,
            f"its last run has no outcome and may still be going{when}",
            before=order.status,
            hint=_worker_dead(order.order_id),
            obstacle=Obstacle.UNDATED if until is None else None,
        )
    return None


def reconnecting(order: Order | None, order_id: int, task: LiveTask, snapshot: Snapshot) -> Outcome | None:
    """Leave an orphaned task alone whose worker may be on its way back to a Redis that has just restarted."""
    if task.state is not TaskState.ORPHANED or task.until is None:
        return None
    return skip(
        order_id,
        "Redis has restarted a moment ago: its worker may be on its way back",
        before=order.status if order is not None else None,
        task_id=task.task_id,
        hint=f"re-check in {describe_age(task.until - snapshot.taken_at)}",
    )


def changed_recently(order: Order, snapshot: Snapshot) -> Outcome | None:
    """Leave a GENERATING order alone that moved within grace: its task may be on its way."""
    if order.status is not OrderStatus.GENERATING or not is_younger(order, snapshot.grace):
        return None
    return skip(
        order.order_id,
        f"it moved {describe_age(order.idle)} ago and may be on its way",
        before=order.status,
        hint=f"look again after {describe_age(snapshot.grace)}, or use --force",
    )


def announced_recently(order: Order, snapshot: Snapshot) -> Outcome | None:
    """Leave a GENERATING order alone for which the journal has just announced a task that is not there yet.

    Whoever announced it may still be withdrawing the old one. Two who did that at once would publish a task each.
    """
    journal = order.journal
    if journal is None or journal.task_id is None or journal.step.endswith(OPERATOR_FAILED_SUFFIX):
        return None
    if order.status is not OrderStatus.GENERATING or journal.age is None or journal.age >= snapshot.grace:
        return None
    if any(task.task_id == journal.task_id for task in snapshot.tasks_of(order.order_id)):
        return None
    return skip(
        order.order_id,
        f"task {short_id(str(journal.task_id))} was announced {describe_age(journal.age)} ago and may be on its way",
        before=order.status,
        hint=f"look again after {describe_age(snapshot.grace)}, or use --force",
    )


def used_up(order: Order, max_attempts: int, *, hint: Hint) -> Outcome | None:
    """Leave an order alone that has had so many attempts."""
    attempts = order.history.attempts
    if attempts < max_attempts:
        return None
    return skip(
        order.order_id,
        f"its attempts are used up: {attempts} of {max_attempts}",
        before=order.status,
        hint=hint,
        obstacle=Obstacle.ATTEMPTS_EXHAUSTED,
    )


def attempts_exhausted(order: Order, max_attempts: int | None) -> Outcome | None:
    """Leave an order alone that was cut short each time, where there is a maximum: it may be what kills its worker."""
    if max_attempts is None:
        return None
    return used_up(order, max_attempts, hint=fix_then_reset(order.order_id))


def is_younger(order: Order, age: timedelta) -> bool:
    """Whether the order moved within this time; one without any timestamp did not."""
    return order.idle is not None and order.idle < age


def not_revocable(
    order: Order | None, order_id: int, tasks: Iterable[LiveTask], snapshot: Snapshot, *, terminate: bool
) -> Outcome | None:
    """Refuse where a task can't be removed, or must not be."""
    before = order.status if order else None
    for task in tasks:
        if task.is_unaccounted:
            return unaccounted(order, order_id, task, snapshot)
        if waiting := reconnecting(order, order_id, task, snapshot):
            return replace(waiting, outcome=OutcomeKind.REFUSED)
        if task.part_of is not None:
            return refuse(
                order_id,
                f"task {short_id(task.task_id)} is part of {task.part_of}, and can't be removed by itself",
                before=before,
                obstacle=Obstacle.NOT_REMOVABLE,
            )
        if task.state is TaskState.RUNNING and task.worker is None:
            return refuse(
                order_id,
                f"{describe_task(task)}: its worker does not respond, and so can't be told to stop it",
                before=before,
                hint="wait: it ends by itself, or by its time limit",
                obstacle=Obstacle.NOT_REMOVABLE,
            )
        if task.state is TaskState.RUNNING and not terminate:
            return refuse(
                order_id,
                describe_task(task),
                before=before,
                hint="--terminate stops a running task",
                obstacle=Obstacle.RUNNING,
            )
    return None


def describe_revoked(tasks: Iterable[LiveTask]) -> list[str]:
    """Say of each task how it is taken away."""
    return [
        f"task {short_id(task.task_id)} {'stopped' if task.state is TaskState.RUNNING else 'revoked'}" for task in tasks
    ]


def short_id(task_id: str) -> str:
    """As much of a task's id as people need to tell it from others; the journal has all of it."""
    return task_id[:8]
