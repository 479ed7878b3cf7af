"""What a check-up measures, and the ports that measure it.

Facts only: whether something is good or bad is decided in ``health_servers.py`` and its siblings. A fact
that could not be had, though its source answered, is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from sitegenctl.domain.diagnosis.remedy import Hint
from sitegenctl.domain.health.access import DatabaseAccess


@dataclass(frozen=True, kw_only=True)
class Connections:
    """Connections to one Redis database that look like those of workers, seen from outside.

    A worker has one that listens (``listening``: remote control; Flower has such a one, too) and one that takes
    messages (``taking``). It is a guess: others may have both.
    """

    listening: int = 0
    taking: int = 0

    @property
    def may_be_workers(self) -> bool:
        """Whether a worker can be among them."""
        return bool(self.listening and self.taking)


@dataclass(frozen=True, kw_only=True)
class RedisFacts:
    """What Redis tells of itself.

    ``latency`` is one round trip. ``offset`` is how far its clock is ahead of this machine's. ``saves`` is the
    configuration's ``save``, None when the server does not tell. ``write_error`` is why it refuses writes for
    want of its disk. ``maxmemory`` (0: no limit) and ``used`` are in bytes, ``used`` without what the limit does
    not count. ``workers`` is how many listen for remote control on this database, None when that can't be
    asked. ``connections`` are by database number, None when the server does not tell. ``depth`` counts the
    messages of the queue's lists, ``unacked`` those delivered and not acknowledged. ``denied`` is the permission that
    this user lacks to ask the workers, ``remedy`` how to grant it.
    """

    latency: timedelta
    version: str
    role: str
    appendonly: bool
    saves: str | None
    write_error: str | None
    policy: str | None
    maxmemory: int
    used: int
    offset: timedelta
    database: int
    workers: int | None
    connections: Mapping[int, Connections] | None
    depth: int
    unacked: int
    denied: str | None = None
    remedy: Hint | None = None


@dataclass(frozen=True, kw_only=True)
class QueueLook:
    """One glance at the queue: its depth, and the messages that are next."""

    depth: int
    head: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MessageFacts:
    """What the messages that are not finished are like.

    ``read`` of ``total`` were looked at. ``unreadable`` counts those in another format than the workers take, which
    is ``format``, by what they are in. ``beat`` is how many of beat's own messages there are. ``longest_hold`` is the
    longest time for which a worker holds a message until its ETA: from its delivery, or from now where it waits in
    the queue.

    Where a limit is each message's own, ``limits`` counts those of our task by it, None for no limit. Where what is
    due must be queued by somebody, ``held`` waits for its time, and ``has_scheduler`` is whether somebody does it.
    ``unimportable`` counts, where workers find out only by trying, newest failures for want of the task, by their
    reasons. ``skipped`` counts values that did not fit, and messages that may be of any order, by what is wrong.
    """

    total: int
    read: int
    unreadable: Mapping[str, int]
    format: str = "JSON"
    longest_hold: timedelta | None = None
    beat: int = 0
    limits: Mapping[timedelta | None, int] | None = None
    held: int = 0
    has_scheduler: bool = True
    unimportable: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """What clients that died left in Redis: reply lists that nobody has touched for a minute, and bindings.

    ``undated`` counts reply lists of which Redis does not tell when they were touched. ``complete`` is False when
    the keyspace is too large to have been searched to its end.
    """

    reply_lists: int
    bindings: int
    undated: int = 0
    complete: bool = True


@dataclass(frozen=True, kw_only=True)
class WorkerFacts:
    """What one worker answered.

    ``tasks`` is None where a worker knows none until it has to run one. ``hard_limit`` and ``soft_limit`` are those
    that hold for the task, None for no limit. ``visibility_timeout``
    is None when the worker leaves it to kombu's default. ``beat_runs`` is how often it has run beat's task since
    it started, ``finished`` how many tasks of any kind it has taken; ``busy`` how many it holds now.
    """

    name: str
    queues: tuple[str, ...]
    tasks: tuple[str, ...] | None
    hard_limit: timedelta | None = None
    soft_limit: timedelta | None = None
    visibility_timeout: timedelta | None = None
    uptime: timedelta | None = None
    beat_runs: int = 0
    finished: int = 0
    busy: int = 0


@dataclass(frozen=True, kw_only=True)
class WorkersFacts:
    """The workers that answered, how many that are connected did not, and how long they were given.

    ``suspended`` is whether all of them have been told to take nothing. ``skipped`` counts values in their replies
    that did not fit, by what is wrong with them.
    """

    workers: tuple[WorkerFacts, ...] = ()
    silent: int = 0
    patience: timedelta = timedelta(0)
    suspended: bool = False
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TableLock:
    """A table that somebody has for himself alone, in a transaction that has been open for so long."""

    table: str
    pid: int
    client: str
    user: str
    open_for: timedelta


@dataclass(frozen=True, kw_only=True)
class PostgresFacts:
    """What PostgreSQL tells of itself.

    ``missing_tables`` are those of the contract that it does not have, ``locks`` those which nobody else can even
    read. ``access`` is what our role may do there.
    """

    latency: timedelta
    version: str
    offset: timedelta
    access: DatabaseAccess
    missing_tables: tuple[str, ...] = ()
    locks: tuple[TableLock, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SchemaShape:
    """Tables as column → type by table, and the labels of enums in their order, by name."""

    tables: Mapping[str, Mapping[str, str]]
    enums: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class DirectoryFacts:
    """The sites directory as this process sees it; sizes in bytes. All but ``path`` may be unknown."""

    path: str
    exists: bool
    readable: bool = False
    writable: bool = False
    free: int | None = None
    size: int | None = None
    free_inodes: int | None = None
    inodes: int | None = None


class BrokerProbe(Protocol):
    """Measures Redis, the queue and the workers. Every method may raise ``SourceError``; none writes."""

    async def facts(self) -> RedisFacts:
        """What Redis tells of itself, in a few round trips on one connection."""
        ...

    async def look(self) -> QueueLook:
        """One glance at the queue."""
        ...

    async def messages(self) -> MessageFacts:
        """What the messages are like; a long queue is read in part."""
        ...

    async def leftovers(self) -> Leftovers:
        """What dead clients left behind."""
        ...

    async def workers(self) -> WorkersFacts:
        """Ask every living worker; returns as soon as all have answered."""
        ...


class DatabaseProbe(Protocol):
    """Measures PostgreSQL. Every method may raise ``SourceError``; none writes."""

    async def facts(self) -> PostgresFacts:
        """What PostgreSQL tells of itself, in a few round trips on one connection."""
        ...

    async def shapes(self) -> tuple[SchemaShape, SchemaShape]:
        """The contract's tables and enums, and those that the database has."""
        ...

    async def newest_finished(self, limit: int) -> Sequence[int]:
        """The newest orders that are REVIEW or DELIVERED, at most so many."""
        ...


class DirectoryProbe(Protocol):
    """Measures the sites directory, without writing into it."""

    async def facts(self) -> DirectoryFacts:
        """The directory as this process sees it; never raises for a directory that is not there."""
        ...


@dataclass(frozen=True, kw_only=True)
class HealthProbes:
    """All that a check-up measures with; ``directory`` is None when no sites directory is configured."""

    broker: BrokerProbe
    database: DatabaseProbe
    directory: DirectoryProbe | None
