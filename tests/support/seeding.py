"""Sample orders in a test's world, and the conditions in which an operator finds them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from sitegenctl.demo.samples.plan import Manifest
from sitegenctl.demo.samples.seed import restore_order, seed
from sitegenctl.domain.diagnosis.condition import DEFAULT_GRACE
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.operations.observe import observe
from sitegenctl.session import Session
from tests.support.world import World, with_grace


def seed_world(world: World, **options: Any) -> Manifest:
    return asyncio.run(seed(**_places(world), **options))


def restore(world: World, manifest: Manifest) -> None:
    asyncio.run(restore_order(**_places(world), manifest=manifest))


def snapshot(world: World, manifest: Manifest, grace: timedelta = DEFAULT_GRACE) -> Snapshot:
    order_ids = [order_id for ids in manifest.conditions.values() for order_id in ids]

    async def work(session: Session) -> Snapshot:
        return await observe(with_grace(session, grace), order_ids, check_hollow=True)

    return world.with_session(work)


def conditions(world: World, manifest: Manifest, grace: timedelta = DEFAULT_GRACE) -> dict[str, list[int]]:
    """The condition of every sample order, as the manifest lists them."""
    observed = snapshot(world, manifest, grace)
    by_condition: dict[str, list[int]] = {}
    for order_id in sorted(order_id for ids in manifest.conditions.values() for order_id in ids):
        by_condition.setdefault(observed.diagnose(order_id).condition, []).append(order_id)
    return by_condition


def planned(manifest: Manifest, *, with_worker: bool = False) -> dict[str, list[int]]:
    """The conditions of the manifest; without a worker, the running orders are still queued."""
    expected = {name: sorted(ids) for name, ids in manifest.conditions.items()}
    if not with_worker:
        expected["queued"] = sorted([*expected["queued"], *expected.pop("running")])
    return expected


def _places(world: World) -> dict[str, Any]:
    return {
        "database_url": world.database_url,
        "redis_url": world.redis_url,
        "sites_dir": world.sites_dir,
        "backend": world.backend,
    }
