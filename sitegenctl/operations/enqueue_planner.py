"""Plan generations: enqueue, start-stuck and retry-failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.orders.run import MAX_ATTEMPTS
from sitegenctl.domain.plans.enqueue import plan_enqueue, plan_retry, plan_start
from sitegenctl.domain.plans.plan import Plan
from sitegenctl.domain.ports import Sources
from sitegenctl.operations.observe import QueueCache, observe, require
from sitegenctl.operations.planner import BulkPlanner


@dataclass(frozen=True, kw_only=True)
class EnqueuePlanner(BulkPlanner):
    """Enqueue the selected orders; the fields are those of ``plan_enqueue``."""

    resume: bool = True
    force: bool = False

    async def plan(self, sources: Sources, order_ids: Sequence[int], cache: QueueCache | None) -> Plan:
        """Read these orders and decide which to enqueue."""
        snapshot = await observe(sources, order_ids, files=False, cache=cache)
        require(snapshot, Source.DATABASE, Source.BROKER)
        return plan_enqueue(snapshot, order_ids, **vars(self), new_task_id=sources.queue.new_task_id)


@dataclass(frozen=True, kw_only=True)
class StartPlanner(BulkPlanner):
    """Start BUILDING orders that are ready."""

    status = OrderStatus.BUILDING

    async def plan(self, sources: Sources, order_ids: Sequence[int], cache: QueueCache | None) -> Plan:
        """Read these orders and decide which to start."""
        snapshot = await observe(sources, order_ids, files=False, cache=cache)
        require(snapshot, Source.DATABASE, Source.BROKER)
        return plan_start(snapshot, new_task_id=sources.queue.new_task_id)


@dataclass(frozen=True, kw_only=True)
class RetryPlanner(BulkPlanner):
    """Retry failed orders; the fields are those of ``plan_retry``."""

    status = OrderStatus.GENERATING
    max_attempts: int = MAX_ATTEMPTS
    match: Callable[[str], object] | None = None
    older_than: timedelta = timedelta(0)
    force: bool = False

    async def plan(self, sources: Sources, order_ids: Sequence[int], cache: QueueCache | None) -> Plan:
        """Read these orders and decide which to retry."""
        snapshot = await observe(sources, order_ids, files=False, cache=cache)
        require(snapshot, Source.DATABASE, Source.BROKER)
        return plan_retry(snapshot, **vars(self), new_task_id=sources.queue.new_task_id)
