"""Plan the fix of each order by its own condition: one plan for orders with different faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Condition, Diagnosis, Severity
from sitegenctl.domain.diagnosis.describe import describe_time
from sitegenctl.domain.diagnosis.remedy import Command
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Order
from sitegenctl.domain.orders.run import MAX_ATTEMPTS
from sitegenctl.domain.plans.enqueue import retry, start
from sitegenctl.domain.plans.guards import without_onboarding, without_status
from sitegenctl.domain.plans.plan import Obstacle, Outcome, Plan, Step, refuse
from sitegenctl.domain.plans.repair import Repair, RepairFacts, RepairOptions
from sitegenctl.domain.plans.reset import reset, reset_empty

_RANKS = {Severity.FAULT: 0, Severity.UNKNOWN: 1, Severity.OK: 2}


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
    known = snapshot.known_ids()
    selected = known if order_ids is None else sorted(set(known).intersection(order_ids))
    decided = (
        _decide(Repair(order_id=each, snapshot=snapshot, options=options, new_task_id=new_task_id, facts=facts))
        for each in selected
    )
    return Plan.of("fix", [decision for decision in decided if decision is not None], named=False)


def fix_obstacle(snapshot: Snapshot, order_ids: Collection[int], *, max_attempts: int = MAX_ATTEMPTS) -> str | None:
    """Say in one line why fixing these orders would change nothing; None where it would change something."""
    plan = plan_fix(snapshot, order_ids, max_attempts=max_attempts, new_task_id=lambda: "new")
    if plan.steps:
        return None
    reasons = {outcome.order_id: outcome.reason for outcome in plan.left_alone}
    by_need = sorted(
        order_ids, key=lambda order_id: (order_id not in reasons, _RANKS[snapshot.diagnose(order_id).severity])
    )
    all_reasons = [
        reasons.get(order_id) or _why_left_out(snapshot.diagnose(order_id), snapshot) for order_id in by_need
    ]
    if len(all_reasons) == 1:
        return all_reasons[0]
    (first, count), *others = Counter(all_reasons).items()
    if not others:
        return f"{len(all_reasons)} orders: {first}"
    return f"{count} of {len(all_reasons)} orders: {first}; the others need none, or cannot be fixed"


def _why_left_out(diagnosis: Diagnosis, snapshot: Snapshot) -> str:
    """Why an order is not in the plan at all: it has no fault, or only needs to wait."""
    if diagnosis.until is not None:
        return f"it is unknown until {describe_time(diagnosis.until, snapshot.taken_at)}"
    if diagnosis.condition is Condition.UNKNOWN:
        return diagnosis.evidence[0]
    if diagnosis.condition is Condition.HELD:
        return "it is on hold; enqueue starts it again"
    if diagnosis.condition is Condition.SETTLING:
        return "it changed a moment ago; re-check after the grace period"
    return f"it is {diagnosis.condition}, and needs no fix"


def _decide(repair: Repair) -> Step | Outcome | None:
    order, snapshot, new_task_id = repair.order, repair.snapshot, repair.new_task_id
    max_attempts = repair.options.max_attempts or MAX_ATTEMPTS
    diagnosis = snapshot.diagnose(repair.order_id)
    condition = diagnosis.condition
    if condition.command is Command.REPAIR:
        return repair.decide(condition)
    if condition is Condition.UNKNOWN:
        return _unknown(repair.order_id, order, diagnosis, snapshot)
    if order is None:
        return None
    match condition.command:
        case Command.RETRY_FAILED:
            return retry(order, snapshot, max_attempts=max_attempts, new_task_id=new_task_id)
        case Command.RESET_EMPTY:
            return reset_empty(order, snapshot, max_attempts=max_attempts, new_task_id=new_task_id)
        case Command.START_STUCK:
            return start(order, snapshot, new_task_id=new_task_id)
        case Command.RESET:
            return reset(order, snapshot, new_task_id=new_task_id)
        case _:
            return without_onboarding(order) if condition is Condition.BLOCKED else None


def _unknown(order_id: int, order: Order | None, diagnosis: Diagnosis, snapshot: Snapshot) -> Outcome | None:
    """Refuse an order about which too little is known; None if waiting is enough."""
    if diagnosis.until is not None:
        return None
    if order is not None and (refused := without_status(order)):
        return refused
    if snapshot.tasks_of(order_id):
        obstacle = Obstacle.UNDATED
    else:
        obstacle = Obstacle.UNATTRIBUTED if snapshot.reading.unattributed else Obstacle.FILES
    return refuse(order or order_id, diagnosis.evidence[0], hint=diagnosis.remedy, obstacle=obstacle)
