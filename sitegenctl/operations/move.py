"""Moving house: the tasks that wait in one queue go to another, each exactly once."""

from __future__ import annotations

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.plans.move import Moving, plan_move
from sitegenctl.domain.ports import OrdersStore, QueueBackend
from sitegenctl.operations.observe import observe_live, require


async def plan(orders: OrdersStore, source: QueueBackend, destination: QueueBackend, *, to: str) -> Moving:
    """Look at both queues, and decide what goes from ``source`` to ``destination``, which is called ``to``.

    Silent workers don't matter: what waits in a queue is at none. Raises ``SourceError`` if Redis or the database is
    away.
    """
    snapshot = await observe_live(orders, source)
    require(snapshot, Source.DATABASE, Source.BROKER)
    return plan_move(snapshot, (await destination.read()).tasks, to)
