"""What a Redis tells of itself, whichever queue is on it: its state, its limits, its clock, and who is connected."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sitegenctl.adapters.redis.client import Command
from sitegenctl.adapters.redis.connection import Link
from sitegenctl.adapters.redis.errors import Refusal
from sitegenctl.domain.health.facts import Connections, RedisFacts


@dataclass(frozen=True, kw_only=True)
class Client:
    """A line of CLIENT LIST; ``fields`` has all of it as text."""

    id: int
    address: str
    database: int
    flags: str
    command: str
    fields: Mapping[str, str]

    @property
    def is_blocked(self) -> bool:
        """Whether it waits in a command that blocks."""
        return "b" in self.flags

    @property
    def is_server(self) -> bool:
        """Whether it is a replica or a primary, and no client at all."""
        return not {"S", "M"}.isdisjoint(self.flags)


def read_clients(listing: object) -> list[Client] | None:
    """The clients in a reply to CLIENT LIST; None where one cannot be read: then nothing may be concluded."""
    if not isinstance(listing, bytes):
        return None
    clients = []
    for line in listing.splitlines():
        if not line.strip():
            continue
        fields = dict(_pairs(line.split(), "="))
        try:
            number, database = int(fields["id"]), int(fields["db"])
            clients.append(
                Client(
                    id=number,
                    address=fields.get("addr", ""),
                    database=database,
                    flags=fields["flags"],
                    command=fields["cmd"].lower(),
                    fields=fields,
                )
            )
        except (KeyError, ValueError):
            return None
    return clients


@dataclass(frozen=True, kw_only=True)
class Habits:
    """By what a worker's connections are recognised in CLIENT LIST.

    ``listening`` is the field that counts the subscriptions of the one for commands, ``taking`` are the last commands
    of the one for messages.
    """

    listening: str
    taking: tuple[str, ...]


async def read_facts(
    link: Link,
    *,
    database: int,
    count_workers: Callable[[Link], Awaitable[int | None]],
    waiting: Sequence[Command],
    delivered: Sequence[Command],
    worker: Habits,
    now: Callable[[], float],
) -> RedisFacts:
    """What Redis tells of itself, in a few round trips; ``waiting`` and ``delivered`` count messages."""
    # One that can't save refuses even this.
    await link.execute(("PING",), keep_refusals=True)
    latency, offset = await _time(link, now)
    denied: Refusal | None = None
    workers: int | None = None
    try:
        workers = await count_workers(link)
    except Refusal as exc:
        denied = exc
    info, saves, stops, clients, *counts = await link.execute(
        ("INFO",),
        ("CONFIG", "GET", "save"),
        ("CONFIG", "GET", "stop-writes-on-bgsave-error"),
        ("CLIENT", "LIST"),
        *waiting,
        *delivered,
        keep_refusals=True,
    )
    # A managed Redis often refuses CONFIG and CLIENT, a strict one INFO: what it would tell is not known then.
    told = {} if isinstance(info, Refusal) else dict(_pairs(info.splitlines(), ":"))
    saved = None if isinstance(saves, Refusal) or not told else b"".join(saves[1:]).decode()
    stops_writes = isinstance(stops, Refusal) or b"no" not in stops[1:]
    return RedisFacts(
        latency=latency,
        version=told.get("redis_version", "unknown"),
        role=told.get("role", "master"),
        appendonly=told.get("aof_enabled") == "1",
        saves=saved,
        write_error=_write_error(told, saves=saved != "" and stops_writes),
        policy=told.get("maxmemory_policy"),
        maxmemory=int(told.get("maxmemory", 0)),
        used=int(told.get("used_memory", 0)) - int(told.get("mem_not_counted_for_evict", 0)),
        offset=offset,
        database=database,
        workers=workers,
        connections=_connections(clients, worker),
        depth=sum(count for count in counts[: len(waiting)] if isinstance(count, int)),
        unacked=sum(count for count in counts[len(waiting) :] if isinstance(count, int)),
        denied=denied.message if denied is not None else None,
        remedy=denied.hint if denied is not None else None,
    )


async def _time(link: Link, now: Callable[[], float]) -> tuple[timedelta, timedelta]:
    """One round trip's length, and how far the server's clock is ahead, taken at its middle."""
    asked, began = now(), time.perf_counter()
    ((seconds, microseconds),) = await link.execute(("TIME",))
    took = time.perf_counter() - began
    ahead = int(seconds) + int(microseconds) / 1e6 - (asked + took / 2)
    return timedelta(seconds=took), timedelta(seconds=ahead)


def _pairs(lines: Iterable[bytes], separator: str) -> Iterator[tuple[str, str]]:
    """Names and values, as INFO has them on lines and CLIENT LIST in words."""
    for line in lines:
        name, found, value = line.decode(errors="replace").partition(separator)
        if found:
            yield name, value


def _write_error(info: Mapping[str, str], *, saves: bool) -> str | None:
    """Why Redis refuses writes; ``saves`` is whether a snapshot that failed makes it do so."""
    if info.get("aof_enabled") == "1" and info.get("aof_last_write_status", "ok") != "ok":
        return "the last write to the append-only file failed"
    if saves and info.get("rdb_last_bgsave_status", "ok") != "ok":
        return "the last snapshot failed"
    return None


def _connections(listing: object, worker: Habits) -> dict[int, Connections] | None:
    """Count what a worker has: one connection with subscriptions, one whose last command waits for messages."""
    clients = read_clients(listing)
    if clients is None:
        return None
    listening: Counter[int] = Counter()
    taking: Counter[int] = Counter()
    for client in clients:
        listening[client.database] += client.fields.get(worker.listening, "0") != "0"
        # The last command alone is no sign: it stays with a client that has stopped waiting.
        taking[client.database] += client.is_blocked and client.command in worker.taking
    return {
        database: Connections(listening=listening[database], taking=taking[database])
        for database in sorted({*listening, *taking})
        if listening[database] or taking[database]
    }


def uptime_in(info: object) -> timedelta | None:
    """How long Redis has been up, by its answer to ``INFO server``; None where that does not tell."""
    seconds = re.search(rb"uptime_in_seconds:(\d{1,10})", info) if isinstance(info, bytes) else None
    return timedelta(seconds=int(seconds[1])) if seconds is not None else None
