"""Find the operation to undo."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.orders.operation import Operation, is_operation_id
from sitegenctl.domain.plans.undo import latest
from sitegenctl.domain.ports import Sources
from sitegenctl.errors import Refused, UsageProblem
from sitegenctl.operations.observe import QueueCache
from sitegenctl.operations.undo_planner import UndoPlanner

# Operations of the operator that are searched: with a user of cron, most are runs of maintain.
_NEWEST = 200

_LIST = Remedy.run(Command.HISTORY, kind="operator", advice="to list the operations")


async def operations_to_undo(sources: Sources, operation_id: str | None) -> Sequence[Operation]:
    """The operation with this id, or the operator's latest; several where it is not clear which one that is.

    Raises ``Refused`` if there is none.
    """
    if operation_id is None:
        actor = sources.actor
        newest = await sources.orders.newest_operations(actor.user, limit=_NEWEST)
        candidates = latest(newest, host=actor.host)
        if not candidates:
            raise Refused(f"{actor.user} has no operation to undo", hint=_LIST)
        if len(candidates) > 1:
            return candidates
        # Of the oldest of these, rows may be missing.
        whole = await sources.orders.read_operation(candidates[0].operation_id or "")
        return [whole or candidates[0]]
    if not is_operation_id(operation_id):
        raise UsageProblem(f"{operation_id} is not an operation id", hint="ids look like 1v3k8q2-x7m")
    operation = await sources.orders.read_operation(operation_id)
    if operation is None:
        raise Refused(f"no operation {operation_id}", hint=_LIST)
    return [operation]


async def undoable_orders(sources: Sources, operations: Sequence[Operation]) -> list[int]:
    """The number of orders for which each of these operations can be undone now."""
    order_ids = [[entry.order_id for entry in each.entries] for each in operations]
    cache = QueueCache(queue=sources.queue, order_ids=set(chain(*order_ids)))
    plans = [
        await UndoPlanner(operation=each).plan(sources, ids, cache)
        for each, ids in zip(operations, order_ids, strict=True)
    ]
    return [len(plan.steps) for plan in plans]
