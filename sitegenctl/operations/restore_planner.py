"""Plan to restore sites from the trash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.plans.plan import Plan
from sitegenctl.domain.plans.restore import RestoreFacts, choose_entries, plan_restore
from sitegenctl.domain.ports import Sources
from sitegenctl.operations.observe import QueueCache, observe, require
from sitegenctl.operations.planner import BulkPlanner


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
