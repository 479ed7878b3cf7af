"""Planners make plans for many orders, a batch at a time, so that a large plan need not be in memory as a whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.plans.plan import Plan, joined
from sitegenctl.domain.ports import Sources
from sitegenctl.operations.observe import QueueCache

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
