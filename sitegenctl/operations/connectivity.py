"""Trying whether the sources of a system can be reached, each by the least that proves it."""

from __future__ import annotations

from sitegenctl.domain.ports import OrdersStore, SiteStore, WorkerSource
from sitegenctl.operations.observe import require_right_directory


async def try_database(orders: OrdersStore) -> str:
    """Log in and count the orders; returns what was seen. Raises ``SourceError``."""
    count = sum((await orders.count_by_status()).values())
    return f"{count} {'order' if count == 1 else 'orders'}"


async def try_broker(workers: WorkerSource) -> str:
    """Ask for the workers, of which there need be none; returns what was seen. Raises ``SourceError``."""
    survey = await workers.survey()
    alive = len(survey.workers) + survey.silent
    return f"{alive} {'worker' if alive == 1 else 'workers'}"


async def try_sites(sites: SiteStore, orders: OrdersStore | None) -> str:
    """Look into the directory, and whether it is the right one of these orders; None where they can't be asked.

    Returns what was seen. Raises ``SourceError``.
    """
    await sites.count([])
    if orders is not None:
        await require_right_directory(orders, sites)
    return "it is there"
