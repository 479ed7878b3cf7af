"""Which orders go back to where nobody generates them: by name, or with the whole queue."""

from __future__ import annotations

from collections.abc import Sequence

from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Order, OrderStatus
from sitegenctl.domain.plans.guards import describe_revoked, not_revocable, possibly_live, waits, without_status
from sitegenctl.domain.plans.plan import Action, Plan, Step, refuse, skip
from sitegenctl.domain.plans.result import Outcome
from sitegenctl.domain.queue.task import LiveTask, TaskState

#: Where ``cancel`` may send an order: statuses that nobody generates from, and BUILDING, which is journaled as held.
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
    """Decide for each order whether it may be cancelled: its tasks withdrawn, its status set back.

    Only GENERATING and BUILDING orders are moved; a stray task of a finished, cancelled or missing order is
    withdrawn and the order left as it is.
    """
    steps: list[Step] = []
    left_alone: list[Outcome] = []
    for order_id in order_ids:
        order = snapshot.orders.get(order_id)
        tasks = snapshot.tasks_of(order_id)
        verdict = (
            (without_status(order) if order is not None else None)
            or not_revocable(order, order_id, tasks, snapshot, terminate=terminate)
            or _nothing_to_do(order, order_id, tasks, to)
            or (possibly_live(order, snapshot) if order is not None and not tasks else None)
        )
        if verdict is not None:
            left_alone.append(verdict)
        else:
            steps.append(_cancel(order, order_id, tasks, terminate=terminate, to=to))
    return Plan(
        command="cancel", order_ids=order_ids, steps=steps, left_alone=left_alone, notes=_beat_notes(steps, snapshot)
    )


def plan_purge(snapshot: Snapshot) -> Plan:
    """Cancel every order whose tasks all wait in the queue; what workers hold survives, and is said.

    Tasks of ours that name no order are left in the queue, as foreign messages are.
    """
    steps: list[Step] = []
    left_alone: list[Outcome] = []
    # In the order of delivery: from the end that is next Redis finds a message at once, in the middle it has to search.
    waiting_tasks = sorted(
        (task for task in snapshot.tasks if waits(task)), key=lambda task: (task.position is None, task.position or 0)
    )
    queued = list(dict.fromkeys(task.order_id for task in waiting_tasks if task.order_id is not None))
    for order_id in queued:
        order = snapshot.orders.get(order_id)
        tasks = snapshot.tasks_of(order_id)
        waiting = tuple(task for task in tasks if waits(task))
        if order is not None and (refused := without_status(order)):
            left_alone.append(refused)
        elif len(waiting) == len(tasks):
            steps.append(_cancel(order, order_id, tasks, terminate=False, to=OrderStatus.BUILDING))
        else:
            others = [task for task in tasks if not waits(task)]
            left_alone.append(
                refuse(
                    order_id,
                    f"a worker has another task of it: {others[0].task_id} {others[0].state}",
                    before=order.status if order else None,
                    hint=Remedy.run(Command.REPAIR, order_id),
                )
            )
    return Plan(
        command="queue purge",
        order_ids=queued,
        steps=steps,
        left_alone=left_alone,
        notes=_beat_notes(steps, snapshot),
    )


def _beat_notes(steps: Sequence[Step], snapshot: Snapshot) -> tuple[str, ...]:
    """A warning where the system's beat starts orders again that were just cancelled; it knows nothing of that."""
    restarted = [
        step.order_id
        for step in steps
        if step.after is OrderStatus.BUILDING and snapshot.orders[step.order_id].is_ready_for_beat
    ]
    if not restarted:
        return ()
    which = f"order {restarted[0]}" if len(restarted) == 1 else f"{len(restarted)} of these orders"
    return (
        f"the system's beat will start {which} again: onboarding is complete;"
        " to prevent that, cancel with --to ONBOARDING_PENDING",
    )


def _nothing_to_do(order: Order | None, order_id: int, tasks: tuple[LiveTask, ...], to: OrderStatus) -> Outcome | None:
    if tasks:
        return None
    if order is None:
        return refuse(order_id, "no such order")
    if not _is_moved(order):
        return skip(order_id, f"it is {order.status}, and has no task", before=order.status)
    if order.status is to and order.is_held:
        return skip(order_id, "it is held already", before=order.status)
    return None


def _is_moved(order: Order) -> bool:
    return order.status in (OrderStatus.BUILDING, OrderStatus.GENERATING)


def _cancel(
    order: Order | None, order_id: int, tasks: tuple[LiveTask, ...], *, terminate: bool, to: OrderStatus
) -> Step:
    runs = any(task.state is TaskState.RUNNING for task in tasks)
    moves = order is not None and _is_moved(order)
    details = ["held"] if moves else []
    return Step(
        order_id=order_id,
        action=Action.CANCEL,
        before=order.status if order else None,
        after=to if moves else None,
        last_log_id=None if runs or order is None else order.last_log_id,
        revoke=tasks,
        terminate=terminate,
        verb="cancelled" if moves else "revoked",
        details=(*details, *describe_revoked(tasks)),
    )
