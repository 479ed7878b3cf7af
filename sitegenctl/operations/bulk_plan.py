"""Plans for many orders, made a window at a time, so that not all of them have to be in memory at once.

Each window is looked at for itself. Whoever shows the plan before it is carried out awaits the whole of it; who has
been agreed with beforehand takes the parts as they come.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sitegenctl.domain.plans.plan import Plan, joined
from sitegenctl.domain.ports import OrdersStore, QueueBackend
from sitegenctl.operations.queue_cache import QueueCache

#: Orders looked at together.
WINDOW = 5000

# Orders of which it is of interest how far each is from its turn, and for which the queue is read anew each time.
_FEW = 1000


class PlanBatch(NamedTuple):
    """The plan for some orders, and those that come after them and are not planned for yet.

    ``belief`` is what the plan believes of the queue; None where whoever carries it out looks anew.
    """

    order_ids: Sequence[int]
    plan: Plan
    rest: Sequence[int]
    belief: QueueCache | None


@dataclass(kw_only=True)
class BulkPlanner:
    """A plan that is still to be made: awaited, it is the whole plan.

    ``choose`` tells which orders to look at, and ``window`` plans for some of them, with what is believed of the queue
    where there are many. Both may raise ``SourceError``.
    """

    queue: QueueBackend
    choose: Callable[[], Awaitable[Sequence[int]]]
    window: Callable[[Sequence[int], QueueCache | None], Awaitable[Plan]]

    def __await__(self) -> Generator[Any, Any, Plan]:
        """Make the whole plan."""
        return self._whole().__await__()

    async def parts(self) -> AsyncGenerator[PlanBatch]:
        """The plan a window at a time; at least one, so that sources are asked in any case."""
        chosen = await self.choose()
        remaining = set(chosen)
        belief = QueueCache(queue=self.queue, order_ids=remaining) if len(chosen) > _FEW else None
        for start in range(0, max(len(chosen), 1), WINDOW):
            some, rest = chosen[start : start + WINDOW], chosen[start + WINDOW :]
            plan = await self.window(some, belief)
            yield PlanBatch(some, plan, rest, belief)
            # Whoever asks for the next part plans ahead: the last but one is through.
            remaining.difference_update(chosen[max(0, start - WINDOW) : start])

    async def _whole(self) -> Plan:
        return joined([part.plan async for part in self.parts()])


def planning_for(
    queue: QueueBackend, order_ids: Sequence[int], window: Callable[[Sequence[int], QueueCache | None], Awaitable[Plan]]
) -> BulkPlanner:
    """A plan for orders that somebody has named."""

    async def choose() -> Sequence[int]:
        return order_ids

    return BulkPlanner(queue=queue, choose=choose, window=window)


def restricted(planning: BulkPlanner, orders: OrdersStore, order_ids: Sequence[int], *, named: bool) -> BulkPlanner:
    """The same planning for these orders alone; of those that somebody has ``named`` it says what becomes of each."""
    candidates: set[int] = set()

    async def choose() -> Sequence[int]:
        meant = frozenset(order_ids)
        chosen = [order_id for order_id in await planning.choose() if order_id in meant]
        candidates.update(chosen)
        return order_ids if named else chosen

    async def window(some: Sequence[int], belief: QueueCache | None) -> Plan:
        plan = await planning.window([order_id for order_id in some if order_id in candidates], belief)
        return await naming(plan, orders, some) if named else plan

    return BulkPlanner(queue=planning.queue, choose=choose, window=window)


async def naming(plan: Plan, orders: OrdersStore, order_ids: Sequence[int]) -> Plan:
    """The plan, which says of each of these orders what becomes of it."""
    taken = set(plan.order_ids)
    return plan.naming(order_ids, await orders.existing([order_id for order_id in order_ids if order_id not in taken]))
