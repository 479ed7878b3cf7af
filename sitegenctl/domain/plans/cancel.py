"""Plan cancellations: of the selected orders, or of all that wait in the queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Order, OrderStatus
from sitegenctl.domain.plans.guards import describe_revoked, not_revocable, possibly_live, waits, without_status
from sitegenctl.domain.plans.plan import Action, Outcome, Plan, Step, refuse, skip
from sitegenctl.domain.queue.task import LiveTask, TaskState

#: Where ``cancel`` may send an order: statuses that nothing generates from, and BUILDING, which is journaled as held.
CANCEL_TARGETS = (
    OrderStatus.PENDING_PAYMENT,
    OrderStatus.PAID,
    OrderStatus.ONBOARDING_PENDING,
    OrderStatus.BUILDING,
    OrderStatus.CANCELLED,
)


def plan_cancel(
    snapshot: Snapshot, order_ids: Sequence[int], *, terminate: bool, to: OrderStatus = OrderStatus.BUILDING
) -> Plan:
    """Decide for each order whether it may be cancelled: its tasks revoked, its status set to ``to``."""
    decisions: list[Step | Outcome] = []
    for order_id in order_ids:
        order = snapshot.orders.get(order_id)
        tasks = snapshot.tasks_of(order_id)
        decisions.append(
            (without_status(order) if order is not None else None)
            or not_revocable(order or order_id, tasks, snapshot, terminate=terminate)
            or (None if tasks else _without_task(order, order_id, snapshot, to))
            or _cancel(order, order_id, tasks, terminate=terminate, to=to)
        )
    return _with_notes(Plan.of("cancel", decisions), snapshot)


def plan_purge(snapshot: Snapshot) -> Plan:
    """Cancel every order whose tasks all wait in the queue; tasks that workers hold survive.

    Tasks of ours without an order stay in the queue, as foreign messages do.
    """
    decisions: list[Step | Outcome] = []
    # In the order of delivery: Redis finds a message next to be delivered at once, but searches for one in the middle.
    waiting = sorted(
        (task for task in snapshot.tasks if waits(task)), key=lambda task: (task.position is None, task.position or 0)
    )
    for order_id in dict.fromkeys(task.order_id for task in waiting if task.order_id is not None):
        order = snapshot.orders.get(order_id)
        tasks = snapshot.tasks_of(order_id)
        at_worker = next((task for task in tasks if not waits(task)), None)
        if order is not None and (refusal := without_status(order)):
            decisions.append(refusal)
        elif at_worker is None:
            decisions.append(_cancel(order, order_id, tasks, terminate=False, to=OrderStatus.BUILDING))
        else:
            reason = f"a worker has another task of this order: {at_worker.task_id} {at_worker.state}"
            decisions.append(refuse(order or order_id, reason, hint=Remedy.run(Command.REPAIR, order_id)))
    return _with_notes(Plan.of("queue purge", decisions, named=False), snapshot)


def _with_notes(plan: Plan, snapshot: Snapshot) -> Plan:
    """Add a warning if the system's beat will start cancelled orders again; it does not know that they are on hold."""
    restarted = [
        step.order_id
        for step in plan.steps
        if step.after is OrderStatus.BUILDING and snapshot.orders[step.order_id].is_ready_for_beat
    ]
    if not restarted:
        return plan
    which = f"order {restarted[0]}" if len(restarted) == 1 else f"{len(restarted)} of these orders"
    note = (
        f"the system's beat will start {which} again: onboarding is complete;"
        " to prevent that, cancel with --to ONBOARDING_PENDING"
    )
    return replace(plan, notes=(note,))


def _without_task(order: Order | None, order_id: int, snapshot: Snapshot, to: OrderStatus) -> Outcome | None:
    if order is None:
        return refuse(order_id, "no such order")
    if not order.is_open:
        return skip(order, f"it is {order.status}, and has no task")
    if order.status is to and order.is_held:
        return skip(order, "already on hold")
    return possibly_live(order, snapshot)


def _cancel(
    order: Order | None, order_id: int, tasks: tuple[LiveTask, ...], *, terminate: bool, to: OrderStatus
) -> Step:
    is_running = any(task.state is TaskState.RUNNING for task in tasks)
    sets_status = order is not None and order.is_open
    return Step(
        order_id=order_id,
        action=Action.CANCEL,
        before=order.status if order else None,
        after=to if sets_status else None,
        last_log_id=None if is_running or order is None else order.last_log_id,
        revoke=tasks,
        terminate=terminate,
        idle=order.idle if order else None,
        verb="cancelled" if sets_status else "revoked",
        details=(*(["on hold"] if sets_status else []), *describe_revoked(tasks)),
    )
