"""Which tasks go to another queue: those that wait, and that nobody has in hand."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sitegenctl.domain.diagnosis.describe import describe_task
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Order
from sitegenctl.domain.plans.guards import short_id, waits, without_status
from sitegenctl.domain.plans.plan import Action, Plan, Step, skip
from sitegenctl.domain.plans.result import Outcome
from sitegenctl.domain.queue.task import LiveTask


@dataclass(frozen=True, kw_only=True)
class Moving:
    """A plan to move tasks to another queue, and those that stay; ``foreign`` messages do, too."""

    plan: Plan
    staying: Sequence[LiveTask]
    foreign: int


def plan_move(snapshot: Snapshot, elsewhere: Collection[LiveTask], destination: str) -> Moving:
    """Move every task that waits, as it is: a ghost or a second one of its order is one there as well.

    ``elsewhere`` are the tasks of the queue to move to: an order that has one there would have two.
    """
    moving = sorted((task for task in snapshot.tasks if waits(task)), key=_turn)
    staying = [task for task in snapshot.tasks if not waits(task)]
    there = {task.order_id: task for task in elsewhere}
    steps: list[Step] = []
    left_alone: list[Outcome] = []
    by_order: dict[int, list[LiveTask]] = {}
    for task in moving:
        if task.order_id is not None:
            by_order.setdefault(task.order_id, []).append(task)
    for order_id, tasks in by_order.items():
        order = snapshot.orders.get(order_id)
        in_hand = [task for task in snapshot.tasks_of(order_id) if not waits(task)]
        refused = without_status(order) if order is not None else None
        if refused is not None:
            left_alone.append(refused)
        elif in_hand:
            left_alone.append(
                skip(
                    order_id,
                    f"it has another task, which doesn't wait: {describe_task(in_hand[0])}",
                    before=order.status if order else None,
                    task_id=in_hand[0].task_id,
                    hint=f"sitegenctl repair {order_id}",
                )
            )
        elif order_id in there:
            left_alone.append(
                skip(
                    order_id,
                    f"it has a task in {destination} already: {describe_task(there[order_id])}",
                    before=order.status if order else None,
                    task_id=there[order_id].task_id,
                    hint="one of the two must go: sitegenctl cancel, and enqueue where it is to run",
                )
            )
        else:
            steps.append(_step(order, order_id, tuple(tasks), destination))
    plan = Plan(command="queue move", order_ids=list(by_order), steps=steps, left_alone=left_alone)
    return Moving(plan=plan, staying=staying, foreign=len(snapshot.foreign))


def _turn(task: LiveTask) -> tuple[bool, int, str]:
    return task.position is None, task.position or 0, task.eta.isoformat() if task.eta else ""


def _step(order: Order | None, order_id: int, tasks: tuple[LiveTask, ...], destination: str) -> Step:
    return Step(
        order_id=order_id,
        action=Action.MOVE,
        before=order.status if order else None,
        last_log_id=order.last_log_id if order else None,
        move=tasks,
        destination=destination,
        verb=f"moved to {destination}",
        details=tuple(f"task {short_id(task.task_id)} {task.state}" for task in tasks),
    )
