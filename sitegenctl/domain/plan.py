"""Pure planners: a snapshot and options in, the steps to take and the orders left alone (and why) out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sitegenctl.domain.condition import describe_age, describe_task
from sitegenctl.domain.order import Onboarding, Order, OrderStatus
from sitegenctl.domain.result import Outcome, OutcomeKind
from sitegenctl.domain.snapshot import Snapshot


@dataclass(frozen=True, kw_only=True)
class EnqueueStep:
    """Enqueue one order, provided that it is still as the plan saw it.

    ``before`` and ``last_log_id`` are what the plan saw; ``task_id`` is chosen now, so that the journal can
    name it before the task exists.
    """

    order_id: int
    before: OrderStatus
    last_log_id: int
    task_id: str
    resume: bool


@dataclass(frozen=True, kw_only=True)
class EnqueuePlan:
    """The orders to enqueue, and those left alone with the reason; ``order_ids`` is the order asked for."""

    order_ids: Sequence[int]
    steps: Sequence[EnqueueStep]
    left_alone: Sequence[Outcome]


def plan_enqueue(
    snapshot: Snapshot,
    order_ids: Sequence[int],
    *,
    resume: bool,
    force: bool,
    new_task_id: Callable[[], str],
) -> EnqueuePlan:
    """Decide for each order whether it may be enqueued.

    The snapshot's database and broker must have answered. ``force`` enqueues a GENERATING order even though
    it moved within grace; nothing overrides a live task.
    """
    steps: list[EnqueueStep] = []
    left_alone: list[Outcome] = []
    for order_id in order_ids:
        order = snapshot.orders.get(order_id)
        if order is None:
            left_alone.append(_refuse(order_id, "no such order"))
            continue
        verdict = _why_not(order, snapshot, force=force)
        if verdict is not None:
            left_alone.append(verdict)
            continue
        assert order.status is not None  # noqa: S101 - _why_not has refused a NULL status
        steps.append(
            EnqueueStep(
                order_id=order_id,
                before=order.status,
                last_log_id=order.last_log_id,
                task_id=new_task_id(),
                resume=resume,
            )
        )
    return EnqueuePlan(order_ids=order_ids, steps=steps, left_alone=left_alone)


def _why_not(order: Order, snapshot: Snapshot, *, force: bool) -> Outcome | None:
    status = order.status
    if status is None:
        return _refuse(order.order_id, "its status is NULL", hint="a person must set site_orders.status")
    if status is OrderStatus.CANCELLED:
        return _refuse(order.order_id, "it is CANCELLED", before=status)
    if status.is_finished:
        return _refuse(
            order.order_id,
            f"it is in {status}: a generation would be skipped",
            before=status,
            hint="reset it to have its site made anew",
        )
    tasks = snapshot.tasks_of(order.order_id)
    if tasks:
        return Outcome(
            order_id=order.order_id,
            outcome=OutcomeKind.SKIPPED,
            reason=describe_task(tasks[0]),
            task_id=tasks[0].task_id,
            before=status,
            after=status,
            log_id=order.last_log_id,
        )
    if order.onboarding is not Onboarding.COMPLETE:
        what = "has no onboarding" if order.onboarding is Onboarding.MISSING else "onboarding is not complete"
        return _refuse(
            order.order_id,
            what,
            before=status,
            hint="a generation can't succeed before the onboarding is complete",
        )
    if status.precedes_building:
        return _refuse(order.order_id, f"it is {status}, not yet BUILDING", before=status)
    recent = order.idle is not None and order.idle < snapshot.grace
    if status is OrderStatus.GENERATING and recent and not force:
        return Outcome(
            order_id=order.order_id,
            outcome=OutcomeKind.SKIPPED,
            reason=f"it moved {describe_age(order.idle)} ago and may be on its way",
            before=status,
            after=status,
            hint=f"look again after {describe_age(snapshot.grace)}, or use --force",
        )
    return None


def _refuse(order_id: int, reason: str, *, before: OrderStatus | None = None, hint: str | None = None) -> Outcome:
    return Outcome(
        order_id=order_id, outcome=OutcomeKind.REFUSED, reason=reason, before=before, after=before, hint=hint
    )
