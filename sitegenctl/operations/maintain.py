"""Everything that can be mended without a person, in one run: made for cron."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sitegenctl.domain.diagnosis.condition import DEFAULT_GRACE, Source
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.health.clocks import clock_problem
from sitegenctl.domain.orders.run import MAX_ATTEMPTS
from sitegenctl.domain.plans.maintenance import Leftover, Maintenance, MaintenanceStep, StepReport, leftovers
from sitegenctl.domain.plans.plan import Plan
from sitegenctl.domain.plans.repair import RepairOptions
from sitegenctl.domain.plans.result import OperationResult
from sitegenctl.domain.ports import Actor, OrdersStore, QueueBackend, ReportMemory, SiteStore
from sitegenctl.errors import SourceError
from sitegenctl.operations import enqueue, failpoints as failpoints, repair, reset
from sitegenctl.operations.execute import apply, preview
from sitegenctl.operations.failpoints import Checkpoint
from sitegenctl.operations.observe import observe_open

_log = logging.getLogger(__name__)

#: Orders that one step moves at most.
MAX_ACTIONS = 100

#: How long a site stays in the trash.
KEEP_TRASH = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class MaintainOptions:
    """How far maintenance goes; ``max_actions`` is for each step."""

    grace: timedelta = DEFAULT_GRACE
    max_actions: int = MAX_ACTIONS
    max_attempts: int = MAX_ATTEMPTS
    keep_trash: timedelta = KEEP_TRASH
    dry_run: bool = False


async def maintain(
    orders: OrdersStore,
    queue: QueueBackend,
    sites: SiteStore,
    actor: Actor,
    options: MaintainOptions,
    memory: ReportMemory,
) -> Maintenance | None:
    """Take all steps under the maintenance lock; None when another run holds it.

    Faults that it can't fix are reported, each once: ``memory`` has those that earlier runs have reported.

    A source that is away leaves out the steps that need it, and no other: those that don't need the database
    run without the lock, which only the database can give, since doing them twice does no harm.
    """
    run = _Run(orders=orders, queue=queue, sites=sites, actor=actor, options=options, memory=memory)
    async with AsyncExitStack() as stack:
        try:
            await orders.require_writable()
            if not options.dry_run and not await stack.enter_async_context(orders.maintenance_lock()):
                return None
        except SourceError as exc:
            run.away[Source.DATABASE] = exc
        failpoints.reached(Checkpoint.LOCKED)
        return await run.all()


@dataclass(kw_only=True)
class _Run:
    orders: OrdersStore
    queue: QueueBackend
    sites: SiteStore
    actor: Actor
    options: MaintainOptions
    memory: ReportMemory
    away: dict[str | None, SourceError] = field(default_factory=dict)
    reports: list[StepReport] = field(default_factory=list)
    foreseen: set[int] = field(default_factory=set)

    async def all(self) -> Maintenance:
        """Take every step; after a Ctrl-C the others are not begun."""
        steps: dict[MaintenanceStep, Callable[[], Awaitable[StepReport]]] = {
            MaintenanceStep.REPAIR: self._repair,
            MaintenanceStep.START_STUCK: self._start_stuck,
            MaintenanceStep.RETRY_FAILED: self._retry_failed,
            MaintenanceStep.RESET_EMPTY: self._reset_empty,
            MaintenanceStep.PRUNE_TRASH: self._prune_trash,
            MaintenanceStep.PRUNE_REPLIES: self._prune_replies,
        }
        interrupted = False
        await self._find_out_whether_redis_takes_writes()
        for name, take in steps.items():
            if interrupted:
                self.reports.append(StepReport(step=name, left_out="interrupted before its turn"))
                continue
            try:
                report = await self._take(name, take)
            except asyncio.CancelledError:
                interrupted = True
                report = StepReport(step=name, left_out="interrupted while it looked")
            interrupted = interrupted or (report.result is not None and report.result.interrupted)
            self.reports.append(report)
            failpoints.reached(Checkpoint.STEPPED)
        left: Sequence[Leftover] = ()
        if not interrupted:
            try:
                left = await self._left()
            except asyncio.CancelledError:
                interrupted = True
        return Maintenance(steps=self.reports, dry_run=self.options.dry_run, interrupted=interrupted, left=left)

    async def _find_out_whether_redis_takes_writes(self) -> None:
        """Leave out what publishes where Redis refuses writes: before any order is changed, not for each of them."""
        try:
            await self.queue.require_writable()
        except SourceError as exc:
            self.away[Source.BROKER] = exc

    async def _left(self) -> Sequence[Leftover]:
        """The faults that are left after all steps and take somebody's decision.

        Nothing is said of them, and what was reported before stays remembered, where a source is away.
        """
        if any(source in self.away for source in (Source.DATABASE, Source.BROKER)):
            return ()
        try:
            snapshot = await observe_open(self.orders, self.queue, self.sites, grace=self.options.grace)
            if any(source in snapshot.errors for source in (Source.DATABASE, Source.BROKER, Source.WORKERS)):
                return ()
            plan = await repair.plan_fix_of(
                self.orders,
                self.queue,
                snapshot,
                max_attempts=self.options.max_attempts,
                patience=self.options.grace,
            )
        except SourceError:
            return ()
        except Exception:  # noqa: BLE001 - logged
            # What the steps have done must be reported whatever breaks here.
            _log.exception("the faults that are left could not be read")
            return ()
        left = leftovers(plan, snapshot, self.memory.load())
        if not self.options.dry_run:
            self.memory.save({each.outcome.order_id: each.key for each in left})
        return left

    async def _take(self, name: MaintenanceStep, take: Callable[[], Awaitable[StepReport]]) -> StepReport:
        missing = next((self.away[source] for source in name.needs if source in self.away), None)
        if missing is not None:
            return _left_out(name, missing)
        try:
            if Source.DATABASE in name.needs:
                await self.orders.require_maintenance_lock()
            return await take()
        except SourceError as exc:
            # Whoever has not answered is not asked again: each question could take the whole timeout. Of the sites
            # each step wants something else.
            if exc.source in (Source.DATABASE, Source.BROKER):
                self.away[exc.source] = exc
            return _left_out(name, exc)
        except Exception as exc:  # noqa: BLE001 - whatever breaks one step must not stop the others
            _log.exception("the step %s of maintenance broke", name)
            return StepReport(
                step=name,
                left_out=f"something unexpected happened ({type(exc).__name__})",
                hint=Remedy.run(Command.MAINTAIN, advice="please report it, with the output of", verbose=True),
                broke=True,
            )

    async def _repair(self) -> StepReport:
        grace = self.options.grace
        plan = await repair.plan(
            self.orders,
            self.queue,
            self.sites,
            RepairOptions(
                # Cron is in no hurry, and may come just when workers have lost Redis.
                patience=grace,
                # And it comes again: an order that kills its worker each time must not go round for ever.
                max_attempts=self.options.max_attempts,
            ),
            grace=grace,
        )
        return StepReport(step=MaintenanceStep.REPAIR, result=await self._apply(plan))

    async def _start_stuck(self) -> StepReport:
        plan = await enqueue.start_stuck(self.orders, self.queue, grace=self.options.grace)
        return StepReport(step=MaintenanceStep.START_STUCK, result=await self._apply(plan))

    async def _retry_failed(self) -> StepReport:
        plan = await enqueue.retry_failed(
            self.orders, self.queue, max_attempts=self.options.max_attempts, grace=self.options.grace
        )
        return StepReport(step=MaintenanceStep.RETRY_FAILED, result=await self._apply(plan))

    async def _reset_empty(self) -> StepReport:
        plan = await reset.reset_empty(
            self.orders,
            self.queue,
            self.sites,
            spare_failed=True,
            max_attempts=self.options.max_attempts,
            grace=self.options.grace,
        )
        return StepReport(step=MaintenanceStep.RESET_EMPTY, result=await self._apply(plan))

    async def _prune_trash(self) -> StepReport:
        options = self.options
        now = await self.orders.utc_now()
        if (problem := clock_problem(datetime.now(UTC), now)) is not None:
            hint = "set the clock of this machine, or of the database's"
            return StepReport(step=MaintenanceStep.PRUNE_TRASH, left_out=problem, hint=hint)
        pruning = await self.sites.prune_trash(
            options.keep_trash, now=now, limit=options.max_actions, dry_run=options.dry_run
        )
        return StepReport(step=MaintenanceStep.PRUNE_TRASH, pruned=pruning.count, not_pruned=pruning.failed)

    async def _prune_replies(self) -> StepReport:
        pruned = await self.queue.prune_replies(dry_run=self.options.dry_run)
        return StepReport(step=MaintenanceStep.PRUNE_REPLIES, pruned=pruned)

    async def _apply(self, plan: Plan) -> OperationResult:
        # In a dry run nothing has moved: what an earlier step would have taken must not be told of twice.
        plan = plan.without(self.foreseen).limited(self.options.max_actions)
        if self.options.dry_run:
            self.foreseen |= {step.order_id for step in plan.steps}
            return preview(plan)
        return await apply(self.orders, self.queue, self.sites, plan, self.actor)


def _left_out(step: MaintenanceStep, why: SourceError) -> StepReport:
    return StepReport(step=step, left_out=why.message, hint=why.hint, source=why.source)
