"""A Celery queue on Redis: reading every unfinished task, asking the workers, publishing.

All of it goes through redis-py's asyncio client; Celery itself is not imported, because it takes longer to
import than everything here takes to do, and publishes one task at a time.
Facts of kombu's Redis transport that this module relies on: the queue is a list for each priority step (LPUSH
to publish, BRPOP to take, so that index -1 is next); what is delivered and not acknowledged, ETA tasks
included, is in the hash ``unacked``. Reading never writes.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from sitegenctl.adapters.celery_control import ask_workers
from sitegenctl.adapters.celery_messages import (
    ACTOR_HEADER,
    ENQUEUED_AT_HEADER,
    Place,
    decode,
    decode_unacked,
    encode,
    installed_celery,
    order_of,
    parse_time,
)
from sitegenctl.adapters.redis_connection import (
    DRIVER_ERRORS,
    close,
    database_number,
    redis_client,
    translate,
    translated,
)
from sitegenctl.domain.task import BrokerReading, ForeignMessage, LiveTask, Publication, TaskState
from sitegenctl.domain.worker import Worker, WorkerSurvey

#: Up to so many messages the queue is read in one MULTI/EXEC; above it, in chunks.
ATOMIC_LIMIT = 2000
_CHUNK = 500

_CLAIMS = {"active": TaskState.RUNNING, "reserved": TaskState.RESERVED, "scheduled": TaskState.SCHEDULED}


@dataclass(frozen=True, kw_only=True)
class QueueOptions:
    """Which queue and task are ours, and kombu's transport options where they differ from its defaults."""

    queue: str = "site_generation"
    task: str = "app.tasks.site_generation.generate_site_task"
    global_keyprefix: str = ""
    sep: str = "\x06\x16"
    priority_steps: tuple[int, ...] = (0, 3, 6, 9)
    unacked_key: str = "unacked"
    unacked_index_key: str = "unacked_index"
    visibility_timeout: timedelta = timedelta(hours=1)

    @property
    def lists(self) -> tuple[str, ...]:
        """The keys of the queue's lists, the one that is served first first."""
        return tuple(
            self.global_keyprefix + (f"{self.queue}{self.sep}{step}" if step else self.queue)
            for step in self.priority_steps
        )

    @property
    def unacked(self) -> str:
        """The key of the hash of what is delivered and not acknowledged."""
        return self.global_keyprefix + self.unacked_key

    @property
    def transport_options(self) -> dict[str, Any]:
        """The same options as kombu takes them."""
        return {
            "global_keyprefix": self.global_keyprefix,
            "sep": self.sep,
            "priority_steps": list(self.priority_steps),
            "unacked_key": self.unacked_key,
            "unacked_index_key": self.unacked_index_key,
            "visibility_timeout": int(self.visibility_timeout.total_seconds()),
        }


def _utc_now() -> datetime:
    return datetime.now(UTC)


class CeleryQueue:
    """``QueueBackend`` on Celery's Redis transport; ``timeout`` is in seconds, for each call."""

    def __init__(
        self,
        url: str,
        options: QueueOptions,
        *,
        timeout: float,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._url = url
        self._options = options
        self._timeout = timeout
        self._now = now
        self._client: Redis | None = None

    async def close(self) -> None:
        """Close the connections, if there are any."""
        client, self._client = self._client, None
        if client is not None:
            await close(client)

    def new_task_id(self) -> str:
        """An id as Celery makes them."""
        return str(uuid.uuid4())

    async def read(self) -> BrokerReading:
        """Read every unfinished task and foreign message, each task once."""
        now = self._now()
        async with translated():
            listed, unacked = await self._raw()
        decoded = [
            decode(raw, Place(state=TaskState.QUEUED, position=position), task_name=self._options.task, now=now)
            for position, raw in enumerate(listed)
        ]
        delivered = Place(state=TaskState.UNACKED)
        decoded += [decode_unacked(raw, delivered, task_name=self._options.task, now=now) for raw in unacked]
        # A retry is published before its old delivery is acknowledged, and a restore moves a message back: the
        # same task may stand in both places for a moment.
        tasks: dict[str, LiveTask] = {}
        for item in decoded:
            if isinstance(item, LiveTask):
                tasks.setdefault(item.task_id, item)
        return BrokerReading(
            tasks=tuple(tasks.values()),
            foreign=tuple(item for item in decoded if isinstance(item, ForeignMessage)),
        )

    async def survey(self) -> WorkerSurvey:
        """Ask every living worker what it holds; returns as soon as all have answered."""
        async with translated():
            answers, silent = await ask_workers(
                self._redis(),
                list(_CLAIMS),
                # The client gives up after its own timeout; the question must end before it.
                timeout=self._timeout * 0.8,
                database=database_number(self._url),
                prefix=self._options.global_keyprefix,
                sep=self._options.sep,
            )
        workers = tuple(
            Worker(name=name, tasks=tuple(self._claims(name, given))) for name, given in sorted(answers.items())
        )
        return WorkerSurvey(workers=workers, silent=silent)

    async def publish(self, publications: Sequence[Publication]) -> Mapping[str, str]:
        """Publish under exactly the given ids; returns the reason for each id that failed.

        One round trip for all of them. When the connection is lost on the way, it isn't known which arrived:
        all are reported, and whoever called looks.
        """
        messages = [(publication.task_id, self._message(publication)) for publication in publications]
        pipe = self._redis().pipeline(transaction=False)
        for _, message in messages:
            pipe.lpush(self._options.lists[0], message)
        try:
            answers = await pipe.execute(raise_on_error=False)
        except DRIVER_ERRORS as exc:
            answers = [exc] * len(messages)
        return {
            task_id: translate(answer).message
            for (task_id, _), answer in zip(messages, answers, strict=True)
            if isinstance(answer, BaseException)
        }

    def _message(self, publication: Publication) -> str:
        return encode(
            task_name=self._options.task,
            queue=self._options.queue,
            task_id=publication.task_id,
            args=[publication.order_id],
            kwargs={"resume": publication.resume},
            headers={
                ENQUEUED_AT_HEADER: publication.enqueued_at.isoformat(),
                ACTOR_HEADER: publication.actor,
            },
            celery=installed_celery(),
        )

    def _redis(self) -> Redis:
        if self._client is None:
            self._client = redis_client(self._url, timeout=self._timeout)
        return self._client

    async def _raw(self) -> tuple[list[bytes | str], list[bytes | str]]:
        """All messages of the lists in the order of delivery, and all values of ``unacked``."""
        client = self._redis()
        pipe = client.pipeline(transaction=False)
        for key in self._options.lists:
            pipe.llen(key)
        pipe.hlen(self._options.unacked)
        if sum(await pipe.execute()) > ATOMIC_LIMIT:
            return await self._raw_in_chunks()
        try:
            *lists, unacked = await self._read_at_once(transaction=True)
        except ResponseError as exc:
            # A Redis that is out of memory (6.2) refuses even a MULTI that only reads.
            if "maxmemory" not in str(exc):
                raise
            *lists, unacked = await self._read_at_once(transaction=False)
        return [raw for messages in lists for raw in reversed(messages)], list(unacked)

    async def _read_at_once(self, *, transaction: bool) -> list[Any]:
        pipe = self._redis().pipeline(transaction=transaction)
        for key in self._options.lists:
            pipe.lrange(key, 0, -1)
        pipe.hvals(self._options.unacked)
        return list(await pipe.execute())

    async def _raw_in_chunks(self) -> tuple[list[bytes | str], list[bytes | str]]:
        """Read a long queue without ever holding Redis up.

        From the head: what is published meanwhile shifts messages towards the tail, so that some are seen
        twice (and dropped by their id), and none is missed. ``unacked`` is read before and after, because a
        message may go either way meanwhile.
        """
        client = self._redis()
        unacked = await self._unacked_in_chunks()
        listed: list[bytes | str] = []
        for key in self._options.lists:
            messages: list[bytes | str] = []
            start = 0
            while chunk := await client.lrange(key, start, start + _CHUNK - 1):
                messages.extend(chunk)
                start += len(chunk)
            listed += reversed(messages)
        unacked += await self._unacked_in_chunks()
        return listed, list(dict.fromkeys(unacked))

    async def _unacked_in_chunks(self) -> list[bytes | str]:
        scan = self._redis().hscan_iter(self._options.unacked, count=_CHUNK)
        return [value async for _, value in scan]

    def _claims(self, worker: str, given: Mapping[str, Any]) -> Iterator[LiveTask]:
        for method, state in _CLAIMS.items():
            for entry in given.get(method) or ():
                # `scheduled` wraps what the other two give bare.
                request = entry.get("request", entry) if isinstance(entry, dict) else None
                if not isinstance(request, dict) or request.get("name") != self._options.task:
                    continue
                yield LiveTask(
                    task_id=str(request.get("id")),
                    name=self._options.task,
                    order_id=order_of(request.get("args"), request.get("kwargs")),
                    state=state,
                    worker=worker,
                    eta=parse_time(entry.get("eta")),
                )


def kombu_url(url: str) -> str:
    """The URL as kombu wants it: it writes ``redis+socket://`` for what redis-py calls ``unix://``."""
    return "redis+socket://" + url.removeprefix("unix://") if url.startswith("unix://") else url
