"""Facts about a Redis that do not depend on the queue: state, limits, clock and connected clients."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sitegenctl.adapters.redis.connection import Command, Connection
from sitegenctl.adapters.redis.errors import Refusal
from sitegenctl.adapters.redis.replies import read_clients
from sitegenctl.domain.health.redis import Connections, RedisFacts


@dataclass(frozen=True, kw_only=True)
class WorkerConnections:
    """How CLIENT LIST shows the connections of a worker.

    ``subscriptions`` is the field that counts the subscriptions of its connection for remote control, ``commands`` are
    the commands in which its connection for messages blocks.
    """

    subscriptions: str
    commands: tuple[str, ...]


async def read_facts(
    connection: Connection,
    *,
    database: int,
    count_workers: Callable[[Connection], Awaitable[int | None]],
    delivered: Sequence[Command],
    worker: WorkerConnections,
    now: Callable[[], float],
) -> RedisFacts:
    """Read the facts in a few round trips; ``delivered`` are commands that count messages."""
    # A Redis that cannot save refuses even PING.
    await connection.execute(("PING",), keep_refusals=True)
    asked, began = now(), time.perf_counter()
    ((seconds, microseconds),) = await connection.execute(("TIME",))
    latency = time.perf_counter() - began
    # Compared with our clock in the middle of the round trip.
    offset = int(seconds) + int(microseconds) / 1e6 - (asked + latency / 2)
    denied: Refusal | None = None
    workers: int | None = None
    try:
        workers = await count_workers(connection)
    except Refusal as exc:
        denied = exc
    info, saves, stops, clients, *counts = await connection.execute(
        ("INFO",),
        ("CONFIG", "GET", "save"),
        ("CONFIG", "GET", "stop-writes-on-bgsave-error"),
        ("CLIENT", "LIST"),
        *delivered,
        keep_refusals=True,
    )
    # A managed Redis often refuses CONFIG and CLIENT, a strict ACL INFO: these facts are unknown then.
    lines = [] if isinstance(info, Refusal) else info.decode(errors="replace").split("\r\n")
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    saved = None if isinstance(saves, Refusal) or not fields else b"".join(saves[1:]).decode()
    stops_writes = isinstance(stops, Refusal) or b"no" not in stops[1:]
    return RedisFacts(
        latency=timedelta(seconds=latency),
        # Valkey has the version of Redis with which it is compatible, too.
        version=f"{valkey} of Valkey"
        if (valkey := fields.get("valkey_version"))
        else fields.get("redis_version", "unknown"),
        role=fields.get("role", "master"),
        appendonly=fields.get("aof_enabled") == "1",
        saves=saved,
        write_error=_write_error(fields, saves=saved != "" and stops_writes),
        policy=fields.get("maxmemory_policy"),
        maxmemory=int(fields.get("maxmemory", 0)),
        used=int(fields.get("used_memory", 0)) - int(fields.get("mem_not_counted_for_evict", 0)),
        offset=timedelta(seconds=offset),
        database=database,
        workers=workers,
        connections=_connections(clients, worker),
        unacked=sum(count for count in counts if isinstance(count, int)),
        denied=denied.message if denied is not None else None,
        remedy=denied.hint if denied is not None else None,
    )


def _write_error(info: Mapping[str, str], *, saves: bool) -> str | None:
    """Why Redis refuses writes; ``saves`` is whether it does so after a failed snapshot."""
    if info.get("aof_enabled") == "1" and info.get("aof_last_write_status", "ok") != "ok":
        return "the last write to the append-only file failed"
    if saves and info.get("rdb_last_bgsave_status", "ok") != "ok":
        return "the last snapshot failed"
    return None


def _connections(listing: object, worker: WorkerConnections) -> dict[int, Connections] | None:
    """Count possible connections of workers by database: subscribed ones, and ones that block for messages."""
    clients = read_clients(listing)
    if clients is None:
        return None
    listening: Counter[int] = Counter()
    taking: Counter[int] = Counter()
    for client in clients:
        listening[client.database] += client.fields.get(worker.subscriptions, "0") != "0"
        # The command alone proves nothing: CLIENT LIST shows the last one of a client that no longer blocks.
        taking[client.database] += client.is_blocked and client.command in worker.commands
    return {
        database: Connections(listening=listening[database], taking=taking[database])
        for database in sorted({*listening, *taking})
        if listening[database] or taking[database]
    }
