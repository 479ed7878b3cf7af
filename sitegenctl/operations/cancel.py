"""Taking orders out of the queue: named ones, or every one that waits in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from sitegenctl.domain.condition import DEFAULT_GRACE, Source
from sitegenctl.domain.health_orders import BEAT_TASK
from sitegenctl.domain.order import OrderStatus
from sitegenctl.domain.plan import Plan
from sitegenctl.domain.planners.cancelling import plan_cancel, plan_purge
from sitegenctl.domain.planners.rules import waits
from sitegenctl.domain.ports import OrdersStore, QueueBackend
from sitegenctl.domain.snapshot import Snapshot
from sitegenctl.domain.task import TaskState
from sitegenctl.errors import SourceError
from sitegenctl.operations.belief import Belief
from sitegenctl.operations.observe import observe, observe_live, require
from sitegenctl.operations.planning import Planning, planning_for

#: What to know where the system's own beat is alive: it doesn't know of held orders.
BEAT_NOTE = (
    "the system's own beat is alive and starts BUILDING orders, held or not;"
    " to keep one from it: --to ONBOARDING_PENDING"
)


@dataclass(frozen=True, kw_only=True)
class Purge:
    """A plan to purge the queue, and how much of what is live survives it, by state; ``foreign`` messages too."""

    plan: Plan
    survivors: dict[TaskState, int]
    foreign: int


def plan(
    orders: OrdersStore,
    queue: QueueBackend,
    order_ids: Sequence[int],
    *,
    terminate: bool = False,
    to: OrderStatus = OrderStatus.BUILDING,
    grace: timedelta = DEFAULT_GRACE,
) -> Planning:
    """Look, and decide which of these orders to cancel. Raises ``SourceError`` if a source is away."""

    async def window(ids: Sequence[int], _: Belief | None) -> Plan:
        # The whole queue: messages of the system's own beat are of interest too.
        snapshot = await observe(orders, queue, None, ids, grace=grace)
        require(snapshot, Source.DATABASE, Source.BROKER, Source.WORKERS)
        cancelling = plan_cancel(snapshot, ids, terminate=terminate, to=to)
        if any(step.after is OrderStatus.BUILDING for step in cancelling.steps) and await _beat_lives(queue, snapshot):
            cancelling = replace(cancelling, notes=(*cancelling.notes, BEAT_NOTE))
        return cancelling

    return planning_for(queue, order_ids, window)


async def _beat_lives(queue: QueueBackend, snapshot: Snapshot) -> bool:
    """Whether the system's own beat shows itself: its messages in the queue, or its task among those done."""
    if any(message.name == BEAT_TASK for message in snapshot.foreign):
        return True
    try:
        roster = await queue.worker_details()
    except SourceError:
        # It answered a moment ago; a note is not worth failing for.
        return False
    return any(worker.processed_by_task.get(BEAT_TASK) for worker in roster.workers)


async def plan_to_purge(orders: OrdersStore, queue: QueueBackend) -> Purge:
    """Look, and decide what purging the queue cancels. Raises ``SourceError`` if a source is away."""
    snapshot = await observe_live(orders, queue)
    require(snapshot, Source.DATABASE, Source.BROKER, Source.WORKERS)
    survivors: dict[TaskState, int] = {}
    for task in snapshot.tasks:
        if not waits(task):
            survivors[task.state] = survivors.get(task.state, 0) + 1
    plan = plan_purge(snapshot)
    if plan.steps and await _beat_lives(queue, snapshot):
        plan = replace(plan, notes=(*plan.notes, BEAT_NOTE))
    return Purge(plan=plan, survivors=survivors, foreign=len(snapshot.foreign))
