"""Putting orders right that are in two hands, in the wrong ones, or in no one's."""

from __future__ import annotations

from datetime import timedelta

from sitegenctl.domain.condition import DEFAULT_GRACE, Condition, Source
from sitegenctl.domain.plan import Plan
from sitegenctl.domain.planners.repairing import REPAIRABLE, plan_repair
from sitegenctl.domain.ports import OrdersStore, QueueBackend, SiteStore
from sitegenctl.operations.observe import observe_open, require


async def plan(
    orders: OrdersStore,
    queue: QueueBackend,
    sites: SiteStore,
    *,
    only: frozenset[Condition] = frozenset(REPAIRABLE),
    terminate: bool = False,
    patience: timedelta = timedelta(0),
    max_attempts: int | None = None,
    grace: timedelta = DEFAULT_GRACE,
) -> Plan:
    """Look, and decide what to repair. Raises ``SourceError`` if database, broker or workers are away.

    ``patience`` is how long an orphaned task's order must have been still; an order that has had ``max_attempts``
    is not begun again. Without the files, an order whose verdict depends on them is in an unknown condition and left
    alone.
    """
    snapshot = await observe_open(orders, queue, sites, grace=grace)
    require(snapshot, Source.DATABASE, Source.BROKER, Source.WORKERS)
    return plan_repair(
        snapshot,
        only=only,
        terminate=terminate,
        patience=patience,
        max_attempts=max_attempts,
        new_task_id=queue.new_task_id,
    )
