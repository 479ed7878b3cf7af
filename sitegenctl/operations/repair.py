"""Plan repairs for duplicated, ghost, orphaned and interrupted orders, and the fix of each order by its condition."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import DEFAULT_GRACE, Source
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.run import MAX_ATTEMPTS
from sitegenctl.domain.plans.fix import plan_fix
from sitegenctl.domain.plans.plan import Plan
from sitegenctl.domain.plans.repair import RepairFacts, RepairOptions, needs_logs, plan_repair, reused_ids
from sitegenctl.domain.ports import OrdersStore, QueueBackend, SiteStore
from sitegenctl.operations.observe import SECOND_LOOK, observe_open, require

# Log rows of an order of which several tasks run: two or three runs' worth.
_LOG_ROWS = 200


async def plan(
    orders: OrdersStore,
    queue: QueueBackend,
    sites: SiteStore,
    options: RepairOptions | None = None,
    *,
    named: Sequence[int] | None = None,
    grace: timedelta = DEFAULT_GRACE,
) -> Plan:
    """Read all sources and decide what to repair: every order, or those ``named``.

    Raises ``SourceError`` where database, broker or workers can't be read. Without the files, an order whose condition
    depends on them is unknown and left alone.
    """
    snapshot = await observe_open(orders, queue, sites, grace=grace, also=named or ())
    require(snapshot, Source.DATABASE, Source.BROKER, Source.WORKERS)
    return plan_repair(
        snapshot,
        options or RepairOptions(),
        new_task_id=queue.new_task_id,
        named=named,
        facts=await _facts(orders, queue, snapshot, named or ()),
    )


async def fix(
    orders: OrdersStore,
    queue: QueueBackend,
    sites: SiteStore,
    order_ids: Sequence[int],
    *,
    max_attempts: int = MAX_ATTEMPTS,
    grace: timedelta = DEFAULT_GRACE,
) -> Plan:
    """Read all sources and decide for each of these orders what fixes it; those without a fault are left out.

    Raises ``SourceError`` where a source can't be read.
    """
    snapshot = await observe_open(orders, queue, sites, grace=grace, check_hollow=True, also=order_ids)
    require(snapshot, Source.DATABASE, Source.BROKER, Source.WORKERS, Source.FILES)
    return await plan_fix_of(orders, queue, snapshot, order_ids, max_attempts=max_attempts)


async def plan_fix_of(
    orders: OrdersStore,
    queue: QueueBackend,
    snapshot: Snapshot,
    order_ids: Collection[int] | None = None,
    *,
    max_attempts: int = MAX_ATTEMPTS,
    patience: timedelta = timedelta(0),
) -> Plan:
    """The fix of each order of a snapshot, or of each of these. Raises ``SourceError``."""
    return plan_fix(
        snapshot,
        order_ids,
        max_attempts=max_attempts,
        patience=patience,
        new_task_id=queue.new_task_id,
        facts=await _facts(orders, queue, snapshot, ()),
    )


async def _facts(orders: OrdersStore, queue: QueueBackend, snapshot: Snapshot, named: Collection[int]) -> RepairFacts:
    """What a repair needs to know besides the snapshot; each question is asked only where it matters."""
    reused = reused_ids(snapshot)
    several = needs_logs(snapshot)
    log = await orders.read_log(several, last=_LOG_ROWS) if several else []
    missing: set[int] = {order_id for order_id in named if order_id not in snapshot.orders}
    if missing and snapshot.authoritative:
        # An order may be committed after its task was published: it is believed missing after a second reading.
        await asyncio.sleep(SECOND_LOOK)
        missing -= await orders.existing(missing)
    return RepairFacts(
        unusable=await queue.unusable(reused) if reused else {},
        logs={order_id: [row for row in log if row.order_id == order_id] for order_id in several},
        missing=missing if snapshot.authoritative else (),
    )
