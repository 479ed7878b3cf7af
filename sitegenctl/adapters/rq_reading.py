"""Reading every unfinished job of an RQ queue, whatever moves meanwhile. Writes nothing, and unpickles nothing.

RQ's own ways of listing are not taken: they clean up as they go (jobs are moved to the failed ones, and callbacks
run), and they unpickle every job's ``meta``.

The ids in the queue and in the registries are read at one moment, in one MULTI/EXEC; a queue that is very long is
read before, from its tail to its head, because workers take from the head: what is not read yet then moves only
towards what is read next. What the jobs are is read afterwards, in chunks.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from sitegenctl.adapters.json_values import moment
from sitegenctl.adapters.redis_errors import Refusal, without_errors
from sitegenctl.adapters.redis_link import Link
from sitegenctl.adapters.redis_wire import Command
from sitegenctl.adapters.rq_job import FIELDS, OVER, Job, Place, decode
from sitegenctl.adapters.rq_options import RqOptions
from sitegenctl.domain.task import BrokerReading, ForeignMessage, LiveTask, TaskState
from sitegenctl.errors import SourceError

#: Ids that are asked of Redis at once: it takes about a millisecond for ten thousand.
_AT_ONCE = 20_000
#: Jobs in one round trip.
_CHUNK = 500
#: How often a long queue is read anew because it moved meanwhile.
_PATIENCE = 20

# Before 2 a job's id could hold a colon, too.
_EXECUTION = re.compile(r":[0-9a-f]{32}$")

#: Job ids with where each was found.
Places = dict[str, Place]


async def atomically(link: Link, commands: Sequence[Command], *, keep_refusals: bool = False) -> list[Any]:
    """The replies to commands that read, all of one moment; ``keep_refusals`` as for a link.

    One after the other where Redis refuses that: when it is out of memory, for one.
    """
    *_, replies = await link.execute(("MULTI",), *commands, ("EXEC",), keep_refusals=True)
    if not isinstance(replies, list):
        return await link.execute(*commands, keep_refusals=keep_refusals)
    return without_errors(replies, keep_refusals=keep_refusals)


async def read_jobs(link: Link, options: RqOptions, job_ids: Iterable[str]) -> dict[str, Job | None]:
    """Read these jobs' hashes, as far as they may be trusted; None for one that is gone."""
    wanted = list(job_ids)
    jobs: dict[str, Job | None] = {}
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        answers = await link.execute(*(("HMGET", options.job(job_id), *FIELDS) for job_id in chunk), keep_refusals=True)
        for job_id, values in zip(chunk, answers, strict=True):
            # What is no hash is no job.
            jobs[job_id] = None if isinstance(values, Refusal) else Job.of(job_id, values)
    return jobs


def scored(reply: Sequence[bytes]) -> Iterator[tuple[str, float]]:
    """The members of a sorted set with their scores."""
    for member, score in zip(reply[::2], reply[1::2], strict=True):
        yield job_id_of(member), float(score)


def job_id_of(member: bytes) -> str:
    """The id of the job in a member of a list or registry."""
    return member.decode(errors="replace")


def job_in_work(member: bytes) -> str:
    """The id of the job in a member of the registry of those in work; from 2 on RQ adds the execution's."""
    return _EXECUTION.sub("", job_id_of(member))


class QueueReading:
    """One reading of the queue. With ``only``, nothing is kept but jobs of these orders, and they have no positions."""

    def __init__(
        self, link: Link, options: RqOptions, *, only: Collection[int] | None = None, at_once: int = _AT_ONCE
    ) -> None:
        self._link = link
        self._options = options
        self._only = only
        self._at_once = at_once

    async def read(self) -> BrokerReading:
        """Read what is unfinished, each job once, in the order of delivery."""
        places = await self._places(await self._long_list())
        jobs = await read_jobs(self._link, self._options, places)
        tasks: list[LiveTask] = []
        foreign: list[ForeignMessage] = []
        for job_id, place in places.items():
            job = jobs[job_id]
            if place.state is TaskState.UNACKED and (job is None or job.status in OVER):
                continue  # what a worker that is done with it, or a dead one, left in a registry
            item = decode(job_id, job, place, task=self._options.task)
            if isinstance(item, ForeignMessage):
                foreign.append(item)
            elif self._only is None or item.order_id in self._only:
                tasks.append(item)
        return BrokerReading(tasks=tuple(tasks), foreign=tuple(foreign) if self._only is None else ())

    async def _places(self, waiting: list[str] | None) -> Places:
        """Where each job is; the first of several places counts, of which the queue comes first."""
        options = self._options
        listed, scheduled, deferred, ready, limits, started, taken = await atomically(
            self._link,
            [
                ("LRANGE", options.list_key, 0, -1 if waiting is None else self._at_once),
                ("ZRANGE", options.scheduled, 0, -1, "WITHSCORES"),
                ("ZRANGE", options.deferred, 0, -1),
                ("ZRANGE", options.ready, 0, -1),
                ("SMEMBERS", f"{options.prefix}:rl-keys"),
                ("ZRANGE", options.started, 0, -1),
                ("LRANGE", options.intermediate, 0, -1),
            ],
        )
        in_line = [job_id_of(member) for member in listed]
        if waiting is not None:
            # What was taken since is at the head no longer; what was put there is.
            in_line = [*in_line, *_behind(in_line, waiting)]
        places: Places = {}
        for position, job_id in enumerate(in_line):
            places.setdefault(job_id, Place(TaskState.QUEUED, None, None if self._only is not None else position))
        for job_id, due in scored(scheduled):
            places.setdefault(job_id, Place(TaskState.SCHEDULED, moment(due)))
        for member in (*deferred, *ready, *await self._held_back(limits)):
            # They wait for something else than a time.
            places.setdefault(job_id_of(member), Place(TaskState.SCHEDULED))
        for job_id in (*map(job_in_work, started), *map(job_id_of, taken)):
            places.setdefault(job_id, Place(TaskState.UNACKED))
        return places

    async def _held_back(self, limits: Sequence[bytes]) -> list[bytes]:
        """The ids of jobs of our queue that RQ 3 holds back because too many of a kind are running."""
        if not limits:
            return []
        prefix = f"{self._options.prefix}:rl:".encode()
        held = await self._link.execute(
            *(("ZRANGE", prefix + key + b":rate_limited", 0, -1) for key in limits), keep_refusals=True
        )
        members = [member for members in held if isinstance(members, list) for member in members]
        origins = await self._link.execute(
            *(("HGET", self._options.job(job_id_of(member)), "origin") for member in members), keep_refusals=True
        )
        ours = self._options.queue.encode()
        return [member for member, origin in zip(members, origins, strict=True) if origin == ours]

    async def _long_list(self) -> list[str] | None:
        """All ids of a long queue in the order of delivery; None where it is short enough to be read at once."""
        for _ in range(_PATIENCE):
            (length,) = await self._link.execute(("LLEN", self._options.list_key))
            if length <= self._at_once:
                return None
            chunks: list[list[bytes]] = []
            for start in range(max(0, length - self._at_once), -self._at_once, -self._at_once):
                # One more than is new, to see whether something was put in at the head, which moves all away.
                last = start + self._at_once
                (chunk,) = await self._link.execute(("LRANGE", self._options.list_key, max(0, start), last))
                if chunks and chunk and chunk[-1] not in chunks[-1]:
                    break
                chunks.append(chunk)
            else:
                return list(dict.fromkeys(job_id_of(member) for chunk in reversed(chunks) for member in chunk))
        raise SourceError("the queue moves faster than it can be read", hint="try again", source="broker")


def _behind(head: Sequence[str], waiting: Sequence[str]) -> list[str]:
    """What waits behind the head, in a list that was read a moment before: from where the head is met in it on."""
    known = set(head)
    last = max((place for place, job_id in enumerate(waiting) if job_id in known), default=-1)
    return [job_id for job_id in waiting[last + 1 :] if job_id not in known]
