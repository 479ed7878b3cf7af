"""Plan repairs, and the fix of each order by its own condition."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass, field
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.run import MAX_ATTEMPTS
from sitegenctl.domain.plans.fix import plan_fix
from sitegenctl.domain.plans.plan import Plan
from sitegenctl.domain.plans.repair import RepairFacts, RepairOptions, needs_logs, plan_repair, reused_ids
from sitegenctl.domain.ports import Sources
from sitegenctl.operations.observe import CONFIRM_DELAY, observe_open, require
from sitegenctl.operations.planner import PlanBatch, Planner, Selection

# Log rows read of an order with several running tasks: those of two or three runs.
_LOG_ROWS = 200


@dataclass(frozen=True, kw_only=True)
class RepairPlanner(Planner):
    """Repair orders; without a selection all that need it."""

    options: RepairOptions = field(default_factory=RepairOptions)

    async def batches(self, sources: Sources, selection: Selection | None = None) -> AsyncGenerator[PlanBatch]:
        """Read all sources and plan in one batch."""
        named = selection.order_ids if selection is not None and selection.named else None
        snapshot = await observe_open(sources, also=named or ())
        require(snapshot, Source.DATABASE, Source.BROKER, Source.WORKERS)
        facts = await _read_facts(sources, snapshot, named or ())
        plan = plan_repair(snapshot, self.options, new_task_id=sources.queue.new_task_id, named=named, facts=facts)
        if selection is not None and not selection.named:
            plan = plan.without(set(plan.order_ids).difference(selection.order_ids))
        yield PlanBatch(plan, plan.order_ids)


@dataclass(frozen=True, kw_only=True)
class FixPlanner(Planner):
    """Fix each selected order by its own condition; orders without a fault are left out."""

    max_attempts: int = MAX_ATTEMPTS

    async def batches(self, sources: Sources, selection: Selection | None = None) -> AsyncGenerator[PlanBatch]:
        """Read all sources and plan in one batch."""
        order_ids = selection.order_ids if selection is not None else ()
        snapshot = await observe_open(sources, check_hollow=True, also=order_ids)
        require(snapshot, Source.DATABASE, Source.BROKER, Source.WORKERS, Source.FILES)
        yield PlanBatch(await fix_plan(sources, snapshot, order_ids, max_attempts=self.max_attempts), order_ids)


async def fix_plan(
    sources: Sources,
    snapshot: Snapshot,
    order_ids: Collection[int] | None = None,
    *,
    max_attempts: int = MAX_ATTEMPTS,
    patience: timedelta = timedelta(0),
) -> Plan:
    """Plan the fix of each order of a snapshot, or of each of these. Raises ``SourceError``."""
    return plan_fix(
        snapshot,
        order_ids,
        max_attempts=max_attempts,
        patience=patience,
        new_task_id=sources.queue.new_task_id,
        facts=await _read_facts(sources, snapshot, ()),
    )


async def _read_facts(sources: Sources, snapshot: Snapshot, named: Collection[int]) -> RepairFacts:
    """Read what a repair needs besides the snapshot; each fact only where it matters."""
    reused = reused_ids(snapshot)
    several = needs_logs(snapshot)
    log = await sources.orders.read_log(several, last=_LOG_ROWS) if several else []
    missing: set[int] = {order_id for order_id in named if order_id not in snapshot.orders}
    if missing and snapshot.authoritative:
        # An order may be committed after its task was published: only a second reading shows that it is missing.
        await asyncio.sleep(CONFIRM_DELAY)
        missing -= await sources.orders.existing(missing)
    return RepairFacts(
        unusable=await sources.queue.unusable(reused) if reused else {},
        logs={order_id: [row for row in log if row.order_id == order_id] for order_id in several},
        missing=missing if snapshot.authoritative else (),
    )
