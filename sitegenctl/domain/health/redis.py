"""Redis: what it reports of itself, and the checks of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.remedy import Hint, Remedy
from sitegenctl.domain.health.check import (
    Finding,
    Missing,
    Problems,
    check,
    failed,
    milliseconds,
    ok,
    size,
    unchecked,
    warning,
)
from sitegenctl.domain.health.system import System

_MB = 1024**2


@dataclass(frozen=True, kw_only=True)
class Connections:
    """Connections to one Redis database that look like a worker's; it is a guess."""

    listening: int = 0  # for remote control, as Flower does, too
    taking: int = 0  # messages

    @property
    def may_be_workers(self) -> bool:
        """Whether a worker can be among them."""
        return bool(self.listening and self.taking)


@dataclass(frozen=True, kw_only=True)
class RedisFacts:
    """Values that Redis reports about itself; None for one that it does not report."""

    latency: timedelta  # of one round trip
    version: str
    role: str
    appendonly: bool
    saves: str | None  # its setting `save`
    write_error: str | None  # why its disk makes it refuse writes
    policy: str | None
    maxmemory: int  # in bytes; 0: no limit
    used: int  # in bytes, without what the limit does not count
    offset: timedelta  # how far its clock is ahead of this machine's
    database: int
    workers: int | None  # that listen for remote control on this database
    connections: Mapping[int, Connections] | None  # by database number
    unacked: int  # messages that are delivered and not acknowledged
    denied: str | None = None  # the permission that this user lacks to ask the workers
    remedy: Hint | None = None  # grants it


@check("redis", Source.BROKER, quick=True)
def redis(facts: RedisFacts | Missing, system: System, problems: Problems) -> Finding:
    """Fails if Redis can't be reached, is a replica, or refuses writes because it or its disk is full."""
    start = replace(system.commands.start_redis, note=f"or correct {system.commands.redis_url}")
    if isinstance(facts, Missing):
        return facts.reported(start=start)
    if (lost := problems.get(Source.BROKER)) is not None and lost.unreachable:
        return lost.reported(start=start)
    answer = f"answers in {milliseconds(facts.latency)}, version {facts.version}"
    redis_cli = system.commands.redis_cli
    if facts.role != "master":
        return failed(
            f"it is a {facts.role} and takes no writes: nothing can be published",
            answer,
            remedy=f"point {system.commands.redis_url} at the primary",
        )
    if facts.write_error:
        return failed(
            f"{facts.write_error}: Redis refuses writes, nothing can be published",
            answer,
            remedy=Remedy(advice="free disk space for Redis, then", command=redis_cli.followed_by("BGSAVE")),
        )
    # Redis evicts what its policy allows before it reports its memory: what still exceeds the limit has to stay.
    if facts.maxmemory and facts.used >= facts.maxmemory:
        return failed(
            f"it is full ({size(facts.used)} of maxmemory {size(facts.maxmemory)}): Redis refuses writes, nothing"
            " can be published",
            answer,
            remedy=Remedy(
                command=redis_cli.followed_by("CONFIG", "SET", "maxmemory", f"{2 * facts.used // _MB + 1}mb"),
                note="and in redis.conf, to keep it; --bigkeys shows what fills it",
            ),
        )
    return ok(answer)


def _set(system: System, name: str, value: str) -> Remedy:
    command = system.commands.redis_cli.followed_by("CONFIG", "SET", name, value)
    return Remedy(command=command, note="and in redis.conf, to keep it")


@check("redis persistence", Source.BROKER, quick=True)
def persistence(facts: RedisFacts, system: System) -> Finding:
    """Warns if a restart of Redis loses the queue."""
    if facts.appendonly:
        return ok("append-only file on: the queue survives a restart")
    if facts.saves is None:
        return unchecked("no append-only file, and Redis does not report whether it takes snapshots")
    remedy = _set(system, "appendonly", "yes")
    if not facts.saves:
        return warning("neither append-only file nor snapshots: a restart of Redis loses the queue", remedy=remedy)
    return warning(f"snapshots only (save {facts.saves}): a crash loses the tasks since the last one", remedy=remedy)


@check("redis eviction", Source.BROKER, quick=True)
def eviction(facts: RedisFacts, system: System) -> Finding:
    """Warns of a memory limit with a policy other than `noeviction`: a full Redis may evict tasks."""
    if facts.policy is None:
        return unchecked("Redis does not report its maxmemory-policy")
    if not facts.maxmemory:
        return ok(f"no memory limit, policy {facts.policy}")
    limit = f"maxmemory {size(facts.maxmemory)}"
    if facts.policy == "noeviction":
        return ok(f"{limit}, policy noeviction")
    return warning(
        f"policy {facts.policy} with {limit}: a full Redis may evict tasks",
        remedy=_set(system, "maxmemory-policy", "noeviction"),
    )
