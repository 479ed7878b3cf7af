"""The trash of the sites: what is in it, and deleting what is old."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sitegenctl.domain.health.postgres import clock_problem
from sitegenctl.domain.orders.site import TrashContents, TrashEntry
from sitegenctl.domain.ports import PruneResult, SiteStore, Sources
from sitegenctl.errors import SourceError

#: How long a site stays in the trash.
KEEP_TRASH = timedelta(days=7)


async def list_trash(
    sites: SiteStore, *, order_ids: Collection[int] = (), older_than: timedelta | None = None, limit: int, now: datetime
) -> TrashContents:
    """The first ``limit`` sites in the trash, of these orders if any are given; files are counted only for those."""
    contents = await sites.read_trash()

    def matches(entry: TrashEntry) -> bool:
        return (not order_ids or entry.order_id in order_ids) and (older_than is None or now - entry.at >= older_than)

    entries = [entry for entry in contents.entries if matches(entry)]
    shown = entries[:limit]
    files = await sites.count_trash([entry.name for entry in shown])
    return replace(contents, entries=shown, beyond=len(entries) - len(shown), files=files)


async def prune_trash(
    sources: Sources, older_than: timedelta, *, limit: int | None = None, dry_run: bool = False
) -> PruneResult:
    """Delete or count old sites in the trash by the database's clock; ``SourceError`` if that and ours disagree."""
    now = await sources.orders.utc_now()
    if (problem := clock_problem(datetime.now(UTC), now)) is not None:
        raise SourceError(problem, hint="set the clock of this machine, or of the database's")
    return await sources.sites.prune_trash(older_than, now=now, limit=limit, dry_run=dry_run)
