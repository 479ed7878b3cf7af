"""Plan the fix of each order by its own condition: one plan for orders with different faults."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta

from sitegenctl.domain.condition import Condition, Diagnosis
from sitegenctl.domain.order import Order
from sitegenctl.domain.plan import Plan, Step, refuse
from sitegenctl.domain.planners.enqueueing import retry, start
from sitegenctl.domain.planners.repairing import REPAIRABLE, Repairer, RepairFacts, RepairOptions
from sitegenctl.domain.planners.resetting import reset, reset_empty
from sitegenctl.domain.planners.rules import without_onboarding, without_status
from sitegenctl.domain.result import Obstacle, Outcome
from sitegenctl.domain.run import MAX_ATTEMPTS
from sitegenctl.domain.snapshot import Snapshot

#: How long an empty order must have been unchanged.
EMPTY_FOR = timedelta(minutes=5)


def plan_fix(
    snapshot: Snapshot,
    order_ids: Collection[int] | None = None,
    *,
    max_attempts: int = MAX_ATTEMPTS,
    patience: timedelta = timedelta(0),
    new_task_id: Callable[[], str],
    facts: RepairFacts = RepairFacts(),  # noqa: B008 - a value
) -> Plan:
    """Decide for each order, or each of these, what fixes it; all sources must have responded.

    Orders without a fault are not in the plan, and of finished ones only those that are hollow. ``patience`` is how
    long the order of an orphaned task must have been unchanged.
    """
    options = RepairOptions(patience=patience, max_attempts=max_attempts)
    repairer = Repairer(snapshot=snapshot, options=options, new_task_id=new_task_id, facts=facts)
    steps: list[Step] = []
    left_alone: list[Outcome] = []
    for order_id in snapshot.known_ids():
        if order_ids is not None and order_id not in order_ids:
            continue
        decision = _decide(order_id, snapshot, repairer, max_attempts=max_attempts)
        if isinstance(decision, Step):
            steps.append(decision)
        elif decision is not None:
            left_alone.append(decision)
    return Plan(
        command="fix",
        order_ids=sorted([*(step.order_id for step in steps), *(outcome.order_id for outcome in left_alone)]),
        steps=steps,
        left_alone=left_alone,
        named=False,
    )


def _decide(order_id: int, snapshot: Snapshot, repairer: Repairer, *, max_attempts: int) -> Step | Outcome | None:
    diagnosis = snapshot.diagnose(order_id)
    order = snapshot.orders.get(order_id)
    new_task_id = repairer.new_task_id
    if diagnosis.condition in REPAIRABLE:
        return repairer.decide(diagnosis.condition, order_id)
    if diagnosis.condition is Condition.UNKNOWN:
        return _unknown(order_id, order, diagnosis, snapshot)
    if order is None:
        return None
    match diagnosis.condition:
        case Condition.FAILED:
            return retry(order, snapshot, max_attempts=max_attempts, new_task_id=new_task_id)
        case Condition.EMPTY:
            patience = max(EMPTY_FOR, snapshot.grace)
            return reset_empty(order, snapshot, patience=patience, max_attempts=max_attempts, new_task_id=new_task_id)
        case Condition.UNSTARTED:
            return start(order, snapshot, new_task_id=new_task_id)
        case Condition.HOLLOW:
            return reset(order, snapshot, new_task_id=new_task_id)
        case Condition.BLOCKED:
            return without_onboarding(order)
        case _:
            return None


def _unknown(order_id: int, order: Order | None, diagnosis: Diagnosis, snapshot: Snapshot) -> Outcome | None:
    """Why nothing may be done with an order of which not enough is known; nothing where waiting will tell."""
    if diagnosis.until is not None:
        return None
    if order is not None and (refused := without_status(order)):
        return refused
    if snapshot.tasks_of(order_id):
        obstacle = Obstacle.UNDATED
    else:
        obstacle = Obstacle.UNATTRIBUTED if snapshot.unattributed else Obstacle.FILES
    return refuse(
        order_id,
        diagnosis.evidence[0],
        before=order.status if order else None,
        hint=diagnosis.remedy,
        obstacle=obstacle,
    )
