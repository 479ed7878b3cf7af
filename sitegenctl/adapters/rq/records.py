"""Workers' records in Redis, and what is in work, as they are: nothing is concluded here.

RQ's workers cannot be asked. Each keeps a record, renews it, and lets it expire; a killed worker leaves its record for
minutes. Each also listens for commands, on a channel of its own, and Redis knows whether it does.
Source: rq/worker.py, executions.py, command.py, 1.15 to 3.0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sitegenctl.adapters.broker.task_args import parse_time
from sitegenctl.adapters.redis.connection import Command, Connection
from sitegenctl.adapters.redis.errors import Refusal
from sitegenctl.adapters.rq.job import OVER, UNLIMITED, Job, Place
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.adapters.rq.reader import (
    Started,
    atomically,
    job_id_of,
    job_in_work,
    moment_of,
    on_the_way,
    read_jobs,
    started_entries,
)
from sitegenctl.domain.diagnosis.liveness import LIMIT_MARGIN
from sitegenctl.domain.queue.task import DEFAULT_HARD_LIMIT, TaskState

WORKER_FIELDS = (
    "birth",
    "death",
    "last_heartbeat",
    "state",
    "current_job",
    "queues",
    "pid",
    "hostname",
    "version",
    "successful_job_count",
    "failed_job_count",
    "total_working_time",
)

#: Readings of the records while workers come and go.
_MAX_READINGS = 3

# Numbers in a record count processes or jobs; Python itself refuses to read very long ones.
_MAX_DIGITS = 18

#: The last commands of a worker's connection that waits for jobs.
_TAKING_COMMANDS = ("blmove", "blpop", "brpoplpush")


@dataclass(frozen=True, kw_only=True)
class Record:
    """The record of one worker; ``is_connected`` is whether it listens for commands.

    ``jobs`` are those in work, ``deliveries`` the members of the registry that it names (RQ 3).
    """

    name: str
    fields: Mapping[str, str]
    is_connected: bool
    jobs: tuple[str, ...] = ()
    deliveries: tuple[str, ...] = ()

    @property
    def is_there(self) -> bool:
        """Whether the record has not expired, and does not report the worker's end."""
        return bool(self.fields["birth"] or self.fields["last_heartbeat"]) and not self.fields["death"]

    @property
    def is_suspended(self) -> bool:
        """Whether the worker takes no jobs."""
        return self.fields["state"] == "suspended"

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that it takes jobs from, in its order of preference."""
        return tuple(name for name in self.fields["queues"].split(",") if name)

    @property
    def heartbeat(self) -> datetime | None:
        """Its last heartbeat, by its own clock."""
        return parse_time(self.fields["last_heartbeat"])

    @property
    def birth(self) -> datetime | None:
        """When it started, by its own clock."""
        return parse_time(self.fields["birth"])

    @property
    def processed(self) -> int:
        """The number of jobs that ended at it since then."""
        return (self.count("successful_job_count") or 0) + (self.count("failed_job_count") or 0)

    def count(self, name: str) -> int | None:
        """A number in its record."""
        value = self.fields[name]
        return int(value) if value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS else None

    def names(self, entry: Started) -> bool:
        """Whether it reports that it runs this entry of the registry, or another one of the same job."""
        if any(job_in_work(delivery.encode()) == entry.job_id for delivery in self.deliveries):
            return entry.delivery in self.deliveries
        return entry.job_id in self.jobs


@dataclass(frozen=True, kw_only=True)
class Records:
    """All workers' records, and what is in work by the registries, at one moment: ``now``, by Redis' clock.

    ``started`` are the entries of the registry of jobs in work. ``taken`` are jobs on their way to a worker, not yet in
    that registry. ``suspended``: all workers take no jobs. ``consumers`` are the clients that wait for jobs, None where
    they were not counted. ``hard_limit`` is that of jobs without one of their own. ``skipped`` counts values that did
    not fit.
    """

    now: datetime
    workers: tuple[Record, ...]
    started: tuple[Started, ...]
    taken: tuple[str, ...]
    suspended: bool = False
    jobs: Mapping[str, Job | None] = field(default_factory=dict)
    consumers: int | None = None
    hard_limit: timedelta = DEFAULT_HARD_LIMIT
    skipped: Mapping[str, int] = field(default_factory=dict)

    def entries(self, job_id: str) -> list[Started]:
        """The entries of a job in the registry of jobs in work."""
        return [entry for entry in self.started if entry.job_id == job_id]

    def is_due(self, job_id: str) -> bool:
        """Whether the next heartbeat for this job is not overdue, so that its worker may well be alive."""
        return any(entry.is_promised(self.now) for entry in self.entries(job_id))

    def over_at(self, entry: Started) -> datetime | None:
        """When the job's time limit ends whatever runs this entry; None where that cannot be known."""
        job = self.jobs.get(entry.job_id)
        limit = (job.time_limit if job is not None else None) or self.hard_limit
        began = job.taken_up_at(Place(TaskState.UNACKED)) if job is not None else None
        # It began before it promised another heartbeat.
        began = began or entry.promised_until
        if began is None or limit >= UNLIMITED:
            return None
        try:
            return began + limit + LIMIT_MARGIN
        except OverflowError:
            return None

    def is_over(self, job_id: str) -> bool:
        """Whether the job ended while the records were read."""
        job = self.jobs.get(job_id)
        return job is None or job.status in OVER

    @property
    def may_have_taken(self) -> bool:
        """Whether a worker may have taken a job from our queue and not begun it: one that waits for jobs has none."""
        idle = [worker for worker in self.workers if worker.is_there and not worker.jobs and not worker.is_suspended]
        return len(idle) > (self.consumers or 0)


async def read_records(connection: Connection, options: RqOptions) -> Records:
    """Read all workers' records and what is in work. Writes nothing, unlike RQ's ``Worker.all``."""
    skipped: Counter[str] = Counter()
    (keys,) = await connection.execute(("SMEMBERS", options.workers))
    for _ in range(_MAX_READINGS):
        names = sorted(options.worker_name(key.decode(errors="replace")) for key in keys)
        commands = _commands(options, names)
        now, again, started, taken, suspended, *replies = await atomically(connection, commands, keep_refusals=True)
        for reply in (again, started, taken, suspended):
            if isinstance(reply, Refusal):
                raise reply
        if set(again) <= set(keys):
            break
        keys = again  # a worker started meanwhile, and may have begun a job already
    workers = [_record(name, skipped, *replies[3 * place : 3 * place + 3]) for place, name in enumerate(names)]
    entries = tuple(started_entries(started))
    skipped["heartbeat deadline of a started job"] += sum(entry.promised_until is None for entry in entries)
    taken_ids = tuple(on_the_way(taken, entries))
    job_ids = {
        *taken_ids,
        *(entry.job_id for entry in entries),
        *(job_id for worker in workers for job_id in worker.jobs),
    }
    there = [worker for worker in workers if worker.is_there]
    is_in_doubt = bool(taken_ids) or not there or not all(worker.is_connected for worker in there)
    return Records(
        now=moment_of(now),
        workers=tuple(workers),
        started=entries,
        taken=taken_ids,
        suspended=bool(suspended),
        jobs=await read_jobs(connection, options, sorted(job_ids), skipped),
        consumers=await _count_consumers(connection) if is_in_doubt else None,
        hard_limit=options.hard_limit,
        skipped=+skipped,
    )


async def _count_consumers(connection: Connection) -> int | None:
    """The number of clients of the connection's database that wait for jobs; None where Redis does not list clients."""
    listing, own = await connection.execute(("CLIENT", "LIST"), ("CLIENT", "ID"), keep_refusals=True)
    if isinstance(listing, Refusal) or isinstance(own, Refusal):
        return None
    lines: list[str] = listing.decode(errors="replace").splitlines()
    clients = [dict(word.partition("=")[::2] for word in line.split()) for line in lines]
    database = next((client.get("db") for client in clients if client.get("id") == str(own)), None)
    return sum(client.get("db") == database and client.get("cmd") in _TAKING_COMMANDS for client in clients)


def _commands(options: RqOptions, names: Sequence[str]) -> list[Command]:
    commands: list[Command] = [
        ("TIME",),
        ("SMEMBERS", options.workers),
        ("ZRANGE", options.started, 0, -1, "WITHSCORES"),
        ("LRANGE", options.intermediate, 0, -1),
        ("EXISTS", options.suspended),
    ]
    for name in names:
        commands += [
            ("HMGET", options.worker(name), *WORKER_FIELDS),
            ("SMEMBERS", options.executions(name)),
            ("PUBSUB", "NUMSUB", options.channel(name)),
        ]
    return commands


def _record(name: str, skipped: Counter[str], values: Any, executions: Any, listening: Any) -> Record:
    skipped["worker record that is no hash"] += isinstance(values, Refusal)
    skipped["jobs of a worker that are no set"] += isinstance(executions, Refusal)
    raw = values if isinstance(values, list) else [None] * len(WORKER_FIELDS)
    fields = {
        key: value.decode(errors="replace") if value else "" for key, value in zip(WORKER_FIELDS, raw, strict=True)
    }
    members = executions if isinstance(executions, list) else []
    jobs = [job_in_work(member) for member in members]
    if fields["current_job"]:
        jobs.append(fields["current_job"])
    return Record(
        name=name,
        fields=fields,
        # Where an ACL forbids PUBSUB, the record alone has to do.
        is_connected=isinstance(listening, Refusal) or int(listening[1]) > 0,
        jobs=tuple(dict.fromkeys(jobs)),
        deliveries=tuple(map(job_id_of, members)),
    )
