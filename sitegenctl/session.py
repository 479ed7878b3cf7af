"""The composition root: creates the adapters for the settings of an invocation."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from sitegenctl.backends import backend_of
from sitegenctl.config.settings import Settings

if TYPE_CHECKING:
    from sitegenctl.adapters.broker.backend import Backend
    from sitegenctl.domain.health.backend_texts import BackendTexts
    from sitegenctl.domain.health.check import DeploymentCommands
    from sitegenctl.domain.health.facts import HealthProbes
    from sitegenctl.domain.orders.generation import GenerationStore
    from sitegenctl.domain.ports import (
        Actor,
        EventSource,
        OrdersStore,
        QueueBackend,
        ReportMemory,
        SiteStore,
        WorkerSource,
    )
    from sitegenctl.operations.doctor import DoctorOptions


@dataclass(frozen=True, kw_only=True)
class Session:
    """The adapters of one invocation; ``command`` is recorded in the journal.

    Each adapter is created on first access, so that a command requires only the settings that it uses. Access raises
    ``UsageProblem`` if a setting is missing. Adapters connect when first used.
    """

    settings: Settings
    command: str
    closing: AsyncExitStack

    @cached_property
    def actor(self) -> Actor:
        """The operator, as the journal records it."""
        from sitegenctl.domain.ports import Actor

        return Actor(user=_user(), host=socket.gethostname(), command=self.command)

    @cached_property
    def orders(self) -> OrdersStore:
        """The orders database."""
        from sitegenctl.adapters.postgres.orders import PostgresOrders

        url = self.settings.require_database_url()
        orders = PostgresOrders(url, timeout=self._timeout, read_only=self.settings.read_only)
        self.closing.push_async_callback(orders.close)
        return orders

    @cached_property
    def queue(self) -> QueueBackend:
        """The broker and its workers."""
        return self._backend.queue(self.closing)

    @cached_property
    def workers(self) -> WorkerSource:
        """Workers only. Avoids importing the queue adapter, which is slow."""
        return self._backend.workers()

    @cached_property
    def events(self) -> EventSource:
        """The events of tasks and workers."""
        return self._backend.events()

    @cached_property
    def reported(self) -> ReportMemory:
        """The faults of this system that maintenance has reported."""
        from sitegenctl.adapters.system.report_memory import ReportFile
        from sitegenctl.config.file import state_dir

        system = "\n".join(
            (self.settings.require_database_url(), self.settings.require_redis_url(), self.settings.queue)
        )
        return ReportFile(state_dir(os.environ), system)

    @cached_property
    def sites(self) -> SiteStore:
        """The directory of generated sites."""
        from sitegenctl.adapters.sites.directory import SiteDirectory

        return SiteDirectory(self.settings.sites_dir, timeout=self._timeout)

    @property
    def terms(self) -> BackendTexts:
        """Texts that differ between backends."""
        return self._backend.texts

    @property
    def grace(self) -> timedelta:
        """How long after a change an order is too recent to judge."""
        return self.settings.grace

    @property
    def task_name(self) -> str:
        """Name of the task that generates a site."""
        return self.settings.task

    @property
    def queue_name(self) -> str:
        """Name of the queue that carries it."""
        return self.settings.queue

    @cached_property
    def _backend(self) -> Backend:
        return backend_of(self.settings)

    @property
    def _timeout(self) -> float:
        return self.settings.timeout.total_seconds()


@asynccontextmanager
async def open_session(settings: Settings, command: str) -> AsyncIterator[Session]:
    """A session whose adapters are closed at the end of the block."""
    async with AsyncExitStack() as closing:
        yield Session(settings=settings, command=command, closing=closing)


@asynccontextmanager
async def open_health(settings: Settings) -> AsyncIterator[HealthProbes]:
    """The probes of doctor, closed at the end of the block. Each connects when first used.

    Raises ``UsageProblem`` if the database or Redis is not configured, before anything is connected.
    """
    from sitegenctl.adapters.postgres.health import PostgresHealth
    from sitegenctl.adapters.sites.health import SiteHealth
    from sitegenctl.domain.health.facts import HealthProbes

    timeout = settings.timeout.total_seconds()
    database = PostgresHealth(settings.require_database_url(), timeout=timeout)
    broker = backend_of(settings).probe()
    directory = SiteHealth(settings.sites_dir) if settings.sites_dir else None
    try:
        yield HealthProbes(broker=broker, database=database, directory=directory)
    finally:
        await database.close()


def deployment_commands(settings: Settings) -> DeploymentCommands:
    """Shell commands that reach the configured servers, without passwords.

    Raises ``UsageProblem`` if the database or Redis is not configured.
    """
    from sitegenctl.adapters.postgres.client_command import psql
    from sitegenctl.adapters.redis.client_command import redis_cli
    from sitegenctl.domain.health.check import DeploymentCommands

    variables = settings.variables

    def named(setting: str, variable: str) -> str:
        if setting in variables or settings.context is None:
            return variables.get(setting, variable)
        return f"{setting} of context {settings.context}"

    return DeploymentCommands(
        redis_cli=redis_cli(settings.require_redis_url(), variables.get("redis_url")),
        psql=psql(settings.require_database_url(), variables.get("database_url")),
        worker=f"docker exec {backend_of(settings).container}",
        redis_url=named("redis_url", DeploymentCommands.redis_url),
        database_url=named("database_url", DeploymentCommands.database_url),
        sites_dir=named("sites_dir", DeploymentCommands.sites_dir),
    )


def doctor_options(settings: Settings, *, patience: timedelta, strict: bool = False) -> DoctorOptions:
    """The options of doctor. Raises ``UsageProblem`` if the database or Redis is not configured."""
    from sitegenctl.config.file import DEMO_CONTEXT
    from sitegenctl.domain.health.check import DEMO_COMMANDS
    from sitegenctl.operations.doctor import DoctorOptions

    backend = backend_of(settings)
    return DoctorOptions(
        queue=settings.queue,
        task=settings.task,
        grace=settings.grace,
        timeout=settings.timeout,
        patience=patience,
        read_only=settings.read_only,
        keyprefix=settings.global_keyprefix,
        starts=DEMO_COMMANDS if settings.context == DEMO_CONTEXT else backend.commands,
        access=deployment_commands(settings),
        checks=backend.checks,
        terms=backend.texts,
        strict=strict,
    )


def queue_terms(settings: Settings) -> BackendTexts:
    """Texts that differ between backends."""
    return backend_of(settings).texts


def worker_stores(settings: Settings) -> tuple[GenerationStore, SiteStore]:
    """The database and the sites directory for the reference worker. Raises ``UsageProblem``."""
    from sitegenctl.adapters.postgres.generation import PostgresGeneration
    from sitegenctl.adapters.sites.directory import SiteDirectory

    timeout = settings.timeout.total_seconds()
    store = PostgresGeneration(settings.require_database_url(), timeout=timeout)
    return store, SiteDirectory(settings.require_sites_dir(), timeout=timeout)


def require_backend(settings: Settings) -> None:
    """Raise ``UsageProblem`` if a library of the backend is not installed."""
    backend_of(settings).require()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user of a container may have no name
        return "unknown"
