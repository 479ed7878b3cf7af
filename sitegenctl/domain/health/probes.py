"""The ports that measure the facts of the checks. Every method may raise ``SourceError``; none writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sitegenctl.domain.health.files import DirectoryFacts
from sitegenctl.domain.health.messages import Leftovers, MessageFacts
from sitegenctl.domain.health.postgres import PostgresFacts, Schemas
from sitegenctl.domain.health.redis import RedisFacts
from sitegenctl.domain.health.workers import QueueHead, WorkersFacts


class BrokerProbe(Protocol):
    """Measures Redis, the queue and the workers."""

    async def facts(self) -> RedisFacts:
        """What Redis reports of itself, in a few round trips on one connection."""

    async def head(self) -> QueueHead:
        """The queue's depth and its next messages at one moment."""

    async def messages(self) -> MessageFacts:
        """What the messages are like; a long queue is read in part."""

    async def leftovers(self) -> Leftovers:
        """What dead clients left behind."""

    async def workers(self) -> WorkersFacts:
        """Ask every living worker; returns as soon as all have responded."""


class DatabaseProbe(Protocol):
    """Measures PostgreSQL."""

    async def facts(self) -> PostgresFacts:
        """What PostgreSQL reports of itself, in a few round trips on one connection."""

    async def schemas(self) -> Schemas:
        """The schema of the contract, and the database's."""

    async def newest_finished(self, limit: int) -> Sequence[int]:
        """The newest orders that are REVIEW or DELIVERED, at most ``limit``."""


class DirectoryProbe(Protocol):
    """Measures the sites directory, without writing into it."""

    async def facts(self) -> DirectoryFacts:
        """The directory as this process sees it; never raises for one that does not exist."""


@dataclass(frozen=True, kw_only=True)
class HealthProbes:
    """The probes of one system; ``directory`` is None when no sites directory is configured."""

    broker: BrokerProbe
    database: DatabaseProbe
    directory: DirectoryProbe | None
