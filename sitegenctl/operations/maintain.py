"""Fix everything that needs no decision, in one run; made for cron."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.listing import OrderFilter, OrderQuery, SortBy
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.health.news import Known
from sitegenctl.domain.orders.run import MAX_ATTEMPTS
from sitegenctl.domain.plans.maintenance import NEEDS, Leftover, Maintenance, MaintenanceStep, StepReport, leftovers
from sitegenctl.domain.plans.repair import RepairOptions
from sitegenctl.domain.ports import Actor, ReportMemory, Sources
from sitegenctl.errors import SourceError
from sitegenctl.operations import failpoints as failpoints
from sitegenctl.operations.enqueue_planner import RetryPlanner, StartPlanner
from sitegenctl.operations.execute import acting, execute_plan, predict
from sitegenctl.operations.failpoints import Failpoint
from sitegenctl.operations.observe import observe_open
from sitegenctl.operations.planner import Planner
from sitegenctl.operations.repair_planner import RepairPlanner, fix_plan
from sitegenctl.operations.reset_planner import ResetEmptyPlanner
from sitegenctl.operations.trash import KEEP_TRASH, prune_trash

_log = logging.getLogger(__name__)

#: Orders that one step changes at most.
MAX_ACTIONS = 100


@dataclass(frozen=True, kw_only=True)
class MaintainOptions:
    """Limits of a maintenance run; ``max_actions`` is for each step.

    ``known`` is what the receiver of notifications knows: what they need is read too, whatever the status of an order.
    """

    max_actions: int = MAX_ACTIONS
    max_attempts: int = MAX_ATTEMPTS
    keep_trash: timedelta = KEEP_TRASH
    dry_run: bool = False
    known: Known | None = None


async def maintain(sources: Sources, memory: ReportMemory, options: MaintainOptions) -> Maintenance | None:
    """Run all steps under the maintenance lock; None when another run holds it.

    Faults that it can't fix are reported, each once: ``memory`` has those that earlier runs have reported.

    A step is left out if a source that it needs can't be reached. Steps that don't need the database run even without
    the lock, which only the database can give: running them twice does no harm.
    """
    # All its plans are one operation.
    actor = acting(sources.actor, datetime.now(UTC))
    run = _Run(sources=sources, memory=memory, options=options, actor=actor)
    async with AsyncExitStack() as stack:
        try:
            await sources.orders.require_writable()
            if not options.dry_run and not await stack.enter_async_context(sources.orders.maintenance_lock()):
                return None
        except SourceError as exc:
            run.unreachable[Source.DATABASE] = exc
        failpoints.reached(Failpoint.LOCKED)
        try:
            # Before any order is changed: nothing can be published where Redis refuses writes.
            await sources.queue.require_writable()
        except SourceError as exc:
            run.unreachable[Source.BROKER] = exc
        return await run.all_steps()


# The orders that were due first.
_LATE = OrderQuery(filter=OrderFilter(due_within=timedelta(0)), sort=SortBy.DUE, limit=1000)


@dataclass(kw_only=True)
class _Run:
    sources: Sources
    memory: ReportMemory
    options: MaintainOptions
    actor: Actor
    unreachable: dict[str | None, SourceError] = field(default_factory=dict)
    snapshot: Snapshot | None = None
    planned: set[int] = field(default_factory=set)

    async def all_steps(self) -> Maintenance:
        """Run every step; after a Ctrl-C the others are not begun."""
        interrupted = False
        reports: list[StepReport] = []
        for step in MaintenanceStep:
            if interrupted:
                reports.append(StepReport(step=step, left_out="interrupted before its turn"))
                continue
            try:
                report = await self._guarded(step)
            except asyncio.CancelledError:
                interrupted = True
                report = StepReport(step=step, left_out="interrupted while planning")
            interrupted = interrupted or (report.result is not None and report.result.interrupted)
            reports.append(report)
            failpoints.reached(Failpoint.STEP_DONE)
        left: Sequence[Leftover] = ()
        if not interrupted:
            try:
                left = await self._leftovers()
            except asyncio.CancelledError:
                interrupted = True
        errors = {Source(report.source): report.left_out or "" for report in reports if report.source in set(Source)}
        return Maintenance(
            steps=reports,
            dry_run=self.options.dry_run,
            interrupted=interrupted,
            left=left,
            snapshot=self.snapshot,
            unreachable={**errors, **(self.snapshot.errors if self.snapshot is not None else {})},
        )

    async def _guarded(self, step: MaintenanceStep) -> StepReport:
        """Run one step; whatever fails in it does not stop the others."""
        missing = next((self.unreachable[source] for source in NEEDS[step] if source in self.unreachable), None)
        if missing is not None:
            return StepReport(step=step, left_out=missing.message, hint=missing.hint, source=missing.source)
        try:
            if Source.DATABASE in NEEDS[step]:
                await self.sources.orders.require_maintenance_lock()
            return await self._run_step(step)
        except SourceError as exc:
            # Not asked again: each attempt could take the whole timeout. Of the files each step reads others.
            if exc.source in (Source.DATABASE, Source.BROKER):
                self.unreachable[exc.source] = exc
            return StepReport(step=step, left_out=exc.message, hint=exc.hint, source=exc.source)
        except Exception as exc:  # noqa: BLE001 - logged and reported
            _log.exception("the step %s of maintenance failed", step)
            return StepReport(
                step=step,
                left_out=f"something unexpected happened ({type(exc).__name__})",
                hint=Remedy.run(Command.MAINTAIN, advice="please report it, with the output of", verbose=True),
                broke=True,
            )

    async def _run_step(self, step: MaintenanceStep) -> StepReport:
        options = self.options
        if step is MaintenanceStep.PRUNE_TRASH:
            pruning = await prune_trash(
                self.sources, options.keep_trash, limit=options.max_actions, dry_run=options.dry_run
            )
            return StepReport(step=step, pruned=pruning.count, not_pruned=pruning.failed)
        if step is MaintenanceStep.PRUNE_REPLIES:
            pruned = await self.sources.queue.prune_replies(dry_run=options.dry_run)
            return StepReport(step=step, pruned=pruned)
        plan = await self._planner(step).plan_all(self.sources)
        # A dry run changes nothing: orders of an earlier step must not be reported twice.
        plan = plan.without(self.planned).limited(options.max_actions)
        if options.dry_run:
            self.planned |= {each.order_id for each in plan.steps}
            return StepReport(step=step, result=await predict(self.sources, plan))
        return StepReport(step=step, result=await execute_plan(self.sources, plan, actor=self.actor))

    def _planner(self, step: MaintenanceStep) -> Planner:
        max_attempts = self.options.max_attempts
        if step is MaintenanceStep.REPAIR:
            # Workers may just have lost Redis, and cron can wait. It also comes again: attempts must be limited, or an
            # order that kills its worker would be repaired for ever.
            return RepairPlanner(options=RepairOptions(patience=self.sources.grace, max_attempts=max_attempts))
        if step is MaintenanceStep.START_STUCK:
            return StartPlanner()
        if step is MaintenanceStep.RETRY_FAILED:
            return RetryPlanner(max_attempts=max_attempts)
        return ResetEmptyPlanner(spare_failed=True, max_attempts=max_attempts)

    async def _leftovers(self) -> Sequence[Leftover]:
        """The faults that are left after all steps and need a decision.

        Without a source nothing is reported, and earlier reports stay remembered.
        """
        needed = (Source.DATABASE, Source.BROKER)
        if any(source in self.unreachable for source in needed):
            return ()
        sources = self.sources
        try:
            known = self.options.known
            snapshot = await observe_open(
                sources, also=known.order_ids if known is not None else (), worker_details=known is not None
            )
            # Those that are late are news, whatever their status.
            late = await sources.orders.read_settled(_LATE, excluding=snapshot.orders)
            self.snapshot = replace(snapshot, orders={**snapshot.orders, **{each.order_id: each for each in late}})
            if any(source in snapshot.errors for source in (*needed, Source.WORKERS)):
                return ()
            plan = await fix_plan(sources, snapshot, max_attempts=self.options.max_attempts, patience=sources.grace)
        except SourceError:
            self.snapshot = None
            return ()
        except Exception:  # noqa: BLE001 - logged; what the steps have done must be reported whatever fails here
            _log.exception("the faults that are left could not be read")
            self.snapshot = None
            return ()
        left = leftovers(plan, snapshot, self.memory.load())
        if not self.options.dry_run:
            self.memory.save({each.outcome.order_id: each.key for each in left})
        return left
