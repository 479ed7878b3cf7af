"""Taking orders out of the queue: named ones, or every one that waits in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import DEFAULT_GRACE, Source
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.plans.cancel import plan_cancel, plan_purge
from sitegenctl.domain.plans.guards import waits
from sitegenctl.domain.plans.plan import Plan
from sitegenctl.domain.ports import OrdersStore, QueueBackend
from sitegenctl.domain.queue.task import TaskState
from sitegenctl.operations.bulk_plan import BulkPlanner, planning_for
from sitegenctl.operations.observe import observe, observe_live, require
from sitegenctl.operations.queue_cache import QueueCache


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
) -> BulkPlanner:
    """Look, and decide which of these orders to cancel. Raises ``SourceError`` if a source is away."""

    async def window(ids: Sequence[int], _: QueueCache | None) -> Plan:
        snapshot = await observe(orders, queue, None, ids, grace=grace)
        require(snapshot, Source.DATABASE, Source.BROKER, Source.WORKERS)
        return plan_cancel(snapshot, ids, terminate=terminate, to=to)

    return planning_for(queue, order_ids, window)


async def plan_to_purge(orders: OrdersStore, queue: QueueBackend) -> Purge:
    """Look, and decide what purging the queue cancels. Raises ``SourceError`` if a source is away."""
    snapshot = await observe_live(orders, queue)
    require(snapshot, Source.DATABASE, Source.BROKER, Source.WORKERS)
    survivors: dict[TaskState, int] = {}
    for task in snapshot.tasks:
        if not waits(task):
            survivors[task.state] = survivors.get(task.state, 0) + 1
    return Purge(plan=plan_purge(snapshot), survivors=survivors, foreign=len(snapshot.foreign))
