"""Plan to cancel orders, and to purge the queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.plans.cancel import plan_cancel, plan_purge
from sitegenctl.domain.plans.guards import waits
from sitegenctl.domain.plans.plan import Plan
from sitegenctl.domain.ports import Sources
from sitegenctl.domain.queue.task import TaskState
from sitegenctl.operations.observe import QueueCache, observe, require
from sitegenctl.operations.planner import BulkPlanner


@dataclass(frozen=True, kw_only=True)
class CancelPlanner(BulkPlanner):
    """Cancel the selected orders."""

    terminate: bool = False
    to: OrderStatus = OrderStatus.BUILDING

    async def plan(self, sources: Sources, order_ids: Sequence[int], cache: QueueCache | None) -> Plan:
        """Read these orders and decide which to cancel; positions matter here, so the queue is read each time."""
        snapshot = await observe(sources, order_ids, files=False)
        require(snapshot, Source.DATABASE, Source.BROKER, Source.WORKERS)
        return plan_cancel(snapshot, order_ids, terminate=self.terminate, to=self.to)


@dataclass(frozen=True, kw_only=True)
class Purge:
    """A plan to purge the queue, and the number of tasks and foreign messages that survive it."""

    plan: Plan
    survivors: Mapping[TaskState, int]
    foreign: int


async def plan_purge_of(sources: Sources) -> Purge:
    """Read everything live and decide which orders purging the queue cancels. Raises ``SourceError``."""
    snapshot = await observe(sources, None, files=False)
    require(snapshot, Source.DATABASE, Source.BROKER, Source.WORKERS)
    survivors = Counter(task.state for task in snapshot.tasks if not waits(task))
    return Purge(plan=plan_purge(snapshot), survivors=survivors, foreign=len(snapshot.reading.foreign))
