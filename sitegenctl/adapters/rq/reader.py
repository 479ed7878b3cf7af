"""Reading every unfinished job of an RQ queue while jobs move, and results. Writes nothing, and unpickles nothing.

RQ's own listings are not used: they clean up as they go (jobs move to the failed ones, and callbacks run), and they
unpickle every job's ``meta``.

The ids in the queue and in the registries are read at one moment, in one MULTI/EXEC: Redis takes about a millisecond
for ten thousand. The jobs themselves are read afterwards, in batches.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sitegenctl.adapters.broker.json_values import moment
from sitegenctl.adapters.redis.connection import Command, Connection
from sitegenctl.adapters.redis.errors import Refusal, without_errors
from sitegenctl.adapters.rq.job import FIELDS, OVER, Job, Place, Started, decode, is_execution, job_id_of
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.domain.queue.task import BrokerReading, ForeignMessage, LiveTask, TaskResult, TaskState

#: Jobs in one round trip.
_BATCH_SIZE = 500

#: How many jobs that wait for one another are followed.
_MAX_CHAIN = 10

#: Bytes of a traceback or a result at most; a traceback is compressed by its worker.
_MAX_BYTES = 1_000_000

#: RQ's numbers for the outcome of an attempt.
_OUTCOMES = {"1": "FINISHED", "2": "FAILED", "3": "STOPPED", "4": "RETRIED", "5": "FAILED"}

#: Every place of every job, in the queue and the registries.
Places = list[tuple[str, Place]]


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


def scored(reply: Sequence[bytes]) -> Iterator[tuple[str, datetime | None]]:
    """The members of a sorted set whose scores are times; None for a score that is no time."""
    for member, score in zip(reply[::2], reply[1::2], strict=True):
        yield job_id_of(member), moment(float(score))


async def read_queue(connection: Connection, options: RqOptions, only: Collection[int] | None = None) -> BrokerReading:
    """Read every place of every unfinished job, in the order of delivery.

    With ``only``, read the jobs of these orders, which have no positions then.
    """
    skipped: Counter[str] = Counter()
    now, places = await _read_places(connection, options, skipped)
    jobs = await read_jobs(connection, options, dict.fromkeys(job_id for job_id, _ in places), skipped)
    places = await _with_times(connection, options, places)
    stuck = await why_stuck(connection, options, jobs)
    tasks: list[LiveTask] = []
    foreign: list[ForeignMessage] = []
    for job_id, place in places:
        job = jobs[job_id]
        is_over = job is None or job.status in OVER
        if place.state is TaskState.UNACKED and is_over and not (place.entry and place.entry.is_promised(now)):
            # A worker left this entry in the registry. A promised one counts: the job may have ended at another worker,
            # or have been cancelled, while the process of this delivery goes on and sends heartbeats.
            continue
        if place.state is TaskState.SCHEDULED and place.due is None and job_id in stuck:
            place = place._replace(state=TaskState.ORPHANED, reason=stuck[job_id])
        if only is not None:
            place = place._replace(position=None)
        item = decode(job_id, job, place, options)
        if isinstance(item, ForeignMessage):
            foreign.append(item)
        elif only is None or item.order_id in only:
            tasks.append(item)
    skipped.update(oddity for job in jobs.values() if job is not None for oddity in job.oddities())
    return BrokerReading(
        tasks=tuple(tasks),
        # A job that may be of any order may be of these.
        foreign=tuple(item for item in foreign if only is None or item.may_be_ours),
        taken_at=now,
        skipped=+skipped,
    )


async def _read_places(connection: Connection, options: RqOptions, skipped: Counter[str]) -> tuple[datetime, Places]:
    """The time by Redis' clock, and every place of every job, the queue first."""
    now, listed, scheduled, deferred, ready, limits, started, taken = await atomically(
        connection,
        [
            ("TIME",),
            ("LRANGE", options.list_key, 0, -1),
            ("ZRANGE", options.registry("scheduled"), 0, -1, "WITHSCORES"),
            ("ZRANGE", options.registry("deferred"), 0, -1),
            ("ZRANGE", options.registry("ready"), 0, -1),
            ("SMEMBERS", f"{options.prefix}:rl-keys"),
            ("ZRANGE", options.started, 0, -1, "WITHSCORES"),
            ("LRANGE", options.intermediate, 0, -1),
        ],
    )
    places: Places = [
        (job_id_of(member), Place(TaskState.QUEUED, position=position)) for position, member in enumerate(listed)
    ]
    for job_id, due in scored(scheduled):
        skipped["due time of a scheduled job"] += due is None
        places.append((job_id, Place(TaskState.SCHEDULED, due)))
    # These wait for something other than a time.
    untimed = dict.fromkeys((*deferred, *ready, *await _held_back(connection, options, limits)))
    places += [(job_id_of(member), Place(TaskState.SCHEDULED)) for member in untimed]
    entries = list(started_entries(started))
    skipped["heartbeat deadline of a started job"] += sum(entry.promised_until is None for entry in entries)
    places += [(entry.job_id, Place(TaskState.UNACKED, entry=entry)) for entry in entries]
    places += [(job_id, Place(TaskState.UNACKED)) for job_id in on_the_way(taken, entries)]
    skipped["id of a job that is no text"] += sum("\ufffd" in job_id for job_id, _ in places)
    return moment_of(now), places


async def why_stuck(connection: Connection, options: RqOptions, jobs: Mapping[str, Job | None]) -> dict[str, str]:
    """Why RQ will never queue some of these deferred jobs, by id.

    RQ queues a deferred job when the last of its dependencies ends. It ignores those that are gone, and leaves the job
    deferred for ever where one failed or was cancelled (rq#2074, rq#1093).
    """
    deferred = {job_id: job for job_id, job in jobs.items() if job is not None and job.status == "deferred"}
    known = dict(jobs)
    added = deferred
    for _ in range(_MAX_CHAIN):
        wanted = {dependency for job in added.values() for dependency in job.dependencies} - known.keys()
        if not wanted:
            break
        read = await read_jobs(connection, options, sorted(wanted))
        known |= read
        added = {job_id: job for job_id, job in read.items() if job is not None and job.status == "deferred"}
        deferred |= added
    reasons: dict[str, str] = {}
    for _ in range(_MAX_CHAIN):  # a job that depends on a stuck one is stuck, too
        for job_id in deferred.keys() - reasons.keys():
            if (reason := _why_stuck(deferred[job_id], known, reasons)) is not None:
                reasons[job_id] = reason
    return {job_id: reason for job_id, reason in reasons.items() if job_id in jobs}


def _why_stuck(job: Job, known: Mapping[str, Job | None], stuck: Collection[str]) -> str | None:
    dependencies = {job_id: known[job_id] for job_id in job.dependencies if job_id in known}
    if not dependencies or len(dependencies) < len(set(job.dependencies)):
        return None
    for job_id, dependency in dependencies.items():
        if dependency is not None and job.is_ended_by(dependency):
            verb = "failed" if dependency.status == "failed" else f"was {dependency.status}"
            return f"deferred: job {job_id}, on which it depends, {verb}"
        if job_id in stuck:
            return f"deferred: job {job_id}, on which it depends, will never run"
    if any(dependency is not None and dependency.status not in OVER for dependency in dependencies.values()):
        return None
    gone = next((job_id for job_id, dependency in dependencies.items() if dependency is None), None)
    if gone is not None:
        return f"deferred: job {gone}, on which it depends, no longer exists"
    return "deferred, although the jobs on which it depends have ended"


async def _with_times(connection: Connection, options: RqOptions, places: Places) -> Places:
    """Add when each delivery was taken up, which RQ stores in another hash."""
    members = sorted({place.delivery for _, place in places if place.delivery and is_execution(place.delivery)})
    if not members:
        return places
    replies = await connection.execute(
        *(("HGET", options.execution(member), "created_at") for member in members), keep_refusals=True
    )
    times = {member: _seconds(reply) for member, reply in zip(members, replies, strict=True)}
    return [(job_id, place._replace(taken_up_at=times.get(place.delivery or ""))) for job_id, place in places]


def _seconds(reply: Any) -> datetime | None:
    try:
        return moment(float(reply)) if isinstance(reply, bytes) else None
    except ValueError:
        return None


async def _held_back(connection: Connection, options: RqOptions, limits: Sequence[bytes]) -> list[bytes]:
    """The ids of jobs of our queue that RQ 3 holds back because of a rate limit."""
    if not limits:
        return []
    prefix = f"{options.prefix}:rl:".encode()
    held = await connection.execute(
        *(("ZRANGE", prefix + key + b":rate_limited", 0, -1) for key in limits), keep_refusals=True
    )
    members = [member for members in held if isinstance(members, list) for member in members]
    origins = await connection.execute(
        *(("HGET", options.job(job_id_of(member)), "origin") for member in members), keep_refusals=True
    )
    ours = options.queue.encode()
    return [member for member, origin in zip(members, origins, strict=True) if origin == ours]


async def read_result(connection: Connection, options: RqOptions, job_id: str) -> TaskResult | None:
    """The result of the job's last attempt that has ended; None where there is none."""
    command = ("XREVRANGE", options.results(job_id), "+", "-", "COUNT", 1)
    (newest,) = await connection.execute(command, keep_refusals=True)
    if not isinstance(newest, list) or not newest:
        return None
    entry_id, values = newest[0]
    texts = [value.decode(errors="replace") for value in values]
    fields = dict(zip(texts[::2], texts[1::2], strict=True))
    return TaskResult(
        status=_OUTCOMES.get(fields.get("type", ""), "UNDECODABLE"),
        value=_value(fields["return_value"]) if "return_value" in fields else None,
        traceback=_unpacked(fields["exc_string"]) if "exc_string" in fields else None,
        # An entry's id begins with the time in milliseconds.
        date_done=moment(int(entry_id.partition(b"-")[0]) / 1000),
    )


def _unpacked(text: str) -> str | None:
    """A traceback from compressed text in base64; None for anything else."""
    try:
        return zlib.decompressobj().decompress(base64.b64decode(text), _MAX_BYTES).decode(errors="replace")
    except (ValueError, zlib.error):
        return None


def _value(text: str) -> str | None:
    """The returned value as JSON; None for anything else, usually a pickle, which is never loaded."""
    if len(text) > _MAX_BYTES:
        return None
    try:
        value: Any = json.loads(base64.b64decode(text))
    except (ValueError, RecursionError):
        return None
    return json.dumps(value, ensure_ascii=False)
