"""The composition root: creates the adapters for the settings of an invocation."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING

from sitegenctl.config.backends import BACKENDS
from sitegenctl.config.settings import Settings

if TYPE_CHECKING:
    from sitegenctl.adapters.broker.backend import Backend
    from sitegenctl.domain.health.probes import HealthProbes
    from sitegenctl.domain.health.system import BackendTexts, DeploymentCommands
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


def backend_class(name: str) -> type[Backend]:
    """The class that provides the backend of this name."""
    module, _, attribute = BACKENDS[name].provider.partition(":")
    provider: type[Backend] = getattr(import_module(module), attribute)
    return provider


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

        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # the user of a container may have no name
            user = "unknown"
        return Actor(user=user, host=socket.gethostname(), command=self.command)

    @cached_property
    def orders(self) -> OrdersStore:
        """The orders database."""
        from sitegenctl.adapters.postgres.orders import PostgresOrders

        url = self.settings.require_url("database")
        orders = PostgresOrders(url, timeout=self.settings.timeout.total_seconds(), read_only=self.settings.read_only)
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
            (self.settings.require_url("database"), self.settings.require_url("redis"), self.settings.queue)
        )
        return ReportFile(state_dir(os.environ), system)

    @cached_property
    def sites(self) -> SiteStore:
        """The directory of generated sites."""
        from sitegenctl.adapters.sites.directory import SiteDirectory

        return SiteDirectory(self.settings.sites_dir, timeout=self.settings.timeout.total_seconds())

    @cached_property
    def probes(self) -> HealthProbes:
        """The measurements of the doctor."""
        from sitegenctl.adapters.postgres.health import PostgresHealth
        from sitegenctl.adapters.sites.health import SiteHealth
        from sitegenctl.domain.health.probes import HealthProbes

        database = PostgresHealth(self.settings.require_url("database"), timeout=self.settings.timeout.total_seconds())
        self.closing.push_async_callback(database.close)
        directory = SiteHealth(self.settings.sites_dir) if self.settings.sites_dir else None
        return HealthProbes(broker=self._backend.probe(), database=database, directory=directory)

    @property
    def texts(self) -> BackendTexts:
        """Texts that differ between backends."""
        return self._backend.texts

    @property
    def grace(self) -> timedelta:
        """How long after a change an order is too recent to judge."""
        return self.settings.grace

    @property
    def due_soon(self) -> timedelta:
        """How long before its due date an order is due soon."""
        return self.settings.due_soon

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
        return backend_class(self.settings.backend)(self.settings)


@asynccontextmanager
async def open_session(settings: Settings, command: str) -> AsyncIterator[Session]:
    """A session whose adapters are closed at the end of the block."""
    async with AsyncExitStack() as closing:
        yield Session(settings=settings, command=command, closing=closing)


def deployment_commands(settings: Settings) -> DeploymentCommands:
    """How the parts of the system are started and reached.

    Raises ``UsageProblem`` if the database or Redis is not configured.
    """
    from sitegenctl.adapters.postgres.client_command import psql
    from sitegenctl.adapters.redis.client_command import redis_cli
    from sitegenctl.config.file import DEMO_CONTEXT
    from sitegenctl.domain.diagnosis.remedy import Command, Remedy, ShellCommand
    from sitegenctl.domain.health.system import DeploymentCommands

    backend, variables = backend_class(settings.backend), settings.variables

    def named(setting: str, variable: str) -> str:
        if setting in variables or settings.context is None:
            return variables.get(setting, variable)
        return f"{setting} of context {settings.context}"

    commands = DeploymentCommands(
        start_redis=Remedy.shell("docker", "start", "crm-redis"),
        start_postgres=Remedy.shell("docker", "start", "crm-postgres"),
        start_worker=Remedy.shell("docker", "start", backend.container),
        # As long as a generation may take: what is killed before its end lies in `unacked` until the timeout.
        restart_worker=Remedy.shell("docker", "restart", "--time", "620", backend.container),
        redis_cli=redis_cli(settings.require_url("redis"), variables.get("redis_url")),
        psql=psql(settings.require_url("database"), variables.get("database_url")),
        in_worker=ShellCommand(("docker", "exec", backend.container)),
        redis_url=named("redis_url", "REDIS_URL"),
        database_url=named("database_url", "DATABASE_URL"),
        sites_dir=named("sites_dir", "SITES_BASE_DIR"),
    )
    if settings.context == DEMO_CONTEXT:
        start = Remedy.run(Command.DEMO_UP)
        restart = replace(start, note="after you killed the worker, whose process id demo status shows")
        return replace(commands, start_redis=start, start_postgres=start, start_worker=start, restart_worker=restart)
    if (beat := backend.beat_container) is not None:
        show_beat = Remedy.shell("docker", "ps", "--all", "--filter", f"name={beat}")
        return replace(commands, show_beat=show_beat, restart_beat=Remedy.shell("docker", "restart", beat))
    return commands


def doctor_options(settings: Settings, *, patience: timedelta, strict: bool = False) -> DoctorOptions:
    """The options of doctor. Raises ``UsageProblem`` if the database or Redis is not configured."""
    from sitegenctl.domain.health.system import System
    from sitegenctl.operations.doctor import DoctorOptions

    system = System(
        queue=settings.queue,
        task=settings.task,
        commands=deployment_commands(settings),
        texts=backend_class(settings.backend)(settings).texts,
        keyprefix=settings.global_keyprefix,
        read_only=settings.read_only,
    )
    return DoctorOptions(
        system=system, backend=settings.backend, timeout=settings.timeout, patience=patience, strict=strict
    )


def worker_stores(settings: Settings) -> tuple[GenerationStore, SiteStore]:
    """The database and the sites directory for the reference worker. Raises ``UsageProblem``."""
    from sitegenctl.adapters.postgres.generation import PostgresGeneration
    from sitegenctl.adapters.sites.directory import SiteDirectory

    timeout = settings.timeout.total_seconds()
    store = PostgresGeneration(settings.require_url("database"), timeout=timeout)
    return store, SiteDirectory(settings.require_sites_dir(), timeout=timeout)
