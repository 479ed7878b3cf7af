"""What RQ's workers tell of themselves and of the jobs they hold.

They can't be asked: each keeps a record in Redis, renews it, and lets it expire; a worker that was killed leaves its
record for minutes. Each also listens for commands, on a channel of its own, and Redis knows whether it does. That a
worker listens shows that it is there; that it does not shows nothing: it may have lost this connection alone, and a
worker that gives up because Redis was away leaves the process of its job running. What follows from which is in
``roll_call``.
Source: rq/worker.py, executions.py, command.py, 1.15 to 3.0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sitegenctl.adapters.broker.task_args import parse_time
from sitegenctl.adapters.redis.client import Command
from sitegenctl.adapters.redis.connection import Link, opened_link
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
from sitegenctl.adapters.system.processes import local_memory
from sitegenctl.domain.diagnosis.liveness import LIMIT_MARGIN
from sitegenctl.domain.ports import Consumers
from sitegenctl.domain.queue.task import DEFAULT_HARD_LIMIT, LiveTask, TaskState
from sitegenctl.domain.queue.worker import HeldTask, Worker, WorkerDetails, WorkerRoster, WorkerSurvey

#: For so long after a sign of life a worker may be on its way to begin a job that it has taken; RQ, too, gives it
#: a minute.
TAKING = timedelta(minutes=1)

_FIELDS = (
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

#: Looks at workers of which some come and go meanwhile.
_LOOKS = 3


# A number in a record is of processes or jobs; Python itself refuses to read very long ones.
_MAX_DIGITS = 18

#: The last commands of a worker's connection that waits for jobs.
TAKING_COMMANDS = ("blmove", "blpop", "brpoplpush")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one worker has written of itself; ``is_connected`` is by Redis' own word.

    ``jobs`` it has in work, ``deliveries`` are those of them that it names by their members of the registry (RQ 3).
    """

    name: str
    fields: Mapping[str, str]
    is_connected: bool
    jobs: tuple[str, ...] = ()
    deliveries: tuple[str, ...] = ()

    @property
    def is_there(self) -> bool:
        """Whether it has a record that has not expired, and hasn't said that it ends."""
        return bool(self.fields["birth"] or self.fields["last_heartbeat"]) and not self.fields["death"]

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that it takes jobs from, in its order of preference."""
        return tuple(name for name in self.fields["queues"].split(",") if name)

    @property
    def heartbeat(self) -> datetime | None:
        """When it last gave a sign of life, by its own clock."""
        return parse_time(self.fields["last_heartbeat"])

    @property
    def birth(self) -> datetime | None:
        """When it started, by its own clock."""
        return parse_time(self.fields["birth"])

    @property
    def processed(self) -> int:
        """How many jobs it has ended since then, well or badly."""
        return (self.count("successful_job_count") or 0) + (self.count("failed_job_count") or 0)

    def count(self, name: str) -> int | None:
        """A number in its record."""
        value = self.fields[name]
        return int(value) if value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS else None

    def names(self, entry: Started) -> bool:
        """Whether it says that it runs this very entry of the registry, as far as it can be told from others."""
        if any(job_in_work(delivery.encode()) == entry.job_id for delivery in self.deliveries):
            return entry.delivery in self.deliveries
        return entry.job_id in self.jobs


@dataclass(frozen=True, kw_only=True)
class Records:
    """All workers' records, and what is in work by the registries, at one moment: ``now``, by Redis' clock.

    ``started`` are the entries of the registry of jobs in work. ``taken`` are jobs on their way to a worker, in that
    registry not yet. ``suspended`` is whether all workers have been told to take nothing. ``consumers`` are the clients
    that wait for jobs, None where they were not counted. ``hard_limit`` is that of jobs without one of their own.
    ``skipped`` counts values that did not fit.
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
        """The entries of a job in the registry of those in work."""
        return [entry for entry in self.started if entry.job_id == job_id]

    def is_due(self, job_id: str) -> bool:
        """Whether whatever has this job in work has still time for its next sign of life, so that it may well live."""
        return any(entry.is_promised(self.now) for entry in self.entries(job_id))

    def over_at(self, entry: Started) -> datetime | None:
        """When the job's time limit ends whatever runs this entry; None where that cannot be known."""
        job = self.jobs.get(entry.job_id)
        limit = (job.time_limit if job is not None else None) or self.hard_limit
        began = job.taken_up_at(Place(TaskState.UNACKED)) if job is not None else None
        # It began before it promised another sign of life.
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
        """Whether a worker may have taken a job from our queue and not begun it, for as long as its record is there.

        One that waits for jobs has none.
        """
        waiting = self.consumers or 0
        there = [worker for worker in self.workers if worker.is_there and not worker.jobs]
        return sum(worker.fields["state"] != "suspended" for worker in there) > waiting


class Running(NamedTuple):
    """A job that a worker runs; ``delivery`` is its member of the registry of jobs in work, if it is there."""

    job_id: str
    delivery: str | None = None


@dataclass(kw_only=True)
class RollCall:
    """Who lives and has which jobs in hand.

    ``running`` has the entries of the registry of jobs in work by worker; one without an entry is known by the worker's
    word alone. ``taking`` are job ids by worker. ``silent`` is how many are alive as far as can be seen, and of which
    nothing may be concluded; ``missing`` of them are not connected to Redis. ``doubts`` say why an entry of the
    registry that no living worker has may be run all the same, by its member.
    """

    living: dict[str, Record]
    running: dict[str, list[Running]]
    taking: dict[str, list[str]]
    silent: int
    missing: int = 0
    doubts: dict[str, str] = field(default_factory=dict)

    def holders(self, job_id: str) -> list[tuple[str, TaskState]]:
        """Who has this job, and how."""
        held = [
            (name, TaskState.RUNNING) for name, jobs in self.running.items() for job in jobs if job.job_id == job_id
        ]
        return held + [(name, TaskState.RESERVED) for name, jobs in self.taking.items() if job_id in jobs]

    def holds(self, delivery: str) -> str | None:
        """The living worker that runs this entry of the registry."""
        return next((name for name, jobs in self.running.items() for job in jobs if job.delivery == delivery), None)

    def running_ids(self, name: str) -> list[str]:
        """The ids of the jobs that a worker runs."""
        return [job.job_id for job in self.running[name]]


def roll_call(records: Records, queue: str) -> RollCall:
    """Make out who lives and what each has in hand.

    A worker that is connected and has a record lives, and runs what its record says; between taking a job and
    saying so it may have any that nobody else has. It is silent when it is connected, but its record has expired or
    it has not renewed the promise for its job in time: then it hangs, or it was killed and what it began lives on. That
    may be its scheduler, for ever; what counts is whether a job of its may still be running. A job whose promise still
    holds, and that no connected worker has, is at one that has lost Redis or its subscription, or has just died: that
    one is silent, too; and so is one that has nothing in work and does not listen, while more clients wait for jobs
    than there are workers that do.

    A worker's own record never shows that a job of its has ended: one that Redis was away from for too long says that
    it dies, and leaves the process of its job running. The job's time limit shows it.
    """
    living: dict[str, Record] = {}
    silent = missing = 0
    doubts: dict[str, str] = {}
    for worker in records.workers:
        own = [entry for entry in records.started if worker.names(entry)]
        overdue = bool(own) and not any(entry.is_promised(records.now) for entry in own)
        if not worker.is_connected or worker.fields["death"]:
            continue
        if overdue or not worker.is_there:
            # What it began is bound to its time limit; the worker itself, as long as it is connected, is not.
            began = own or [entry for entry in records.started if _may_run(records, entry, worker.name)]
            silent += bool(began)
            doubts |= {
                entry.delivery: f"its worker {worker.name} has not answered, and may be running it" for entry in began
            }
        else:
            living[worker.name] = worker
    running: dict[str, list[Running]] = {name: [] for name in living}
    unclaimed: list[Started] = []
    left = {name: list(worker.jobs) for name, worker in living.items()}
    # The latest promise first: of two entries of one job, that is the one which a worker that names the job keeps up.
    for entry in sorted(records.started, key=_promise, reverse=True):
        name = next(
            (name for name, worker in living.items() if entry.job_id in left[name] and worker.names(entry)), None
        )
        if name is None:
            unclaimed.append(entry)
            continue
        running[name].append(Running(entry.job_id, entry.delivery))
        left[name].remove(entry.job_id)
    for name, job_ids in left.items():
        running[name] += [Running(job_id, _only_entry(records, job_id)) for job_id in job_ids]
    beginning = [name for name, worker in living.items() if worker.fields["state"] == "busy" and not worker.jobs]
    for entry in unclaimed:
        if entry.delivery in doubts or not entry.is_promised(records.now):
            continue
        if beginning and not records.is_over(entry.job_id):
            running[beginning.pop()].append(Running(entry.job_id, entry.delivery))
        else:
            missing += not records.is_over(entry.job_id)
            doubts[entry.delivery] = (
                "its worker has not answered, and may be running it:"
                f" it has until {entry.promised_until:%H:%M:%S} UTC to give another sign of life"
            )
    taking = _taking(records, queue, living, beginning)
    idle = [worker for worker in living.values() if not worker.jobs and worker.fields["state"] != "suspended"]
    apart = [worker for worker in records.workers if worker.is_there and not worker.is_connected and not worker.jobs]
    if records.consumers is not None:
        apart = apart[: max(records.consumers - len(idle), 0)]
    missing += len(apart)
    return RollCall(
        living=living, running=running, taking=taking, silent=silent + missing, missing=missing, doubts=doubts
    )


def _promise(entry: Started) -> float:
    return entry.promised_until.timestamp() if entry.promised_until is not None else 0.0


def _only_entry(records: Records, job_id: str) -> str | None:
    """The entry that two workers share: before RQ 2 a job has a single one, whatever runs it."""
    entries = records.entries(job_id)
    return entries[0].delivery if len(entries) == 1 and entries[0].delivery == job_id else None


def _may_run(records: Records, entry: Started, worker: str) -> bool:
    """Whether this entry was begun by this worker, and has not run into its own limit for certain."""
    job = records.jobs.get(entry.job_id)
    if job is None or job.status in OVER or job.worker != worker:
        return False
    over_at = records.over_at(entry)
    return over_at is None or records.now < over_at


def _taking(records: Records, queue: str, living: Mapping[str, Record], beginning: list[str]) -> dict[str, list[str]]:
    """Which worker may be about to begin which of the jobs on their way."""
    taking: dict[str, list[str]] = {name: [] for name in living}
    claimed = {job_id for worker in records.workers for job_id in worker.jobs if worker.is_connected}
    idle = [worker for worker in living.values() if not worker.jobs and queue in worker.queues]
    for job_id in records.taken:
        if job_id in claimed or records.is_over(job_id):
            continue
        may_have = [worker.name for worker in idle if _may_have_taken(worker, records.jobs.get(job_id), records.now)]
        if beginning or may_have:
            taking[beginning.pop() if beginning else may_have[0]].append(job_id)
    return taking


def _may_have_taken(worker: Record, job: Job | None, now: datetime) -> bool:
    """Whether an idle worker may be about to begin a job: it gives a sign of life as soon as it has taken one."""
    if worker.fields["state"] == "suspended":
        return False
    signs = (worker.heartbeat, job.created_at if job is not None else None)
    return any(sign is not None and now - sign < TAKING for sign in signs)


def entries_of(places: Iterable[LiveTask], records: Records) -> list[Started]:
    """The entries of the registry of jobs in work at these places; a task without its delivery has all of its job's."""
    found: dict[bytes, Started] = {}
    for task in places:
        for entry in records.entries(task.task_id):
            if task.delivery in (None, entry.delivery):
                found[entry.member] = entry
    return list(found.values())


def why_undecided(task: LiveTask, records: Records, seen: RollCall) -> str | None:
    """Why a delivery that no living worker has may be running all the same; None where its time limit has ended it.

    A task that is orphaned has been decided, by what is known elsewhere too; then only what Redis shows now counts.
    """
    entries = entries_of([task], records)
    for entry in entries:
        if entry.delivery in seen.doubts:
            return seen.doubts[entry.delivery]
        over_at = records.over_at(entry)
        if task.state is TaskState.ORPHANED or (over_at is not None and over_at <= records.now):
            continue
        if over_at is None:
            return "its worker has not answered, and may be running it: it has no time limit"
        return f"its worker has not answered, and may be running it until {over_at:%H:%M:%S} UTC"
    if not entries and task.task_id in records.taken and records.may_have_taken:
        return "a worker took it, and may be about to begin it"
    return None


class RqWorkers:
    """``WorkerSource`` on the workers' records; ``timeout`` is in seconds, for each question to Redis."""

    def __init__(self, url: str, options: RqOptions, *, timeout: float) -> None:
        self._url = url
        self._options = options
        self._timeout = timeout

    def link(self) -> AbstractAsyncContextManager[Link]:
        """A link to Redis, closed at the end."""
        return opened_link(self._url, self._options, timeout=self._timeout)

    async def survey(self) -> WorkerSurvey:
        """Read what every living worker holds."""
        async with self.link() as link:
            records = await read_records(link, self._options)
        call = roll_call(records, self._options.queue)
        workers = tuple(Worker(name=name, tasks=tuple(self._claims(name, call, records))) for name in call.living)
        return WorkerSurvey(
            workers=workers,
            silent=call.silent,
            consumers=records.consumers,
            skipped=dict(records.skipped),
            asked_by=None,
        )

    async def worker_details(self) -> WorkerRoster:
        """Read what every living worker tells of itself."""
        async with self.link() as link:
            records = await read_records(link, self._options)
        call = roll_call(records, self._options.queue)
        workers = tuple(self._details(worker, call, records) for worker in call.living.values())
        return WorkerRoster(
            workers=workers,
            silent=call.silent,
            consumers=records.consumers,
            skipped=dict(records.skipped),
            asked_by=None,
        )

    async def pause(self) -> Consumers:
        """Have every worker of this Redis take no other job: RQ knows no pause for one queue alone."""
        return await self._tell(suspending=True)

    async def resume(self) -> Consumers:
        """Have every worker take jobs again."""
        return await self._tell(suspending=False)

    async def _tell(self, *, suspending: bool) -> Consumers:
        from sitegenctl.adapters.rq.library import RqLibrary

        library = RqLibrary(self._options)
        async with self.link() as link:
            await link.execute(*(library.suspend() if suspending else library.resume()))
        seen = await self.survey()
        return Consumers(acknowledged=[worker.name for worker in seen.workers], rejected={}, unresponsive=seen.silent)

    def _claims(self, name: str, call: RollCall, records: Records) -> Iterator[LiveTask]:
        held = [(TaskState.RUNNING, job) for job in call.running[name]]
        held += [(TaskState.RESERVED, Running(job_id)) for job_id in call.taking[name]]
        for state, (job_id, delivery) in held:
            job = records.jobs.get(job_id)
            if job is None or not job.is_of(self._options.task) or job.why_unattributed(self._options.task):
                continue
            is_running = state is TaskState.RUNNING
            yield LiveTask(
                task_id=job_id,
                name=self._options.task,
                order_id=job.order_id(self._options.task),
                state=state,
                worker=name,
                attempt=job.attempt,
                delivery=delivery,
                limit=job.time_limit,
                started_at=job.started_at if is_running and job.status == "started" else None,
            )

    def _details(self, worker: Record, call: RollCall, records: Records) -> WorkerDetails:
        pid = worker.count("pid")
        birth = worker.birth
        return WorkerDetails(
            name=worker.name,
            pid=pid,
            concurrency=1,
            queues=() if records.suspended else worker.queues,
            processed=worker.processed,
            uptime=max(records.now - birth, timedelta(0)) if birth else None,
            software="rq",
            version=worker.fields["version"] or None,
            memory=local_memory(worker.fields["hostname"], [pid] if pid else []),
            active=tuple(self._held(call.running_ids(worker.name), records)),
            reserved=tuple(self._held(call.taking[worker.name], records)),
        )

    def _held(self, job_ids: Iterable[str], records: Records) -> Iterator[HeldTask]:
        for job_id in job_ids:
            job = records.jobs.get(job_id)
            called = job.call() if job is not None else None
            is_ours = job is not None and job.is_of(self._options.task)
            yield HeldTask(
                task_id=job_id,
                name=self._options.task if is_ours else called.function if called else "undecodable",
                order_id=job.order_id(self._options.task) if job is not None else None,
                started_at=job.started_at if job is not None and job.status == "started" else None,
            )


async def read_records(link: Link, options: RqOptions) -> Records:
    """Read all workers' records and what is in work. Writes nothing, unlike RQ's ``Worker.all``."""
    skipped: Counter[str] = Counter()
    (keys,) = await link.execute(("SMEMBERS", options.workers))
    for _ in range(_LOOKS):
        names = sorted(options.worker_name(key.decode(errors="replace")) for key in keys)
        questions = _questions(options, names)
        now, again, started, taken, suspended, *told = await atomically(link, questions, keep_refusals=True)
        for reply in (again, started, taken, suspended):
            if isinstance(reply, Refusal):
                raise reply
        if set(again) <= set(keys):
            break
        keys = again  # somebody has come, and may have begun a job already
    workers = [_record(name, skipped, *told[3 * place : 3 * place + 3]) for place, name in enumerate(names)]
    entries = tuple(started_entries(started))
    skipped["heartbeat deadline of a started job"] += sum(entry.promised_until is None for entry in entries)
    taken_ids = tuple(on_the_way(taken, entries))
    wanted = {
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
        jobs=await read_jobs(link, options, sorted(wanted), skipped),
        consumers=await _count_consumers(link) if is_in_doubt else None,
        hard_limit=options.hard_limit,
        skipped=+skipped,
    )


async def _count_consumers(link: Link) -> int | None:
    """How many clients of the link's database wait for jobs; None where Redis does not tell."""
    listed, own = await link.execute(("CLIENT", "LIST"), ("CLIENT", "ID"), keep_refusals=True)
    if isinstance(listed, Refusal) or isinstance(own, Refusal):
        return None
    lines: list[str] = listed.decode(errors="replace").splitlines()
    clients = [dict(word.partition("=")[::2] for word in line.split()) for line in lines]
    database = next((client.get("db") for client in clients if client.get("id") == str(own)), None)
    return sum(client.get("db") == database and client.get("cmd") in TAKING_COMMANDS for client in clients)


def _questions(options: RqOptions, names: Sequence[str]) -> list[Command]:
    asked: list[Command] = [
        ("TIME",),
        ("SMEMBERS", options.workers),
        ("ZRANGE", options.started, 0, -1, "WITHSCORES"),
        ("LRANGE", options.intermediate, 0, -1),
        ("EXISTS", options.suspended),
    ]
    for name in names:
        asked += [
            ("HMGET", options.worker(name), *_FIELDS),
            ("SMEMBERS", options.executions(name)),
            ("PUBSUB", "NUMSUB", options.channel(name)),
        ]
    return asked


def _record(name: str, skipped: Counter[str], values: Any, executions: Any, listening: Any) -> Record:
    skipped["worker record that is no hash"] += isinstance(values, Refusal)
    skipped["jobs of a worker that are no set"] += isinstance(executions, Refusal)
    told = values if isinstance(values, list) else [None] * len(_FIELDS)
    fields = {key: value.decode(errors="replace") if value else "" for key, value in zip(_FIELDS, told, strict=True)}
    members = executions if isinstance(executions, list) else []
    jobs = [job_in_work(member) for member in members]
    if fields["current_job"]:
        jobs.append(fields["current_job"])
    # Where nobody may ask who listens, the record alone has to do.
    is_connected = isinstance(listening, Refusal) or int(listening[1]) > 0
    return Record(
        name=name,
        fields=fields,
        is_connected=is_connected,
        jobs=tuple(dict.fromkeys(jobs)),
        deliveries=tuple(map(job_id_of, members)),
    )
