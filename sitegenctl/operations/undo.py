"""Find the operation to undo."""

from __future__ import annotations

from collections.abc import Sequence

from sitegenctl.domain.orders.operation import Operation, is_operation_id
from sitegenctl.domain.plans.undo import latest
from sitegenctl.domain.ports import Sources
from sitegenctl.errors import Refused, UsageProblem


async def operations_to_undo(sources: Sources, operation_id: str | None) -> Sequence[Operation]:
    """The operation with this id, or the operator's latest; several where it is not clear which one that is.

    Raises ``Refused`` if there is none.
    """
    if operation_id is None:
        actor = sources.actor
        candidates = latest(await sources.orders.newest_operations(actor.user), host=actor.host)
        if not candidates:
            raise Refused(f"{actor.user} has no operation to undo", hint="give the id of an operation")
        if len(candidates) > 1:
            return candidates
        # The newest operations may be read in part.
        operation_id = candidates[0].operation_id or ""
    elif not is_operation_id(operation_id):
        raise UsageProblem(f"{operation_id} is not an operation id", hint="ids look like 1v3k8q2-x7m")
    operation = await sources.orders.read_operation(operation_id)
    if operation is None:
        raise Refused(f"no operation {operation_id}")
    return [operation]
