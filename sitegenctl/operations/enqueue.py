"""Giving orders a new task: those asked for, those never started, those that failed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import DEFAULT_GRACE, Source
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.orders.run import MAX_ATTEMPTS
from sitegenctl.domain.plans.enqueue import plan_enqueue, plan_retry, plan_start
from sitegenctl.domain.plans.plan import Plan
from sitegenctl.domain.ports import OrdersStore, QueueBackend
from sitegenctl.operations.bulk_plan import BulkPlanner, planning_for
from sitegenctl.operations.observe import observe, require
from sitegenctl.operations.queue_cache import QueueCache


def plan(
    orders: OrdersStore,
    queue: QueueBackend,
    order_ids: Sequence[int],
    *,
    resume: bool = True,
    force: bool = False,
    grace: timedelta = DEFAULT_GRACE,
) -> BulkPlanner:
    """Look, and decide which of these orders to enqueue. Raises ``SourceError`` if database or broker is away."""

    async def window(ids: Sequence[int], belief: QueueCache | None) -> Plan:
        snapshot = await _observe(orders, queue, ids, grace, belief)
        return plan_enqueue(snapshot, ids, resume=resume, force=force, new_task_id=queue.new_task_id)

    return planning_for(queue, order_ids, window)


def start_stuck(orders: OrdersStore, queue: QueueBackend, *, grace: timedelta = DEFAULT_GRACE) -> BulkPlanner:
    """Look, and decide which BUILDING orders to start. Raises ``SourceError`` if database or broker is away."""

    async def window(ids: Sequence[int], belief: QueueCache | None) -> Plan:
        return plan_start(await _observe(orders, queue, ids, grace, belief), new_task_id=queue.new_task_id)

    return BulkPlanner(queue=queue, choose=lambda: orders.in_status(OrderStatus.BUILDING), window=window)


def retry_failed(
    orders: OrdersStore,
    queue: QueueBackend,
    *,
    max_attempts: int = MAX_ATTEMPTS,
    match: re.Pattern[str] | None = None,
    older_than: timedelta = timedelta(0),
    force: bool = False,
    grace: timedelta = DEFAULT_GRACE,
) -> BulkPlanner:
    """Look, and decide which failed orders to retry. Raises ``SourceError`` if database or broker is away."""

    async def window(ids: Sequence[int], belief: QueueCache | None) -> Plan:
        return plan_retry(
            await _observe(orders, queue, ids, grace, belief),
            max_attempts=max_attempts,
            match=match,
            older_than=older_than,
            force=force,
            new_task_id=queue.new_task_id,
        )

    return BulkPlanner(queue=queue, choose=lambda: orders.in_status(OrderStatus.GENERATING), window=window)


async def _observe(
    orders: OrdersStore, queue: QueueBackend, order_ids: Sequence[int], grace: timedelta, belief: QueueCache | None
) -> Snapshot:
    snapshot = await observe(orders, queue, None, order_ids, grace=grace, belief=belief)
    require(snapshot, Source.DATABASE, Source.BROKER)
    return snapshot
