"""Workers' records in Redis, and what they show: which workers are alive, and which jobs each of them has.

RQ's workers cannot be asked. Each keeps a record, renews it, and lets it expire; a killed worker leaves its record for
minutes. Each also listens for commands, on a channel of its own, and Redis knows whether it does.

A worker that listens is there. One that does not may have lost that connection alone; and a worker that gives up
because Redis was unreachable leaves the process of its job running.
Source: rq/worker.py, executions.py, command.py, 1.15 to 3.0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sitegenctl.adapters.broker.task_args import parse_time
from sitegenctl.adapters.redis.connection import Command, Connection
from sitegenctl.adapters.redis.errors import Refusal
from sitegenctl.adapters.rq.job import OVER, UNLIMITED, Job, Place, Started, job_id_of, job_in_work
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.adapters.rq.reader import atomically, moment_of, on_the_way, read_jobs, started_entries
from sitegenctl.domain.diagnosis.liveness import LIMIT_MARGIN
from sitegenctl.domain.queue.task import DEFAULT_HARD_LIMIT, LiveTask, TaskState

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
)

#: Readings of the records while workers come and go.
_MAX_READINGS = 3

# Numbers in a record count processes or jobs; Python itself refuses to read very long ones.
_MAX_DIGITS = 18

#: The last commands of a worker's connection that waits for jobs.
_TAKING_COMMANDS = ("blmove", "blpop", "brpoplpush")

#: For so long after its heartbeat a worker may be about to begin a job that it has taken; RQ allows a minute, too.
_TAKING = timedelta(minutes=1)


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
    def is_idle(self) -> bool:
        """Whether the worker waits for jobs."""
        return not self.jobs and self.fields["state"] != "suspended"

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that it takes jobs from, in its order of preference."""
        return tuple(name for name in self.fields["queues"].split(",") if name)

    @property
    def processed(self) -> int:
        """The number of jobs that ended at it since it started."""
        return (self.count("successful_job_count") or 0) + (self.count("failed_job_count") or 0)

    def uptime(self, now: datetime) -> timedelta | None:
        """The time since it started; it started by its own clock."""
        birth = parse_time(self.fields["birth"])
        return max(now - birth, timedelta(0)) if birth is not None else None

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

    def entries_of(self, places: Iterable[LiveTask]) -> list[Started]:
        """The entries at these places; a place without delivery has all of its job's."""
        matching = (
            entry for task in places for entry in self.entries(task.task_id) if task.delivery in (None, entry.delivery)
        )
        return list({entry.member: entry for entry in matching}.values())

    def is_over(self, job_id: str) -> bool:
        """Whether the job ended while the records were read."""
        job = self.jobs.get(job_id)
        return job is None or job.status in OVER

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


class Held(NamedTuple):
    """A job that a worker runs, or is about to begin.

    ``delivery`` is its member of the registry of jobs in work; None if it is only in the worker's record.
    """

    job_id: str
    state: TaskState = TaskState.RUNNING
    delivery: str | None = None


@dataclass
class Assignments:
    """What the records show: the living workers, and the jobs that each of them ``held``.

    Nothing may be concluded from ``silent`` workers; ``missing`` of them are not connected to Redis. They have
    ``silent_names``, which are fewer where a name is not known, and more where it is not known which of several they
    are. ``doubts`` has the reason why an entry of the registry that no living worker has may be running all the same,
    by its member.
    """

    records: Records
    living: dict[str, Record] = field(default_factory=dict)
    held: dict[str, list[Held]] = field(default_factory=dict)
    silent: int = 0
    missing: int = 0
    silent_names: list[str] = field(default_factory=list)
    doubts: dict[str, str] = field(default_factory=dict)

    def holders(self, job_id: str) -> list[tuple[str, TaskState]]:
        """The workers that have this job, and its state there."""
        return [(name, job.state) for name, jobs in self.held.items() for job in jobs if job.job_id == job_id]

    def holder(self, job_id: str) -> tuple[str, TaskState] | None:
        """The first of them."""
        return next(iter(self.holders(job_id)), None)

    def runner(self, delivery: str | None) -> str | None:
        """The living worker that runs this entry of the registry."""
        runners = (name for name, jobs in self.held.items() for job in jobs if job.delivery == delivery)
        return next(runners, None) if delivery is not None else None

    def why_undecided(self, task: LiveTask) -> str | None:
        """Why a delivery that no living worker has may be running; None where its time limit has ended it.

        An orphaned task has been decided with more knowledge: then only what Redis shows now counts.
        """
        records = self.records
        entries = records.entries_of([task])
        for entry in entries:
            if entry.delivery in self.doubts:
                return self.doubts[entry.delivery]
            over_at = records.over_at(entry)
            if task.state is TaskState.ORPHANED or (over_at is not None and over_at <= records.now):
                continue
            if over_at is None:
                return "its worker did not respond and may be running it: it has no time limit"
            return f"its worker did not respond and may be running it until {over_at:%H:%M:%S} UTC"
        # A worker that waits for jobs has not taken one.
        idle = sum(worker.is_there and worker.is_idle for worker in records.workers)
        if not entries and task.task_id in records.taken and idle > (records.consumers or 0):
            return "a worker took it and may be about to begin it"
        return None


async def read_assignments(connection: Connection, options: RqOptions) -> Assignments:
    """Read which workers are alive, and which jobs each has."""
    return assign_jobs(await read_records(connection, options), options.queue)


async def read_records(connection: Connection, options: RqOptions) -> Records:
    """Read all workers' records and what is in work. Writes nothing, unlike RQ's ``Worker.all``."""
    skipped: Counter[str] = Counter()
    (keys,) = await connection.execute(("SMEMBERS", options.workers))
    for _ in range(_MAX_READINGS):
        names = sorted(key.decode(errors="replace").removeprefix(options.worker("")) for key in keys)
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
    job_ids = {*taken_ids, *(entry.job_id for entry in entries)}
    job_ids.update(job_id for worker in workers for job_id in worker.jobs)
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


def assign_jobs(records: Records, queue: str) -> Assignments:
    """Conclude which workers are alive and which jobs each has.

    A connected worker with a record is alive, and runs what its record names. Between taking a job and recording it,
    it may have any job that no other worker has. It is silent when its record expired, or when the heartbeat for its
    job is overdue: then it hangs, or it was killed and its job's process lives on.

    A job whose heartbeat is not overdue, and that no connected worker has, is at a worker that has lost Redis or its
    subscription, or has just died: that one is silent, too. So is an idle worker that does not listen, while more
    clients wait for jobs than there are workers that do.

    A worker's record never shows that its job has ended: a worker that lost Redis for too long records its death, and
    leaves the process of its job running. The job's time limit shows it.
    """
    assigned = Assignments(records)
    _find_living(assigned)
    beginning = [
        name for name, worker in assigned.living.items() if worker.fields["state"] == "busy" and not worker.jobs
    ]
    for entry in _match_entries(assigned):
        if entry.delivery in assigned.doubts or not entry.is_promised(records.now):
            continue
        if beginning and not records.is_over(entry.job_id):
            assigned.held[beginning.pop()].append(Held(entry.job_id, delivery=entry.delivery))
        else:
            if not records.is_over(entry.job_id):
                assigned.missing += 1
                job = records.jobs[entry.job_id]
                if job is not None and job.worker and job.worker not in assigned.silent_names:
                    assigned.silent_names.append(job.worker)
            assigned.doubts[entry.delivery] = (
                "its worker did not respond and may be running it:"
                f" its next heartbeat is due by {entry.promised_until:%H:%M:%S} UTC"
            )
    _assign_taken(assigned, queue, beginning)
    # Idle workers that do not listen, and yet wait for jobs.
    deaf = [each.name for each in records.workers if each.is_there and not each.is_connected and not each.jobs]
    apart = len(deaf)
    if records.consumers is not None:
        apart = min(apart, max(records.consumers - sum(worker.is_idle for worker in assigned.living.values()), 0))
    assigned.missing += apart
    assigned.silent_names += deaf if apart else []
    assigned.silent += assigned.missing
    return assigned


def _find_living(assigned: Assignments) -> None:
    """Find the living workers, and those that are silent although they are connected."""
    records = assigned.records

    def may_run(entry: Started, worker: str) -> bool:
        """Whether this worker began this entry, which has not certainly run into its time limit."""
        job, over_at = records.jobs.get(entry.job_id), records.over_at(entry)
        began = job is not None and job.status not in OVER and job.worker == worker
        return began and (over_at is None or records.now < over_at)

    for worker in records.workers:
        if not worker.is_connected or worker.fields["death"]:
            continue
        own = [entry for entry in records.started if worker.names(entry)]
        is_overdue = bool(own) and not any(entry.is_promised(records.now) for entry in own)
        if worker.is_there and not is_overdue:
            assigned.living[worker.name] = worker
            continue
        # It may be its scheduler alone that is still connected: it counts while a job of its may be running.
        began = own or [entry for entry in records.started if may_run(entry, worker.name)]
        assigned.silent += bool(began)
        assigned.silent_names += [worker.name] if began else []
        reason = f"its worker {worker.name} did not respond and may be running it"
        assigned.doubts |= {entry.delivery: reason for entry in began}


def _match_entries(assigned: Assignments) -> list[Started]:
    """Assign the entries of the registry to the workers that name them; returns the others."""
    records, living = assigned.records, assigned.living
    assigned.held = {name: [] for name in living}
    unclaimed: list[Started] = []
    left = {name: list(worker.jobs) for name, worker in living.items()}

    def promise(entry: Started) -> float:
        return entry.promised_until.timestamp() if entry.promised_until is not None else 0.0

    # The latest promise first: of two entries of one job, its worker renews that one.
    for entry in sorted(records.started, key=promise, reverse=True):
        name = next((name for name in living if entry.job_id in left[name] and living[name].names(entry)), None)
        if name is None:
            unclaimed.append(entry)
            continue
        assigned.held[name].append(Held(entry.job_id, delivery=entry.delivery))
        left[name].remove(entry.job_id)
    for name, job_ids in left.items():
        for job_id in job_ids:
            # Before RQ 2 a job has a single entry, which two workers may share.
            shared = [entry.delivery for entry in records.entries(job_id)] == [job_id]
            assigned.held[name].append(Held(job_id, delivery=job_id if shared else None))
    return unclaimed


def _assign_taken(assigned: Assignments, queue: str, beginning: list[str]) -> None:
    """Assign the jobs on their way to the workers that may be about to begin them."""
    records = assigned.records
    claimed = {job_id for worker in records.workers for job_id in worker.jobs if worker.is_connected}
    waiting = [worker for worker in assigned.living.values() if worker.is_idle and queue in worker.queues]

    def is_recent(time: datetime | None) -> bool:
        return time is not None and records.now - time < _TAKING

    for job_id in records.taken:
        if job_id in claimed or records.is_over(job_id):
            continue
        job = records.jobs.get(job_id)
        is_new = job is not None and is_recent(job.created_at)
        # A worker sends a heartbeat as soon as it has taken a job.
        may_have = (
            worker.name for worker in waiting if is_new or is_recent(parse_time(worker.fields["last_heartbeat"]))
        )
        name = beginning.pop() if beginning else next(may_have, None)
        if name is not None:
            assigned.held[name].append(Held(job_id, TaskState.RESERVED))
