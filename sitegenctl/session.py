"""The composition root: from settings to the adapters that an operation gets."""

from __future__ import annotations

import getpass
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sitegenctl.domain.ports import Actor, EventSource, GenerationStore, OrdersStore, QueueBackend, SiteStore
from sitegenctl.domain.probes import HealthProbes
from sitegenctl.settings import Settings

if TYPE_CHECKING:
    from sitegenctl.adapters.celery_options import QueueOptions


@dataclass(frozen=True, kw_only=True)
class Session:
    """What one invocation works with. Each adapter connects when it is first used."""

    orders: OrdersStore
    queue: QueueBackend
    events: EventSource
    sites: SiteStore
    settings: Settings
    actor: Actor


@asynccontextmanager
async def open_session(settings: Settings, command: str) -> AsyncIterator[Session]:
    """Compose the adapters for these settings, and close them at the end.

    Raises ``UsageProblem`` when the database or Redis is not configured, before anything is connected.
    ``command`` is what the journal says was run.
    """
    from sitegenctl.adapters.celery_events import CeleryEvents
    from sitegenctl.adapters.celery_queue import CeleryQueue
    from sitegenctl.adapters.postgres_orders import PostgresOrders
    from sitegenctl.adapters.site_directory import SiteDirectory

    timeout = settings.timeout.total_seconds()
    orders = PostgresOrders(settings.require_database_url(), timeout=timeout, read_only=settings.read_only)
    queue = CeleryQueue(settings.require_redis_url(), _queue_options(settings), timeout=timeout)
    events = CeleryEvents(settings.require_redis_url(), _queue_options(settings), timeout=timeout)
    sites = SiteDirectory(settings.sites_dir)
    actor = Actor(user=_user(), host=socket.gethostname(), command=command)
    try:
        yield Session(orders=orders, queue=queue, events=events, sites=sites, settings=settings, actor=actor)
    finally:
        await orders.close()
        await queue.close()


@asynccontextmanager
async def open_health(settings: Settings) -> AsyncIterator[HealthProbes]:
    """What a check-up measures with, closed at the end. Each probe connects when it is first used.

    Raises ``UsageProblem`` when the database or Redis is not configured, before anything is connected.
    """
    from sitegenctl.adapters.postgres_health import PostgresHealth
    from sitegenctl.adapters.redis_health import RedisHealth
    from sitegenctl.adapters.site_health import SiteHealth

    timeout = settings.timeout.total_seconds()
    database = PostgresHealth(settings.require_database_url(), timeout=timeout)
    broker = RedisHealth(settings.require_redis_url(), _queue_options(settings), timeout=timeout)
    directory = SiteHealth(settings.sites_dir) if settings.sites_dir else None
    try:
        yield HealthProbes(broker=broker, database=database, directory=directory)
    finally:
        await database.close()
        await broker.close()


def open_workshop(settings: Settings) -> tuple[GenerationStore, SiteStore]:
    """Where the reference worker gets its orders and puts its sites."""
    from sitegenctl.adapters.postgres_generation import PostgresGeneration
    from sitegenctl.adapters.site_directory import SiteDirectory

    store = PostgresGeneration(settings.require_database_url(), timeout=settings.timeout.total_seconds())
    return store, SiteDirectory(settings.require_sites_dir())


def kombu_options(settings: Settings) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The broker's URL and transport options as kombu takes them, for the reference worker's own app.

    The last of the three is the transport options of the result backend.
    """
    from sitegenctl.adapters.redis_urls import kombu_url

    options = _queue_options(settings)
    return kombu_url(settings.require_redis_url()), options.transport_options, options.result_options


def _queue_options(settings: Settings) -> QueueOptions:
    from sitegenctl.adapters.celery_options import QueueOptions

    return QueueOptions(
        queue=settings.queue,
        task=settings.task,
        global_keyprefix=settings.global_keyprefix,
        sep=settings.sep,
        priority_steps=settings.priority_steps,
        unacked_key=settings.unacked_key,
        unacked_index_key=settings.unacked_index_key,
        visibility_timeout=settings.visibility_timeout,
        fanout_prefix=settings.fanout_prefix,
        sentinel_master=settings.sentinel_master,
        sentinel_password=settings.sentinel_password.reveal() if settings.sentinel_password else None,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
