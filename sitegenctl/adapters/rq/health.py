"""Doctor's measurements of RQ's broker and workers. Reads only, and in bounded steps: of a long queue, a part."""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from sitegenctl.adapters.redis.connection import Connection
from sitegenctl.adapters.redis.info import WorkerConnections, read_facts
from sitegenctl.adapters.redis.urls import parse_url
from sitegenctl.adapters.rq.assignments import assign_jobs
from sitegenctl.adapters.rq.lookup import read_result
from sitegenctl.adapters.rq.options import SERIALIZERS, RqOptions
from sitegenctl.adapters.rq.reader import job_id_of, job_in_work, read_jobs
from sitegenctl.adapters.rq.records import read_records
from sitegenctl.adapters.rq.workers import RqWorkers
from sitegenctl.domain.health.messages import Leftovers, MessageFacts
from sitegenctl.domain.health.redis import RedisFacts
from sitegenctl.domain.health.workers import QueueHead, WorkerFacts, WorkersFacts

#: What identifies a worker's connections; a busy worker takes nothing.
_WORKER = WorkerConnections(subscriptions="sub", commands=("blmove", "blpop"))

#: Jobs that are read, how many at once, and failed ones, which are read one by one.
_MAX_JOBS = 2000
_BATCH_SIZE = 500
_MAX_FAILED = 20

#: An older failure says nothing about the current workers.
_RECENT = timedelta(hours=1)

#: The line of a traceback that shows that the job itself could not be imported.
_IMPORTING = "in import_attribute"

#: The first byte of a serialized job: a pickle of any protocol that RQ has written, and a list in JSON.
_FIRST_BYTES = {b"\x80": "pickle", b"[": "JSON"}


class RqHealth:
    """``BrokerProbe`` on RQ; ``timeout`` is in seconds, for each call. Each measurement has its own connection."""

    def __init__(self, url: str, options: RqOptions, *, timeout: float, now: Callable[[], float] = time.time) -> None:
        self._url = url
        self._options = options
        self._timeout = timeout
        self._now = now
        self._workers = RqWorkers(url, options, timeout=timeout)

    async def facts(self) -> RedisFacts:
        async with self._workers.connection() as connection:
            return await read_facts(
                connection,
                database=parse_url(self._url).database,
                count_workers=self._count_connected,
                delivered=[("ZCARD", self._options.started), ("LLEN", self._options.intermediate)],
                worker=_WORKER,
                now=self._now,
            )

    async def head(self) -> QueueHead:
        async with self._workers.connection() as connection:
            depth, head = await connection.execute(
                ("LLEN", self._options.list_key), ("LINDEX", self._options.list_key, 0)
            )
        return QueueHead(depth=depth, head=(job_id_of(head or b""),))

    async def messages(self) -> MessageFacts:
        options = self._options
        async with self._workers.connection() as connection:
            listed, started, scheduled, depth, begun, held, has_scheduler, failed = await connection.execute(
                ("LRANGE", options.list_key, 0, _MAX_JOBS - 1),
                ("ZRANGE", options.started, 0, _MAX_JOBS - 1),
                ("ZRANGE", options.scheduled, 0, _MAX_JOBS - 1),
                ("LLEN", options.list_key),
                ("ZCARD", options.started),
                ("ZCARD", options.scheduled),
                ("EXISTS", options.scheduler_lock),
                ("ZREVRANGE", options.failed, 0, _MAX_FAILED - 1),
            )
            waiting = [job_id_of(member) for member in (*listed, *scheduled)]
            job_ids = list(dict.fromkeys([*waiting, *map(job_in_work, started)]))
            jobs = {job_id: job for job_id, job in (await read_jobs(connection, options, job_ids)).items() if job}
            formats = await self._count_formats(connection, list(jobs))
            unimportable = await self._unimportable(connection, [job_id_of(member) for member in failed])
        expected = {"pickle": "pickle", "json": "JSON"}.get(_short_name(options.serializer))
        return MessageFacts(
            total=max(depth + begun + held, len(jobs)),
            read=len(jobs),
            # The format of any other serializer is not known.
            unreadable={kind: n for kind, n in formats.items() if expected is not None and kind != expected},
            format=expected or options.serializer,
            limits=Counter(job.limit for job in jobs.values() if job.is_of(options.task)),
            held=held,
            has_scheduler=bool(has_scheduler),
            unimportable=unimportable,
        )

    async def leftovers(self) -> Leftovers:
        return Leftovers(reply_lists=0, bindings=0)

    async def workers(self) -> WorkersFacts:
        async with self._workers.connection() as connection:
            records = await read_records(connection, self._options)
        assigned = assign_jobs(records, self._options.queue)
        workers = tuple(
            WorkerFacts(
                name=name,
                queues=() if records.suspended else worker.queues,
                tasks=None,
                uptime=max(records.now - worker.birth, timedelta(0)) if worker.birth is not None else None,
                finished=worker.processed,
                busy=len(assigned.running[name]) + len(assigned.taking[name]),
            )
            for name, worker in assigned.living.items()
        )
        timeout = timedelta(seconds=self._timeout)
        return WorkersFacts(workers=workers, silent=assigned.silent, patience=timeout, suspended=records.suspended)

    async def _count_connected(self, connection: Connection) -> int | None:
        """The number of connected workers, without those killed a moment ago."""
        assigned = assign_jobs(await read_records(connection, self._options), self._options.queue)
        return len(assigned.living) + assigned.silent - assigned.missing

    async def _count_formats(self, connection: Connection, job_ids: Sequence[str]) -> Counter[str]:
        """The serialization formats of these jobs, by their first bytes: nothing else of them is read."""
        formats: Counter[str] = Counter()
        for start in range(0, len(job_ids), _BATCH_SIZE):
            batch = job_ids[start : start + _BATCH_SIZE]
            data = await connection.execute(*(("HGET", self._options.job(job_id), "data") for job_id in batch))
            formats.update(_format(raw) for raw in data if raw is not None)
        return formats

    async def _unimportable(self, connection: Connection, failed: Sequence[str]) -> Counter[str]:
        reasons: Counter[str] = Counter()
        earliest = datetime.fromtimestamp(self._now(), UTC) - _RECENT
        for job_id, job in (await read_jobs(connection, self._options, failed)).items():
            if job is None or not job.is_of(self._options.task) or (job.ended_at or earliest) <= earliest:
                continue
            result = await read_result(connection, self._options, job_id)
            traceback = (result.traceback if result is not None else None) or ""
            if _IMPORTING in traceback:
                reasons.update(traceback.strip().splitlines()[-1:])
        return reasons


def _format(raw: bytes) -> str:
    try:
        first = zlib.decompressobj().decompress(raw, 1)
    except zlib.error:
        first = raw[:1]
    return _FIRST_BYTES.get(first, "something else")


def _short_name(serializer: str) -> str:
    return next((name for name, path in SERIALIZERS.items() if serializer == path), serializer)
