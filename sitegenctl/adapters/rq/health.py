"""Doctor's measurements of RQ's broker and workers. Reads only, and in bounded steps: of a long queue, a part."""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sitegenctl.adapters.redis.connection import Connection
from sitegenctl.adapters.redis.info import WorkerConnections, read_facts
from sitegenctl.adapters.redis.urls import parse_url
from sitegenctl.adapters.rq.job import job_id_of, job_in_work
from sitegenctl.adapters.rq.options import SERIALIZERS
from sitegenctl.adapters.rq.reader import read_jobs, read_result
from sitegenctl.adapters.rq.workers import RqAccess
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


class RqHealth(RqAccess):
    """``BrokerProbe`` on RQ."""

    async def facts(self) -> RedisFacts:
        async with self.connection() as connection:
            return await read_facts(
                connection,
                database=parse_url(self._url).database,
                count_workers=self._count_connected,
                delivered=[("ZCARD", self._options.started), ("LLEN", self._options.intermediate)],
                worker=_WORKER,
                now=time.time,
            )

    async def head(self) -> QueueHead:
        async with self.connection() as connection:
            depth, head = await connection.execute(
                ("LLEN", self._options.list_key), ("LINDEX", self._options.list_key, 0)
            )
        return QueueHead(depth=depth, head=(job_id_of(head or b""),))

    async def messages(self) -> MessageFacts:
        options = self._options
        async with self.connection() as connection:
            listed, started, scheduled, depth, begun, held, has_scheduler, failed = await connection.execute(
                ("LRANGE", options.list_key, 0, _MAX_JOBS - 1),
                ("ZRANGE", options.started, 0, _MAX_JOBS - 1),
                ("ZRANGE", options.registry("scheduled"), 0, _MAX_JOBS - 1),
                ("LLEN", options.list_key),
                ("ZCARD", options.started),
                ("ZCARD", options.registry("scheduled")),
                ("EXISTS", options.scheduler_lock),
                ("ZREVRANGE", options.registry("failed"), 0, _MAX_FAILED - 1),
            )
            waiting = [job_id_of(member) for member in (*listed, *scheduled)]
            job_ids = list(dict.fromkeys([*waiting, *map(job_in_work, started)]))
            jobs = {job_id: job for job_id, job in (await read_jobs(connection, options, job_ids)).items() if job}
            formats = await self._count_formats(connection, list(jobs))
            unimportable = await self._unimportable(connection, [job_id_of(member) for member in failed])
        formats_of = {"pickle": "pickle", "json": "JSON"}
        expected = next(
            (text for name, text in formats_of.items() if options.serializer in (name, SERIALIZERS[name])), None
        )
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
        assigned = await self._assignments()
        records = assigned.records
        workers = tuple(
            WorkerFacts(
                name=name,
                queues=() if records.suspended else worker.queues,
                tasks=None,
                uptime=worker.uptime(records.now),
                finished=worker.processed,
                busy=len(assigned.held[name]),
            )
            for name, worker in assigned.living.items()
        )
        timeout = timedelta(seconds=self._timeout)
        return WorkersFacts(
            workers=workers,
            silent=assigned.silent,
            silent_names=tuple(assigned.silent_names),
            patience=timeout,
            suspended=records.suspended,
        )

    async def _count_connected(self, connection: Connection) -> int | None:
        """The number of connected workers, without those killed a moment ago."""
        assigned = await self._assigned(connection)
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
        earliest = datetime.now(UTC) - _RECENT
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
