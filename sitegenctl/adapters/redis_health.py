"""Measuring Redis as the broker: what it tells of itself, who is connected, what the messages are like.

Reads only, and in bounded steps: a queue or a keyspace of any length is looked at in part. What the workers
themselves answer is in ``celery_health.py``; what is good or bad is for the domain.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from sitegenctl.adapters.celery_health import read_workers
from sitegenctl.adapters.celery_messages import parse_time
from sitegenctl.adapters.celery_options import QueueOptions
from sitegenctl.adapters.redis_connection import close, redis_client, translated
from sitegenctl.adapters.redis_urls import database_number, is_sentinel
from sitegenctl.domain.health_work import BEAT_TASK
from sitegenctl.domain.probes import Connections, Leftovers, MessageFacts, QueueLook, RedisFacts, WorkersFacts

#: Messages looked at per list and in ``unacked``, and how many at a time.
_MESSAGES = 5000
_CHUNK = 500

#: Steps of SCAN and keys in each: together the most keys that are looked at.
_SCAN_STEPS = 200
_SCAN_COUNT = 1000

#: Seconds without a touch after which a reply list is nobody's: its client would have popped it long ago.
_ABANDONED = 60


class RedisHealth:
    """``BrokerProbe`` on Celery's Redis transport; ``timeout`` is in seconds, for each call."""

    def __init__(
        self,
        url: str,
        options: QueueOptions,
        *,
        timeout: float,
        beat_task: str = BEAT_TASK,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._options = options
        self._timeout = timeout
        self._beat_task = beat_task
        self._now = now
        self._client: Redis | None = None

    async def close(self) -> None:
        """Close the connections, if there are any."""
        client, self._client = self._client, None
        if client is not None:
            await close(client)

    async def facts(self) -> RedisFacts:
        """What Redis tells of itself, in a few round trips on one connection."""
        async with translated():
            client = self._redis()
            await client.ping()
            latency, offset = await self._time()
            pipe = client.pipeline(transaction=False)
            pipe.info()
            pipe.config_get("save")
            pipe.client_list()
            pipe.hlen(self._options.unacked)
            for key in self._options.lists:
                pipe.llen(key)
            info, saves, clients, unacked, *depths = await pipe.execute(raise_on_error=False)
        if isinstance(info, RedisError) and not isinstance(info, ResponseError):
            async with translated():
                raise info
        # A managed Redis often refuses CONFIG and CLIENT, a strict one INFO: what it would tell is not known then.
        told: Mapping[str, Any] = {} if isinstance(info, ResponseError) else info
        return RedisFacts(
            latency=latency,
            version=str(told.get("redis_version", "unknown")),
            role=str(told.get("role", "master")),
            appendonly=bool(told.get("aof_enabled")),
            saves=None if isinstance(saves, RedisError) or not told else str(saves.get("save", "")),
            write_error=_write_error(told),
            policy=told.get("maxmemory_policy"),
            maxmemory=int(told.get("maxmemory", 0)),
            offset=offset,
            database=database_number(self._url),
            connections=None if isinstance(clients, RedisError) else _connections(clients),
            depth=sum(depth for depth in depths if isinstance(depth, int)),
            unacked=unacked if isinstance(unacked, int) else 0,
        )

    async def look(self) -> QueueLook:
        """One glance at the queue."""
        async with translated():
            pipe = self._redis().pipeline(transaction=False)
            for key in self._options.lists:
                pipe.llen(key)
                pipe.lindex(key, -1)
            answers = await pipe.execute()
        return QueueLook(depth=sum(answers[::2]), head=tuple(_identity(raw) for raw in answers[1::2]))

    async def messages(self) -> MessageFacts:
        """What the messages are like; a long queue is read in part."""
        async with translated():
            total, raws = await self._sample()
        not_json: Counter[str] = Counter()
        etas: list[datetime] = []
        beat = 0
        for raw in raws:
            message = _envelope(raw)
            headers = message.get("headers")
            headers = headers if isinstance(headers, dict) else {}
            if message.get("content-type") != "application/json":
                not_json[str(message.get("content-type", "no message of Celery's"))] += 1
            beat += headers.get("task") == self._beat_task
            eta = parse_time(headers.get("eta"))
            if eta is not None:
                etas.append(eta)
        ahead = max(etas) - datetime.fromtimestamp(self._now(), UTC) if etas else None
        return MessageFacts(
            total=total,
            read=len(raws),
            not_json=not_json,
            longest_eta=ahead if ahead is not None and ahead > timedelta(0) else None,
            beat=beat,
        )

    async def leftovers(self) -> Leftovers:
        """What dead clients left behind."""
        prefix = self._options.global_keyprefix
        pattern = f"{prefix}*.reply.celery.pidbox"
        found: set[bytes | str] = set()
        cursor = 0
        async with translated():
            client = self._redis()
            for _ in range(_SCAN_STEPS):
                cursor, keys = await client.scan(cursor, match=pattern, count=_SCAN_COUNT, _type="list")
                found.update(keys)
                if not cursor:
                    break
            pipe = client.pipeline(transaction=False)
            for key in found:
                pipe.object("idletime", key)
            idle = await pipe.execute(raise_on_error=False)
            # Redis forgets idle times under an LFU policy: then each list counts.
            abandoned = sum(isinstance(seconds, ResponseError) or (seconds or 0) >= _ABANDONED for seconds in idle)
            bindings = await client.scard(f"{prefix}_kombu.binding.reply.celery.pidbox")
        return Leftovers(reply_lists=abandoned, bindings=bindings, complete=not cursor)

    async def workers(self) -> WorkersFacts:
        """Ask every living worker; returns as soon as all have answered."""
        async with translated():
            return await read_workers(
                self._redis(),
                # The client gives up after its own timeout; the question must end before it.
                timeout=self._timeout * 0.8,
                channels=self._options.control_channels(database_number(self._url), sentinel=is_sentinel(self._url)),
                options=self._options,
                beat_task=self._beat_task,
            )

    def _redis(self) -> Redis:
        if self._client is None:
            self._client = redis_client(
                self._url,
                timeout=self._timeout,
                sentinel_master=self._options.sentinel_master,
                sentinel_password=self._options.sentinel_password,
            )
        return self._client

    async def _time(self) -> tuple[timedelta, timedelta]:
        """One round trip's length, and how far the server's clock is ahead, taken at its middle."""
        asked, began = self._now(), time.perf_counter()
        seconds, microseconds = await self._redis().time()
        took = time.perf_counter() - began
        ahead = seconds + microseconds / 1e6 - (asked + took / 2)
        return timedelta(seconds=took), timedelta(seconds=ahead)

    async def _sample(self) -> tuple[int, list[bytes | str]]:
        """How many messages there are, and the next ones of each list and some of ``unacked``, in chunks."""
        client = self._redis()
        total = 0
        raws: list[bytes | str] = []
        for key in self._options.lists:
            length = await client.llen(key)
            total += length
            for start in range(0, min(length, _MESSAGES), _CHUNK):
                raws += await client.lrange(key, -start - _CHUNK, -start - 1)
        total += await client.hlen(self._options.unacked)
        held: dict[Any, bytes | str] = {}
        async for tag, raw in client.hscan_iter(self._options.unacked, count=_CHUNK):
            held[tag] = raw
            if len(held) >= _MESSAGES:
                break
        raws += held.values()
        # Messages move while they are read: one more than there are would look odd.
        return max(total, len(raws)), raws


def _write_error(info: Mapping[str, Any]) -> str | None:
    if info.get("aof_enabled") and info.get("aof_last_write_status", "ok") != "ok":
        return "the last write to the append-only file failed"
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return "the last snapshot failed"
    return None


def _connections(clients: list[dict[str, str]]) -> dict[int, Connections]:
    """Count what looks like a worker: one connection in pattern subscriptions, one whose last command is BRPOP."""
    listening: Counter[int] = Counter()
    taking: Counter[int] = Counter()
    for client in clients:
        database = int(client.get("db", 0))
        listening[database] += int(client.get("psub", 0)) > 0
        taking[database] += client.get("cmd") == "brpop"
    return {
        database: Connections(listening=listening[database], taking=taking[database])
        for database in sorted({*listening, *taking})
        if listening[database] or taking[database]
    }


def _envelope(raw: bytes | str) -> dict[str, Any]:
    """Kombu's envelope, bare or as the first item of a value of ``unacked``; empty for anything else."""
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    if isinstance(message, list) and message:
        message = message[0]
    return message if isinstance(message, dict) else {}


def _identity(raw: bytes | str | None) -> str:
    """What tells one message from another: its delivery tag, which every publishing makes anew."""
    if raw is None:
        return ""
    properties = _envelope(raw).get("properties")
    tag = properties.get("delivery_tag") if isinstance(properties, dict) else None
    return str(tag or hash(raw))
