"""Doctor's measurements of Celery's broker and workers. Reads only, and in bounded steps: of a long queue, a part."""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sitegenctl.adapters.broker.json_values import mapping, mappings, moment, number, sequence, text, time_limit
from sitegenctl.adapters.broker.task_args import parse_time
from sitegenctl.adapters.celery.codec import Decoder, Place, envelope
from sitegenctl.adapters.celery.control import BINDINGS, count_workers, find_reply_lists
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.workers import CLAIMS, CeleryWorkers, read_claims
from sitegenctl.adapters.redis.connection import Connection, open_connection
from sitegenctl.adapters.redis.info import WorkerConnections, read_facts
from sitegenctl.adapters.redis.urls import parse_url
from sitegenctl.domain.health.messages import Leftovers, MessageFacts
from sitegenctl.domain.health.orders import BEAT_TASK
from sitegenctl.domain.health.redis import RedisFacts
from sitegenctl.domain.health.workers import QueueHead, WorkerFacts, WorkersFacts
from sitegenctl.domain.queue.task import ForeignMessage, TaskState

#: What identifies a worker's connections.
_WORKER = WorkerConnections(subscriptions="psub", commands=("brpop",))

#: Messages read per list and of ``unacked``, and how many at once.
_MAX_MESSAGES = 5000
_BATCH_SIZE = 500

# A task's own limits take precedence over the worker's; Celery lists them only when asked for.
_ARGUMENTS = {"registered": {"taskinfoitems": ["time_limit", "soft_time_limit"]}}
_METHODS = ("active_queues", "registered", "stats", "conf", *CLAIMS)


class CeleryHealth:
    """``BrokerProbe`` on Celery's Redis transport; ``timeout`` is in seconds, for each call.

    Each measurement has a connection of its own, because several are made at once.
    """

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
        self._connection = partial(open_connection, url, options, timeout=timeout)
        self._beat_task = beat_task
        self._now = now
        self._workers = CeleryWorkers(url, options, timeout=timeout)

    async def facts(self) -> RedisFacts:
        async with self._connection() as connection:
            return await read_facts(
                connection,
                database=parse_url(self._url).database,
                count_workers=lambda connection: count_workers(connection, self._options, self._workers.channels),
                delivered=[("HLEN", self._options.unacked)],
                worker=_WORKER,
                now=self._now,
            )

    async def head(self) -> QueueHead:
        async with self._connection() as connection:
            replies = await connection.execute(
                *(command for key in self._options.lists for command in (("LLEN", key), ("LINDEX", key, -1)))
            )
        return QueueHead(depth=sum(replies[::2]), head=tuple(_identity(raw) for raw in replies[1::2]))

    async def messages(self) -> MessageFacts:
        async with self._connection() as connection:
            total, waiting, unacked = await self._sample(connection)
            skipped = self._skipped(waiting, unacked.values())
            messages: list[tuple[bytes | None, dict[str, Any]]] = [(None, envelope(raw) or {}) for raw in waiting]
            messages += [(tag, envelope(raw, unacked=True) or {}) for tag, raw in unacked.items()]
            now = datetime.fromtimestamp(self._now(), UTC)
            headers = [mapping(message.get("headers")) for _, message in messages]
            etas = [parse_time(header.get("eta")) for header in headers]
            due = [(tag, eta) for (tag, _), eta in zip(messages, etas, strict=True) if eta is not None and eta > now]
            # By the clock of the worker that has them.
            delivered: dict[bytes | None, datetime | None] = {}
            tags = [tag for tag, _ in due if tag is not None]
            for start in range(0, len(tags), _BATCH_SIZE):
                batch = tags[start : start + _BATCH_SIZE]
                scores = await connection.execute(*(("ZSCORE", self._options.unacked_index, tag) for tag in batch))
                delivered.update((tag, moment(float(score or 0))) for tag, score in zip(batch, scores, strict=True))
        kinds = (text(str(message.get("content-type", "no message of Celery's"))) or "" for _, message in messages)
        return MessageFacts(
            total=total,
            read=len(messages),
            unreadable=Counter(kind for kind in kinds if kind != "application/json"),
            longest_hold=max((eta - (delivered.get(tag) or now) for tag, eta in due), default=None),
            beat=sum(header.get("task") == self._beat_task for header in headers),
            skipped=skipped,
        )

    async def leftovers(self) -> Leftovers:
        async with self._connection() as connection:
            lists = await find_reply_lists(connection, self._options)
            (bindings,) = await connection.execute(("SCARD", self._options.global_keyprefix + BINDINGS))
        # Under an LFU policy Redis does not record when a key was accessed.
        undated = sum(seconds is None for seconds in lists.idle.values())
        return Leftovers(reply_lists=len(lists.abandoned), bindings=bindings, undated=undated, complete=lists.complete)

    async def workers(self) -> WorkersFacts:
        replies = await self._workers.ask(_METHODS, arguments=_ARGUMENTS)
        skipped: Counter[str] = Counter()
        for name, reply in replies.answers.items():
            read_claims(name, reply, skipped)
        return WorkersFacts(
            workers=tuple(
                _worker(name, reply, self._options.task, self._beat_task)
                for name, reply in sorted(replies.answers.items())
            ),
            silent=replies.unknown,
            silent_names=await self._workers.silent_names(replies),
            shared_names=tuple(sorted(filter(None, map(text, replies.shared)))),
            patience=timedelta(seconds=self._workers.reply_timeout),
            skipped=skipped,
        )

    def _skipped(self, waiting: Iterable[bytes], unacked: Iterable[bytes]) -> Counter[str]:
        """Values in messages that do not fit, and messages that may be of any order."""
        skipped: Counter[str] = Counter()
        decoder = Decoder(self._options.task, now=datetime.fromtimestamp(self._now(), UTC), skipped=skipped)
        items = [
            *(decoder.decode(raw, Place(TaskState.QUEUED)) for raw in waiting),
            *(decoder.decode_unacked(raw, Place(TaskState.UNACKED)) for raw in unacked),
        ]
        for item in itertools.chain.from_iterable(items):
            if isinstance(item, ForeignMessage) and item.may_be_ours:
                skipped[f"message that may be of any order: {item.reason}"] += 1
        return skipped

    async def _sample(self, connection: Connection) -> tuple[int, list[bytes], dict[bytes, bytes]]:
        """The number of messages, the next ones of each list, and some of ``unacked`` by their delivery tags."""
        *lengths, delivered = await connection.execute(
            *(("LLEN", key) for key in self._options.lists), ("HLEN", self._options.unacked)
        )
        waiting: list[bytes] = []
        for key, length in zip(self._options.lists, lengths, strict=True):
            for start in range(0, min(length, _MAX_MESSAGES), _BATCH_SIZE):
                (messages,) = await connection.execute(("LRANGE", key, -start - _BATCH_SIZE, -start - 1))
                waiting += messages
        unacked: dict[bytes, bytes] = {}
        cursor = b""
        while cursor != b"0" and len(unacked) < _MAX_MESSAGES:
            ((cursor, values),) = await connection.execute(
                ("HSCAN", self._options.unacked, cursor or 0, "COUNT", _BATCH_SIZE)
            )
            unacked.update(zip(values[::2], values[1::2], strict=True))
        # Messages move while they are read: more than there are would look odd.
        return max(sum(lengths) + delivered, len(waiting) + len(unacked)), waiting, unacked


def _worker(name: str, reply: Mapping[str, Any], task: str, beat_task: str) -> WorkerFacts:
    stats, conf = mapping(reply["stats"]), mapping(reply["conf"])
    totals = mapping(stats.get("total"))
    # As ``name [time_limit=600 soft_time_limit=540]``.
    registered = [entry.partition(" ") for entry in map(text, sequence(reply["registered"])) if entry is not None]
    own = {
        limit: float(value)
        for name, _, limits in registered
        if name == task
        for limit, value in re.findall(r"\b(soft_time_limit|time_limit)=(\d+(?:\.\d+)?)", limits)
    }
    # The pool's and not the configuration's: a worker may have been started with --time-limit.
    pool = mapping(stats.get("pool")).get("timeouts")
    soft, hard = pool if isinstance(pool, list) and len(pool) == 2 else (None, None)
    transport = mapping(mapping(stats.get("broker")).get("transport_options"))
    transport = {**transport, **mapping(conf.get("broker_transport_options"))}
    return WorkerFacts(
        name=text(name) or "",
        queues=tuple(filter(None, (text(queue.get("name")) for queue in mappings(reply["active_queues"])))),
        tasks=tuple(dict.fromkeys(task for task, *_ in registered)),
        hard_limit=time_limit(own.get("time_limit")) or time_limit(hard),
        soft_limit=time_limit(own.get("soft_time_limit")) or time_limit(soft),
        # Workers mask what looks like a secret, so this may be any text.
        visibility_timeout=time_limit(transport.get("visibility_timeout")),
        uptime=time_limit(stats.get("uptime")),
        beat_runs=number(totals.get(beat_task)) or 0,
        finished=sum(number(count) or 0 for count in totals.values()),
        busy=len(sequence(reply["active"])) + len(sequence(reply["reserved"])),
    )


def _identity(raw: bytes | None) -> str:
    """What distinguishes a message from others: its delivery tag, which is new with each publishing."""
    if raw is None:
        return ""
    tag = mapping((envelope(raw) or {}).get("properties")).get("delivery_tag")
    return str(tag or hash(raw))
