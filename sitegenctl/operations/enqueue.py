"""Give orders a new task: those selected, those never started, those that failed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.orders.run import MAX_ATTEMPTS
from sitegenctl.domain.plans.enqueue import plan_enqueue, plan_retry, plan_start
from sitegenctl.domain.plans.plan import Plan
from sitegenctl.domain.ports import Sources
from sitegenctl.operations.bulk_plan import BulkPlanner
from sitegenctl.operations.observe import observe, require
from sitegenctl.operations.queue_cache import QueueCache


@dataclass(frozen=True, kw_only=True)
class EnqueuePlanner(BulkPlanner):
    """Enqueue the selected orders."""

    resume: bool = True
    force: bool = False

    async def plan(self, sources: Sources, order_ids: Sequence[int], cache: QueueCache | None) -> Plan:
        """Read these orders and decide which to enqueue."""
        snapshot = await observe(sources, order_ids, files=False, cache=cache)
        require(snapshot, Source.DATABASE, Source.BROKER)
        return plan_enqueue(
            snapshot, order_ids, resume=self.resume, force=self.force, new_task_id=sources.queue.new_task_id
        )


@dataclass(frozen=True, kw_only=True)
class StartPlanner(BulkPlanner):
    """Start BUILDING orders that are ready."""

    async def choose(self, sources: Sources) -> Sequence[int]:
        """All BUILDING orders."""
        return await sources.orders.in_status(OrderStatus.BUILDING)

    async def plan(self, sources: Sources, order_ids: Sequence[int], cache: QueueCache | None) -> Plan:
        """Read these orders and decide which to start."""
        snapshot = await observe(sources, order_ids, files=False, cache=cache)
        require(snapshot, Source.DATABASE, Source.BROKER)
        return plan_start(snapshot, new_task_id=sources.queue.new_task_id)


@dataclass(frozen=True, kw_only=True)
class RetryPlanner(BulkPlanner):
    """Retry failed orders; the fields are those of ``plan_retry``."""

    max_attempts: int = MAX_ATTEMPTS
    match: re.Pattern[str] | None = None
    older_than: timedelta = timedelta(0)
    force: bool = False

    async def choose(self, sources: Sources) -> Sequence[int]:
        """All GENERATING orders."""
        return await sources.orders.in_status(OrderStatus.GENERATING)

    async def plan(self, sources: Sources, order_ids: Sequence[int], cache: QueueCache | None) -> Plan:
        """Read these orders and decide which to retry."""
        snapshot = await observe(sources, order_ids, files=False, cache=cache)
        require(snapshot, Source.DATABASE, Source.BROKER)
        return plan_retry(
            snapshot,
            max_attempts=self.max_attempts,
            match=self.match,
            older_than=self.older_than,
            force=self.force,
            new_task_id=sources.queue.new_task_id,
        )
