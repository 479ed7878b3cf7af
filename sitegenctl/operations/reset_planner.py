"""Plan resets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.orders.site import MIN_SITE_FILES
from sitegenctl.domain.plans.plan import Plan
from sitegenctl.domain.plans.reset import EMPTY_FOR, ResetOptions, plan_reset, plan_reset_empty
from sitegenctl.domain.ports import Sources
from sitegenctl.operations.observe import QueueCache, observe, require, require_right_directory
from sitegenctl.operations.planner import BulkPlanner


@dataclass(frozen=True, kw_only=True)
class ResetPlanner(BulkPlanner):
    """Reset the selected orders."""

    options: ResetOptions = field(default_factory=ResetOptions)

    async def plan(self, sources: Sources, order_ids: Sequence[int], cache: QueueCache | None) -> Plan:
        """Read these orders and decide which to reset."""
        snapshot = await observe(sources, order_ids, files=not self.options.keep_files, cache=cache)
        require(snapshot, Source.DATABASE, Source.BROKER, Source.WORKERS)
        if not self.options.keep_files:
            require(snapshot, Source.FILES)
        return plan_reset(snapshot, order_ids, self.options, new_task_id=sources.queue.new_task_id)


@dataclass(frozen=True, kw_only=True)
class ResetEmptyPlanner(BulkPlanner):
    """Reset empty orders; the fields are those of ``plan_reset_empty``."""

    status = OrderStatus.GENERATING
    min_files: int = MIN_SITE_FILES
    older_than: timedelta = EMPTY_FOR
    enqueue: bool = True
    spare_failed: bool = False
    max_attempts: int | None = None

    async def plan(self, sources: Sources, order_ids: Sequence[int], cache: QueueCache | None) -> Plan:
        """Read these orders and decide which to reset."""
        # In another directory than the workers' every order would look empty.
        await require_right_directory(sources.orders, sources.sites)
        snapshot = await observe(sources, order_ids, enough=self.min_files, cache=cache)
        require(snapshot, Source.DATABASE, Source.BROKER, Source.FILES)
        return plan_reset_empty(snapshot, **vars(self), new_task_id=sources.queue.new_task_id)
