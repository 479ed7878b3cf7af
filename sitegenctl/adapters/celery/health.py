"""Measuring Redis as the broker: what it tells of itself, who is connected, what the messages are like.

Reads only, and in bounded steps: a queue or a keyspace of any length is looked at in part. What the workers
themselves answer is in ``celery_health.py``; what is good or bad is for the domain.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

from sitegenctl.adapters.broker.json_values import mapping, moment, text
from sitegenctl.adapters.broker.task_args import parse_time
from sitegenctl.adapters.celery.codec import Place, decode, decode_unacked
from sitegenctl.adapters.celery.control import count_workers
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.replies import bindings_key, find_reply_lists
from sitegenctl.adapters.celery.survey import read_workers
from sitegenctl.adapters.celery.workers import CeleryWorkers
from sitegenctl.adapters.redis.connection import Link, opened_link
from sitegenctl.adapters.redis.info import Habits, read_facts
from sitegenctl.adapters.redis.urls import database_number, is_sentinel
from sitegenctl.domain.health.facts import Leftovers, MessageFacts, QueueLook, RedisFacts, WorkersFacts
from sitegenctl.domain.health.orders import BEAT_TASK
from sitegenctl.domain.queue.task import ForeignMessage, TaskState

#: What a worker's connections are recognised by.
_WORKER = Habits(listening="psub", taking=("brpop",))

#: Messages looked at per list and in ``unacked``, and how many at a time.
_MESSAGES = 5000
_CHUNK = 500


class RedisHealth:
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
        self._timeout = timeout
        self._beat_task = beat_task
        self._now = now
        self._workers = CeleryWorkers(url, options, timeout=timeout)

    async def facts(self) -> RedisFacts:
        """What Redis tells of itself, in a few round trips on one connection."""
        async with self._link() as link:
            return await read_facts(
                link,
                database=database_number(self._url),
                count_workers=self._listening,
                waiting=[("LLEN", key) for key in self._options.lists],
                delivered=[("HLEN", self._options.unacked)],
                worker=_WORKER,
                now=self._now,
            )

    async def look(self) -> QueueLook:
        """One glance at the queue."""
        async with self._link() as link:
            answers = await link.execute(
                *(command for key in self._options.lists for command in (("LLEN", key), ("LINDEX", key, -1)))
            )
        return QueueLook(depth=sum(answers[::2]), head=tuple(_identity(raw) for raw in answers[1::2]))

    async def messages(self) -> MessageFacts:
        """What the messages are like; a long queue is read in part."""
        async with self._link() as link:
            total, waiting, held = await self._sample(link)
            skipped = self._skipped(waiting, held.values())
            messages: list[tuple[bytes | None, dict[str, Any]]] = [(None, _envelope(raw)) for raw in waiting]
            messages += [(tag, _envelope(raw)) for tag, raw in held.items()]
            due = [(tag, eta) for tag, message in messages if (eta := self._eta(message)) is not None]
            delivered = await self._deliveries(link, [tag for tag, _ in due if tag is not None])
        now = datetime.fromtimestamp(self._now(), UTC)
        headers = [mapping(message.get("headers")) for _, message in messages]
        kinds = (text(str(message.get("content-type", "no message of Celery's"))) or "" for _, message in messages)
        return MessageFacts(
            total=total,
            read=len(messages),
            unreadable=Counter(kind for kind in kinds if kind != "application/json"),
            longest_hold=max((eta - (delivered.get(tag, now) if tag else now) for tag, eta in due), default=None),
            beat=sum(header.get("task") == self._beat_task for header in headers),
            skipped=skipped,
        )

    async def leftovers(self) -> Leftovers:
        """What dead clients left behind."""
        async with self._link() as link:
            lists = await find_reply_lists(link, self._options)
            (bindings,) = await link.execute(("SCARD", bindings_key(self._options)))
        # Under an LFU policy Redis forgets when a key was touched.
        undated = sum(seconds is None for seconds in lists.idle.values())
        return Leftovers(reply_lists=len(lists.abandoned), bindings=bindings, undated=undated, complete=lists.complete)

    async def workers(self) -> WorkersFacts:
        """Ask every living worker; returns as soon as all have answered."""
        return await read_workers(self._workers, task=self._options.task, beat_task=self._beat_task)

    def _link(self) -> AbstractAsyncContextManager[Link]:
        return opened_link(self._url, self._options, timeout=self._timeout)

    async def _listening(self, link: Link) -> int:
        """How many workers listen for remote control. Raises ``Refusal`` for a user who may not publish."""
        sentinel = is_sentinel(self._url)
        return await count_workers(link, self._options.control_channels(database_number(self._url), sentinel=sentinel))

    def _skipped(self, waiting: Iterable[bytes], held: Iterable[bytes]) -> Counter[str]:
        """Values in messages that do not fit, and messages that may be of any order."""
        skipped: Counter[str] = Counter()
        now, task = datetime.fromtimestamp(self._now(), UTC), self._options.task
        items = [
            *(decode(raw, Place(TaskState.QUEUED), task_name=task, now=now, skipped=skipped) for raw in waiting),
            *(decode_unacked(raw, Place(TaskState.UNACKED), task_name=task, now=now, skipped=skipped) for raw in held),
        ]
        for item in itertools.chain.from_iterable(items):
            if isinstance(item, ForeignMessage) and item.may_be_ours:
                skipped[f"message that may be of any order: {item.reason}"] += 1
        return skipped

    def _eta(self, message: Mapping[str, Any]) -> datetime | None:
        """The message's ETA, if it is still to come."""
        eta = parse_time(mapping(message.get("headers")).get("eta"))
        return eta if eta is not None and eta.timestamp() > self._now() else None

    async def _deliveries(self, link: Link, tags: Sequence[bytes]) -> dict[bytes, datetime]:
        """When these messages were delivered, by the clock of the worker that has them."""
        delivered: dict[bytes, datetime] = {}
        for start in range(0, len(tags), _CHUNK):
            chunk = tags[start : start + _CHUNK]
            scores = await link.execute(*(("ZSCORE", self._options.unacked_index, tag) for tag in chunk))
            delivered.update(
                (tag, time)
                for tag, score in zip(chunk, scores, strict=True)
                if score is not None and (time := moment(float(score))) is not None
            )
        return delivered

    async def _sample(self, link: Link) -> tuple[int, list[bytes], dict[bytes, bytes]]:
        """How many messages there are, and the next ones of each list and some of ``unacked``, in chunks.

        Those of ``unacked`` are by their delivery tags.
        """
        *lengths, unacked = await link.execute(
            *(("LLEN", key) for key in self._options.lists), ("HLEN", self._options.unacked)
        )
        raws: list[bytes] = []
        for key, length in zip(self._options.lists, lengths, strict=True):
            for start in range(0, min(length, _MESSAGES), _CHUNK):
                (messages,) = await link.execute(("LRANGE", key, -start - _CHUNK, -start - 1))
                raws += messages
        held: dict[bytes, bytes] = {}
        cursor = b""
        while cursor != b"0" and len(held) < _MESSAGES:
            ((cursor, found),) = await link.execute(("HSCAN", self._options.unacked, cursor or 0, "COUNT", _CHUNK))
            held.update(zip(found[::2], found[1::2], strict=True))
        # Messages move while they are read: one more than there are would look odd.
        return max(sum(lengths) + unacked, len(raws) + len(held)), raws, held


def _envelope(raw: bytes) -> dict[str, Any]:
    """Kombu's envelope, bare or as the first item of a value of ``unacked``; empty for anything else."""
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    if isinstance(message, list) and message:
        message = message[0]
    return message if isinstance(message, dict) else {}


def _identity(raw: bytes | None) -> str:
    """What tells one message from another: its delivery tag, which every publishing makes anew."""
    if raw is None:
        return ""
    properties = _envelope(raw).get("properties")
    tag = properties.get("delivery_tag") if isinstance(properties, dict) else None
    return str(tag or hash(raw))
