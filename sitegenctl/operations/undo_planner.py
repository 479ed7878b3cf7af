"""Plan to undo what operations did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.orders.operation import Operation
from sitegenctl.domain.orders.order import LogRow
from sitegenctl.domain.plans.plan import Plan
from sitegenctl.domain.plans.undo import LOG_ROWS, UndoFacts, newest_row, plan_undo
from sitegenctl.domain.ports import Sources
from sitegenctl.operations.observe import QueueCache, observe, require
from sitegenctl.operations.planner import BulkPlanner


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
