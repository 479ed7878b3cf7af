"""Measuring Redis and an RQ queue on it: the workers' records, what the jobs are like, and what failed lately.

Reads only, and in bounded steps. What is good or bad is for the domain.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from sitegenctl.adapters.redis.connection import Link
from sitegenctl.adapters.redis.info import Habits, read_facts
from sitegenctl.adapters.redis.urls import database_number
from sitegenctl.adapters.rq.assignments import Assignments, assign_jobs
from sitegenctl.adapters.rq.lookup import read_result
from sitegenctl.adapters.rq.options import SERIALIZERS, RqOptions
from sitegenctl.adapters.rq.reader import job_id_of, job_in_work, read_jobs
from sitegenctl.adapters.rq.records import Record, read_records
from sitegenctl.adapters.rq.workers import RqWorkers
from sitegenctl.domain.health.facts import Leftovers, MessageFacts, QueueLook, RedisFacts, WorkerFacts, WorkersFacts

#: What a worker's connections are recognised by; one that is busy takes nothing.
_WORKER = Habits(listening="sub", taking=("blmove", "blpop"))

#: Jobs that are looked at, and failed ones of them, which are read one by one.
_JOBS = 2000
_FAILED = 20

#: A failure that is older tells nothing of the workers that there are now.
_LATELY = timedelta(hours=1)

#: What in a traceback says that it was the job itself which could not be imported.
_IMPORTING = "in import_attribute"

#: How a serialized job begins: a pickle of any protocol that RQ has written, and a list in JSON.
_BEGINNINGS = {b"\x80": "pickle", b"[": "JSON"}


class RqHealth:
    """``BrokerProbe`` on RQ; ``timeout`` is in seconds, for each call. Each measurement has its own connection."""

    def __init__(self, url: str, options: RqOptions, *, timeout: float, now: Callable[[], float] = time.time) -> None:
        self._url = url
        self._options = options
        self._timeout = timeout
        self._now = now
        self._workers = RqWorkers(url, options, timeout=timeout)

    async def facts(self) -> RedisFacts:
        """What Redis tells of itself, in a few round trips on one connection."""
        async with self._workers.link() as link:
            return await read_facts(
                link,
                database=database_number(self._url),
                count_workers=self._count,
                waiting=[("LLEN", self._options.list_key)],
                delivered=[("ZCARD", self._options.started), ("LLEN", self._options.intermediate)],
                worker=_WORKER,
                now=self._now,
            )

    async def look(self) -> QueueLook:
        """One glance at the queue."""
        async with self._workers.link() as link:
            depth, head = await link.execute(("LLEN", self._options.list_key), ("LINDEX", self._options.list_key, 0))
        return QueueLook(depth=depth, head=(job_id_of(head or b""),))

    async def messages(self) -> MessageFacts:
        """What the jobs are like; a long queue is looked at in part."""
        options = self._options
        async with self._workers.link() as link:
            listed, started, scheduled, depth, begun, held, has_scheduler, failed = await link.execute(
                ("LRANGE", options.list_key, 0, _JOBS - 1),
                ("ZRANGE", options.started, 0, _JOBS - 1),
                ("ZRANGE", options.scheduled, 0, _JOBS - 1),
                ("LLEN", options.list_key),
                ("ZCARD", options.started),
                ("ZCARD", options.scheduled),
                ("EXISTS", options.scheduler_lock),
                ("ZREVRANGE", options.failed, 0, _FAILED - 1),
            )
            waiting = [job_id_of(member) for member in (*listed, *scheduled)]
            job_ids = list(dict.fromkeys([*waiting, *map(job_in_work, started)]))
            jobs = {job_id: job for job_id, job in (await read_jobs(link, options, job_ids)).items() if job}
            formats = [await self._formats(link, list(jobs)[start : start + 500]) for start in range(0, len(jobs), 500)]
            unimportable = await self._unimportable(link, [job_id_of(member) for member in failed])
        wanted = {"pickle": "pickle", "json": "JSON"}.get(_short_name(options.serializer))
        found = Counter(kind for each in formats for kind in each)
        return MessageFacts(
            total=max(depth + begun + held, len(jobs)),
            read=len(jobs),
            # Of a serializer of somebody's own nobody knows what it looks like.
            unreadable={kind: number for kind, number in found.items() if wanted is not None and kind != wanted},
            format=wanted or options.serializer,
            limits=Counter(job.limit for job in jobs.values() if job.is_of(options.task)),
            held=held,
            has_scheduler=bool(has_scheduler),
            unimportable=unimportable,
        )

    async def leftovers(self) -> Leftovers:
        """None: nobody waits for replies."""
        return Leftovers(reply_lists=0, bindings=0)

    async def workers(self) -> WorkersFacts:
        """What every living worker has written of itself."""
        async with self._workers.link() as link:
            records = await read_records(link, self._options)
        assigned = assign_jobs(records, self._options.queue)
        facts = tuple(
            _facts(worker, assigned, records.now, suspended=records.suspended) for worker in assigned.living.values()
        )
        patience = timedelta(seconds=self._timeout)
        return WorkersFacts(workers=facts, silent=assigned.silent, patience=patience, suspended=records.suspended)

    async def _count(self, link: Link) -> int | None:
        """How many are connected, which one that was killed a moment ago is not."""
        assigned = assign_jobs(await read_records(link, self._options), self._options.queue)
        return len(assigned.living) + assigned.silent - assigned.missing

    async def _formats(self, link: Link, job_ids: Sequence[str]) -> list[str]:
        """What these jobs are serialized in, by how they begin: no more than that is looked at."""
        data = await link.execute(*(("HGET", self._options.job(job_id), "data") for job_id in job_ids))
        return [_format(raw) for raw in data if raw is not None]

    async def _unimportable(self, link: Link, failed: Sequence[str]) -> Counter[str]:
        reasons: Counter[str] = Counter()
        earliest = datetime.fromtimestamp(self._now(), UTC) - _LATELY
        for job_id, job in (await read_jobs(link, self._options, failed)).items():
            if job is None or not job.is_of(self._options.task) or (job.ended_at or earliest) <= earliest:
                continue
            result = await read_result(link, self._options, job_id)
            traceback = (result.traceback if result is not None else None) or ""
            if _IMPORTING in traceback:
                reasons.update(traceback.strip().splitlines()[-1:])
        return reasons


def _facts(worker: Record, assigned: Assignments, now: datetime, *, suspended: bool) -> WorkerFacts:
    birth = worker.birth
    return WorkerFacts(
        name=worker.name,
        queues=() if suspended else worker.queues,
        tasks=None,
        uptime=max(now - birth, timedelta(0)) if birth is not None else None,
        finished=worker.processed,
        busy=len(assigned.running[worker.name]) + len(assigned.taking[worker.name]),
    )


def _format(raw: bytes) -> str:
    try:
        beginning = zlib.decompressobj().decompress(raw, 1)
    except zlib.error:
        beginning = raw[:1]
    return _BEGINNINGS.get(beginning, "something else")


def _short_name(serializer: str) -> str:
    return next((name for name, path in SERIALIZERS.items() if serializer == path), serializer)
