"""Plans for many orders, made a batch at a time, so that a large plan need not be in memory as a whole."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import ClassVar, NamedTuple

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.operation import Operation
from sitegenctl.domain.orders.order import LogRow, OrderStatus
from sitegenctl.domain.orders.run import MAX_ATTEMPTS
from sitegenctl.domain.orders.site import MIN_SITE_FILES
from sitegenctl.domain.plans.cancel import plan_cancel, plan_purge
from sitegenctl.domain.plans.enqueue import plan_enqueue, plan_retry, plan_start
from sitegenctl.domain.plans.fix import plan_fix
from sitegenctl.domain.plans.guards import waits
from sitegenctl.domain.plans.plan import Plan, joined
from sitegenctl.domain.plans.repair import RepairFacts, RepairOptions, needs_logs, plan_repair, reused_ids
from sitegenctl.domain.plans.reset import EMPTY_FOR, ResetOptions, plan_reset, plan_reset_empty
from sitegenctl.domain.plans.restore import RestoreFacts, choose_entries, plan_restore
from sitegenctl.domain.plans.undo import LOG_ROWS, UndoFacts, newest_row, plan_undo
from sitegenctl.domain.ports import Sources
from sitegenctl.domain.queue.task import TaskState
from sitegenctl.operations.observe import (
    CONFIRM_DELAY,
    QueueCache,
    observe,
    observe_open,
    require,
    require_right_directory,
)

#: Orders planned together.
BATCH_SIZE = 5000

# Up to this many orders the queue is read again for each plan, with the position of each task.
_SMALL_PLAN = 1000


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Orders that an operator selected; if they are ``named`` by number, each of them gets an outcome."""

    order_ids: Sequence[int]
    named: bool = True


class PlanBatch(NamedTuple):
    """The plan for some orders, and the orders not planned yet; ``cache`` is the queue that the plan is based on."""

    plan: Plan
    order_ids: Sequence[int]
    remaining: Sequence[int] = ()
    cache: QueueCache | None = None


class Planner(ABC):
    """Plans an action for many orders; subclasses are dataclasses with the action's options."""

    @abstractmethod
    def batches(self, sources: Sources, selection: Selection | None = None) -> AsyncGenerator[PlanBatch]:
        """Plan for the selected orders, or those that the action chooses itself; yields one batch at least."""

    async def plan_all(self, sources: Sources, selection: Selection | None = None) -> Plan:
        """Make the whole plan. Raises ``SourceError`` where a needed source can't be read."""
        return joined([batch.plan async for batch in self.batches(sources, selection)])


class BulkPlanner(Planner):
    """Plans for each batch of orders by itself; the action is for orders in ``status``, or for any if that is None."""

    status: ClassVar[OrderStatus | None] = None

    @abstractmethod
    async def plan(self, sources: Sources, order_ids: Sequence[int], cache: QueueCache | None) -> Plan:
        """Read these orders and plan for them."""

    async def batches(self, sources: Sources, selection: Selection | None = None) -> AsyncGenerator[PlanBatch]:
        """Plan for ``BATCH_SIZE`` orders at a time."""
        candidates = await sources.orders.in_status(self.status) if self.status is not None else None
        selected = candidates if selection is None else selection.order_ids
        suitable: Collection[int] | None = None
        if candidates is not None and selection is not None:
            if selection.named:
                suitable = frozenset(candidates)
            else:
                meant = frozenset(selection.order_ids)
                selected = [order_id for order_id in candidates if order_id in meant]
        selected = selected or ()
        not_executed = set(selected)
        cache = QueueCache(queue=sources.queue, order_ids=not_executed) if len(selected) > _SMALL_PLAN else None
        for start in range(0, max(len(selected), 1), BATCH_SIZE):
            order_ids, remaining = selected[start : start + BATCH_SIZE], selected[start + BATCH_SIZE :]
            plannable = order_ids if suitable is None else [each for each in order_ids if each in suitable]
            plan = await self.plan(sources, plannable, cache)
            if suitable is not None and len(plan.order_ids) < len(order_ids):
                others = set(order_ids).difference(plan.order_ids)
                plan = plan.naming(order_ids, await sources.orders.existing(others))
            # Only the refusal of an order that was given by number is an error.
            plan = replace(plan, named=selection is not None and selection.named)
            yield PlanBatch(plan, order_ids, remaining, cache)
            # The caller plans one batch ahead: the last but one is executed.
            not_executed.difference_update(selected[max(0, start - BATCH_SIZE) : start])


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


@dataclass(frozen=True, kw_only=True)
class RestorePlanner(BulkPlanner):
    """Restore sites of the selected orders from the trash: the newest, or that of ``entry`` (see `choose_entries`)."""

    entry: str | None = None
    force: bool = False

    async def plan(self, sources: Sources, order_ids: Sequence[int], cache: QueueCache | None) -> Plan:
        """Read these orders, their sites and the trash, and decide which to restore."""
        contents = await sources.sites.read_trash()
        entries = choose_entries(contents.entries, order_ids, self.entry)
        counted = await sources.sites.count_trash([entry.name for entry in entries.values()])
        snapshot = await observe(sources, order_ids, files=False, cache=cache)
        require(snapshot, Source.DATABASE, Source.BROKER, Source.WORKERS)
        # Not as a part of the snapshot: a directory without sites is no wrong one if the trash in it has them.
        snapshot = replace(snapshot, files=await sources.sites.count(entries, sizes=False))
        files = {order_id: counted[entry.name] for order_id, entry in entries.items() if entry.name in counted}
        facts = RestoreFacts(entries=entries, files=files)
        return plan_restore(snapshot, order_ids, facts, force=self.force)


@dataclass(frozen=True, kw_only=True)
class UndoPlanner(BulkPlanner):
    """Undo an operation for the selected orders, or the last operation of each."""

    operation: Operation | None = None

    async def plan(self, sources: Sources, order_ids: Sequence[int], cache: QueueCache | None) -> Plan:
        """Read these orders, their logs and the trash, and decide which to undo."""
        snapshot = await observe(sources, order_ids, files=False, cache=cache)
        require(snapshot, Source.DATABASE, Source.BROKER, Source.WORKERS)
        logs: dict[int, list[LogRow]] = {}
        for each in await sources.orders.read_log(order_ids, last=LOG_ROWS):
            logs.setdefault(each.order_id, []).append(each)
        if self.operation is not None:
            selected = frozenset(order_ids)
            rows = {entry.order_id: entry.row for entry in self.operation.entries if entry.order_id in selected}
        else:
            rows = {order_id: row for order_id, log in logs.items() if (row := newest_row(log)) is not None}
        operations = {order_id: row.operation for order_id, row in rows.items() if row.trashes and row.operation}
        trashed: Mapping[int, str] = {}
        if operations:
            # The newest of an order comes first.
            entries = reversed((await sources.sites.read_trash()).entries)
            trashed = {
                entry.order_id: entry.name
                for entry in entries
                if entry.operation is not None and entry.operation == operations.get(entry.order_id)
            }
            # Not as a part of the snapshot: a directory without sites is no wrong one if the trash has them.
            snapshot = replace(snapshot, files=await sources.sites.count(operations, sizes=False))
        facts = UndoFacts(rows=rows, logs=logs, trashed=trashed)
        return plan_undo(snapshot, order_ids, facts, new_task_id=sources.queue.new_task_id)


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
