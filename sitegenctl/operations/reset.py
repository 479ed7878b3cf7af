"""Beginning again from nothing: named orders, or every empty one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import DEFAULT_GRACE, Source
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.orders.site import MIN_SITE_FILES
from sitegenctl.domain.plans.plan import Plan
from sitegenctl.domain.plans.reset import plan_reset, plan_reset_empty
from sitegenctl.domain.ports import OrdersStore, QueueBackend, SiteStore
from sitegenctl.operations.bulk_plan import BulkPlanner, planning_for
from sitegenctl.operations.observe import observe, require, require_right_directory
from sitegenctl.operations.queue_cache import QueueCache

#: How long an empty order must have been still.
OLDER_THAN = timedelta(minutes=5)


def plan(
    orders: OrdersStore,
    queue: QueueBackend,
    sites: SiteStore,
    order_ids: Sequence[int],
    *,
    enqueue: bool = True,
    keep_files: bool = False,
    terminate: bool = False,
    force: bool = False,
    grace: timedelta = DEFAULT_GRACE,
) -> BulkPlanner:
    """Look, and decide which of these orders to reset. Raises ``SourceError`` if a source is away."""

    async def window(ids: Sequence[int], belief: QueueCache | None) -> Plan:
        snapshot = await observe(orders, queue, None if keep_files else sites, ids, grace=grace, belief=belief)
        require(snapshot, Source.DATABASE, Source.BROKER, Source.WORKERS)
        if not keep_files:
            require(snapshot, Source.FILES)
        return plan_reset(
            snapshot,
            ids,
            enqueue=enqueue,
            keep_files=keep_files,
            terminate=terminate,
            force=force,
            new_task_id=queue.new_task_id,
        )

    return planning_for(queue, order_ids, window)


def reset_empty(
    orders: OrdersStore,
    queue: QueueBackend,
    sites: SiteStore,
    *,
    min_files: int = MIN_SITE_FILES,
    older_than: timedelta = OLDER_THAN,
    enqueue: bool = True,
    spare_failed: bool = False,
    max_attempts: int | None = None,
    grace: timedelta = DEFAULT_GRACE,
) -> BulkPlanner:
    """Look, and decide which empty orders to reset.

    Raises ``SourceError`` if a source is away, or the sites directory is evidently another one than the
    workers': every order would look empty.
    """

    async def choose() -> Sequence[int]:
        await require_right_directory(orders, sites)
        return await orders.in_status(OrderStatus.GENERATING)

    async def window(ids: Sequence[int], belief: QueueCache | None) -> Plan:
        snapshot = await observe(orders, queue, sites, ids, grace=grace, enough=min_files, belief=belief)
        require(snapshot, Source.DATABASE, Source.BROKER, Source.FILES)
        return plan_reset_empty(
            snapshot,
            min_files=min_files,
            older_than=older_than,
            enqueue=enqueue,
            spare_failed=spare_failed,
            max_attempts=max_attempts,
            new_task_id=queue.new_task_id,
        )

    return BulkPlanner(queue=queue, choose=choose, window=window)
