"""Connection tests of the configured sources. Each returns a short report, and may raise ``SourceError``."""

from __future__ import annotations

from sitegenctl.domain.ports import OrdersStore, SiteStore, WorkerSource
from sitegenctl.operations.observe import require_right_directory


async def try_database(orders: OrdersStore) -> str:
    """Log in and count the orders."""
    count = sum((await orders.count_by_status()).values())
    return f"{count} {'order' if count == 1 else 'orders'}"


async def try_broker(workers: WorkerSource) -> str:
    """Ask for the workers; there may be none."""
    survey = await workers.survey()
    alive = len(survey.workers) + survey.silent
    return f"{alive} {'worker' if alive == 1 else 'workers'}"


async def try_sites(sites: SiteStore, orders: OrdersStore | None) -> str:
    """Read the directory and, if the orders can be read, check that it has their files."""
    await sites.count([])
    if orders is not None:
        await require_right_directory(orders, sites)
    return "it is there"
