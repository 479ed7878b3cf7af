"""Reading every unfinished job of an RQ queue while jobs move. Writes nothing, and unpickles nothing.

RQ's own listings are not used: they clean up as they go (jobs move to the failed ones, and callbacks run), and they
unpickle every job's ``meta``.

The ids in the queue and in the registries are read at one moment, in one MULTI/EXEC. A very long queue is read before
that, from its tail to its head: workers take from the head, so unread jobs only move towards what is read next. The
jobs themselves are read afterwards, in batches.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sitegenctl.adapters.broker.json_values import moment
from sitegenctl.adapters.redis.connection import Command, Connection
from sitegenctl.adapters.redis.errors import Refusal, without_errors
from sitegenctl.adapters.rq.job import FIELDS, OVER, Job, Place, decode
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.domain.queue.task import BrokerReading, ForeignMessage, LiveTask, TaskState
from sitegenctl.errors import SourceError

#: Ids that are read at once: Redis takes about a millisecond for ten thousand.
_AT_ONCE = 20_000
#: Jobs in one round trip.
_BATCH_SIZE = 500
#: How often a long queue is read again because it moved meanwhile.
_MAX_RETRIES = 20

# Before 2 a job's id could hold a colon, too.
_EXECUTION = re.compile(r":[0-9a-f]{32}$")

#: Every place of every job, in the queue and the registries.
Places = list[tuple[str, Place]]


class Started(NamedTuple):
    """One entry of the registry of jobs in work.

    ``promised_until`` is when the worker's next heartbeat is due; None where it is no time.
    """

    member: bytes
    score: bytes
    promised_until: datetime | None

    @property
    def job_id(self) -> str:
        """The id of its job."""
        return job_in_work(self.member)

    @property
    def delivery(self) -> str:
        """The member as text."""
        return job_id_of(self.member)

    def is_promised(self, now: datetime) -> bool:
        """Whether the next heartbeat is not overdue, so that the worker may well be alive."""
        return self.promised_until is not None and self.promised_until >= now


def started_entries(reply: Sequence[bytes]) -> Iterator[Started]:
    """The entries of the registry of jobs in work in a reply with scores."""
    for member, score in zip(reply[::2], reply[1::2], strict=True):
        yield Started(member, score, moment(float(score)))


def moment_of(reply: Sequence[bytes]) -> datetime:
    """The time in a reply to TIME."""
    return datetime.fromtimestamp(int(reply[0]) + int(reply[1]) / 1e6, UTC)


async def atomically(connection: Connection, commands: Sequence[Command], *, keep_refusals: bool = False) -> list[Any]:
    """The replies to reading commands, all of one moment; ``keep_refusals`` as for a connection.

    A Redis that is out of memory refuses a transaction: then they are executed one after the other.
    """
    *_, replies = await connection.execute(("MULTI",), *commands, ("EXEC",), keep_refusals=True)
    if not isinstance(replies, list):
        return await connection.execute(*commands, keep_refusals=keep_refusals)
    return without_errors(replies, keep_refusals=keep_refusals)


def on_the_way(taken: Sequence[bytes], started: Iterable[Started]) -> list[str]:
    """The ids of jobs that a worker has taken, and that are not yet in the registry of jobs in work.

    RQ leaves a job in the list of taken ones until its process has begun it, which is after it was registered.
    """
    registered = Counter(entry.job_id for entry in started)
    ids: list[str] = []
    for job_id in map(job_id_of, taken):
        if registered[job_id]:
            registered[job_id] -= 1
        else:
            ids.append(job_id)
    return ids


def is_left_over(job: Job | None, place: Place, now: datetime) -> bool:
    """Whether a delivery of an ended job is only an entry that a worker left in the registry.

    The job may have ended at another worker, or have been cancelled, while the process of this delivery goes on and
    sends heartbeats.
    """
    if job is not None and job.status not in OVER:
        return False
    return place.promised_until is None or place.promised_until < now


async def read_jobs(
    connection: Connection, options: RqOptions, job_ids: Iterable[str], skipped: Counter[str] | None = None
) -> dict[str, Job | None]:
    """Read these jobs' hashes; None for a job that is gone, or is no hash, which is counted in ``skipped``."""
    wanted = list(job_ids)
    jobs: dict[str, Job | None] = {}
    for start in range(0, len(wanted), _BATCH_SIZE):
        batch = wanted[start : start + _BATCH_SIZE]
        replies = await connection.execute(
            *(("HMGET", options.job(job_id), *FIELDS) for job_id in batch), keep_refusals=True
        )
        for job_id, values in zip(batch, replies, strict=True):
            jobs[job_id] = None if isinstance(values, Refusal) else Job.of(job_id, values)
            if skipped is not None and isinstance(values, Refusal):
                skipped["job that is no hash"] += 1
    return jobs


def scored(reply: Sequence[bytes]) -> Iterator[tuple[str, float]]:
    """The members of a sorted set with their scores."""
    for member, score in zip(reply[::2], reply[1::2], strict=True):
        yield job_id_of(member), float(score)


def job_id_of(member: bytes) -> str:
    """The id of the job in a member of a list or registry."""
    return member.decode(errors="replace")


def job_in_work(member: bytes) -> str:
    """The id of the job in a member of the registry of jobs in work, to which RQ 2 adds the execution's."""
    return _EXECUTION.sub("", job_id_of(member))


class QueueReading:
    """One reading of the queue; with ``only``, of the jobs of these orders, which have no positions then."""

    def __init__(
        self,
        connection: Connection,
        options: RqOptions,
        *,
        only: Collection[int] | None = None,
        at_once: int = _AT_ONCE,
    ) -> None:
        self._connection = connection
        self._options = options
        self._only = only
        self._at_once = at_once

    async def read(self) -> BrokerReading:
        """Read every place of every unfinished job, in the order of delivery."""
        skipped: Counter[str] = Counter()
        now, places = await self._places(await self._long_list(), skipped)
        jobs = await read_jobs(self._connection, self._options, dict.fromkeys(job_id for job_id, _ in places), skipped)
        places = await self._with_times(places)
        tasks: list[LiveTask] = []
        foreign: list[ForeignMessage] = []
        for job_id, place in places:
            job = jobs[job_id]
            if place.state is TaskState.UNACKED and is_left_over(job, place, now):
                continue
            item = decode(job_id, job, place, self._options)
            if isinstance(item, ForeignMessage):
                foreign.append(item)
            elif self._only is None or item.order_id in self._only:
                tasks.append(item)
        skipped.update(oddity for job in jobs.values() if job is not None for oddity in job.oddities())
        return BrokerReading(
            tasks=tuple(tasks),
            # A job that may be of any order may be of these.
            foreign=tuple(item for item in foreign if self._only is None or item.may_be_ours),
            taken_at=now,
            skipped=+skipped,
        )

    async def _places(self, waiting: list[str] | None, skipped: Counter[str]) -> tuple[datetime, Places]:
        """The time by Redis' clock, and every place of every job, the queue first."""
        options = self._options
        now, listed, scheduled, deferred, ready, limits, started, taken = await atomically(
            self._connection,
            [
                ("TIME",),
                ("LRANGE", options.list_key, 0, -1 if waiting is None else self._at_once),
                ("ZRANGE", options.scheduled, 0, -1, "WITHSCORES"),
                ("ZRANGE", options.deferred, 0, -1),
                ("ZRANGE", options.ready, 0, -1),
                ("SMEMBERS", f"{options.prefix}:rl-keys"),
                ("ZRANGE", options.started, 0, -1, "WITHSCORES"),
                ("LRANGE", options.intermediate, 0, -1),
            ],
        )
        in_line = [job_id_of(member) for member in listed]
        if waiting is not None:
            # The head is of this moment: without what was taken since, and with what was requeued.
            in_line = [*in_line, *_behind(in_line, waiting)]
        places: Places = []
        for position, job_id in enumerate(in_line):
            places.append((job_id, Place(TaskState.QUEUED, None, None if self._only is not None else position)))
        for job_id, due in scored(scheduled):
            if moment(due) is None:
                skipped["due time of a scheduled job"] += 1
            places.append((job_id, Place(TaskState.SCHEDULED, moment(due))))
        for member in dict.fromkeys((*deferred, *ready, *await self._held_back(limits))):
            # They wait for something other than a time.
            places.append((job_id_of(member), Place(TaskState.SCHEDULED)))
        entries = list(started_entries(started))
        for entry in entries:
            if entry.promised_until is None:
                skipped["heartbeat deadline of a started job"] += 1
            place = Place(TaskState.UNACKED, delivery=entry.delivery, promised_until=entry.promised_until)
            places.append((entry.job_id, place))
        for job_id in on_the_way(taken, entries):
            places.append((job_id, Place(TaskState.UNACKED)))
        skipped["id of a job that is no text"] += sum("\ufffd" in job_id for job_id, _ in places)
        return moment_of(now), places

    async def _with_times(self, places: Places) -> Places:
        """Add when each delivery was taken up, which RQ stores in another hash."""
        members = {place.delivery for _, place in places if place.delivery and _EXECUTION.search(place.delivery)}
        if not members:
            return places
        wanted = sorted(members)
        replies = await self._connection.execute(
            *(("HGET", self._options.execution(member), "created_at") for member in wanted), keep_refusals=True
        )
        times = {member: _seconds(reply) for member, reply in zip(wanted, replies, strict=True)}
        return [(job_id, place._replace(taken_up_at=times.get(place.delivery or ""))) for job_id, place in places]

    async def _held_back(self, limits: Sequence[bytes]) -> list[bytes]:
        """The ids of jobs of our queue that RQ 3 holds back because of a rate limit."""
        if not limits:
            return []
        prefix = f"{self._options.prefix}:rl:".encode()
        held = await self._connection.execute(
            *(("ZRANGE", prefix + key + b":rate_limited", 0, -1) for key in limits), keep_refusals=True
        )
        members = [member for members in held if isinstance(members, list) for member in members]
        origins = await self._connection.execute(
            *(("HGET", self._options.job(job_id_of(member)), "origin") for member in members), keep_refusals=True
        )
        ours = self._options.queue.encode()
        return [member for member, origin in zip(members, origins, strict=True) if origin == ours]

    async def _long_list(self) -> list[str] | None:
        """All ids of a long queue in the order of delivery; None where it can be read at once."""
        for _ in range(_MAX_RETRIES):
            (length,) = await self._connection.execute(("LLEN", self._options.list_key))
            if length <= self._at_once:
                return None
            chunks: list[list[bytes]] = []
            for start in range(max(0, length - self._at_once), -self._at_once, -self._at_once):
                # One id more than is new, which shows whether something was pushed to the head meanwhile.
                last = start + self._at_once
                (chunk,) = await self._connection.execute(("LRANGE", self._options.list_key, max(0, start), last))
                if chunks and chunk and chunk[-1] not in chunks[-1]:
                    break
                chunks.append(chunk)
            else:
                return _joined([[job_id_of(member) for member in chunk] for chunk in reversed(chunks)])
        raise SourceError("the queue moves faster than it can be read", hint="try again", source="broker")


def _seconds(reply: Any) -> datetime | None:
    try:
        return moment(float(reply)) if isinstance(reply, bytes) else None
    except ValueError:
        return None


def _joined(chunks: Sequence[Sequence[str]]) -> list[str]:
    """Join chunks that overlap at their ends; an id may be in the list several times."""
    ids: list[str] = []
    for chunk in chunks:
        ends = [place + 1 for place, job_id in enumerate(chunk) if ids and job_id == ids[-1]]
        overlap = next((end for end in reversed(ends) if ids[-end:] == chunk[:end]), 0)
        ids += chunk[overlap:]
    return ids


def _behind(head: Sequence[str], waiting: Sequence[str]) -> Sequence[str]:
    """The part of a list read a moment before that is behind the head read now.

    Ids at the end of the head that are not in that list were added since.
    """
    places: dict[str, list[int]] = {}
    for place, job_id in enumerate(waiting):
        places.setdefault(job_id, []).append(place)
    known = next((place for place in range(len(head), 0, -1) if head[place - 1] in places), 0)
    if not known:
        return waiting

    def matching(end: int) -> int:
        count = 0
        while count < min(end, known) and waiting[end - 1 - count] == head[known - 1 - count]:
            count += 1
        return count

    # Of several places of that id, the one whose predecessors match the head best.
    return waiting[max((place + 1 for place in places[head[known - 1]]), key=matching) :]
