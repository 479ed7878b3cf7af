"""What RQ's workers tell of themselves and of the jobs they hold.

They can't be asked: each keeps a record in Redis, renews it, and lets it expire; a worker that was killed leaves its
record for minutes. But each also listens for commands, on a channel of its own, and Redis knows whether it does, so
that one which isn't connected any more is found at once. What follows from which is in ``roll_call``.
Source: rq/worker.py, executions.py, command.py, 1.15 to 3.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sitegenctl.adapters.calls import parse_time
from sitegenctl.adapters.local_processes import local_memory
from sitegenctl.adapters.redis_errors import Refusal
from sitegenctl.adapters.redis_link import Link, opened_link
from sitegenctl.adapters.redis_wire import Command
from sitegenctl.adapters.rq_job import OVER, Job
from sitegenctl.adapters.rq_options import RqOptions
from sitegenctl.adapters.rq_reading import atomically, job_id_of, job_in_work, read_jobs
from sitegenctl.domain.ports import Consumers
from sitegenctl.domain.task import LiveTask, TaskState
from sitegenctl.domain.worker import HeldTask, Worker, WorkerDetails, WorkerRoster, WorkerSurvey

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


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one worker has written of itself; ``is_connected`` is by Redis' own word. ``jobs`` it has in work."""

    name: str
    fields: Mapping[str, str]
    is_connected: bool
    jobs: tuple[str, ...] = ()

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
        return int(value) if value.isascii() and value.isdigit() else None


#: A member of the registry of jobs in work, and its score.
Entry = tuple[bytes, bytes]


@dataclass(frozen=True, kw_only=True)
class Records:
    """All workers' records, and what is in work by the registries, at one moment: ``now``, by Redis' clock.

    ``started`` has, by job id, the entries of the registry of jobs in work, as they are: each with the time until
    which the worker has promised another heartbeat. ``taken`` are jobs on their way to a worker. ``suspended`` is
    whether all workers have been told to take nothing.
    """

    now: datetime
    workers: tuple[Record, ...]
    started: Mapping[str, tuple[Entry, ...]]
    taken: tuple[str, ...]
    suspended: bool = False
    jobs: Mapping[str, Job | None] = field(default_factory=dict)

    def is_due(self, job_id: str) -> bool:
        """Whether whoever has this job in work has still time for its next heartbeat, so that it may well live."""
        return any(float(score) >= self.now.timestamp() for _, score in self.started.get(job_id, ()))

    def may_run(self, job_id: str, worker: str) -> bool:
        """Whether this job was begun by this worker, and has not run into its own limit for certain."""
        job = self.jobs.get(job_id)
        if job is None or job.status in OVER or job.worker != worker:
            return False
        return job.limit is None or job.started_at is None or self.now < job.started_at + job.limit + TAKING

    def is_over(self, job_id: str) -> bool:
        """Whether the job ended while the records were read."""
        job = self.jobs.get(job_id)
        return job is None or job.status in OVER


@dataclass(kw_only=True)
class RollCall:
    """Who lives and has which jobs in hand.

    ``running`` and ``taking`` are job ids by worker. ``silent`` is how many are alive as far as can be seen, and of
    which nothing may be concluded; ``missing`` of them are not connected to Redis.
    """

    living: dict[str, Record]
    running: dict[str, list[str]]
    taking: dict[str, list[str]]
    silent: int
    missing: int = 0

    def holders(self, job_id: str) -> list[tuple[str, TaskState]]:
        """Who has this job, and how."""
        held = [(name, TaskState.RUNNING) for name, jobs in self.running.items() if job_id in jobs]
        return held + [(name, TaskState.RESERVED) for name, jobs in self.taking.items() if job_id in jobs]


def roll_call(records: Records, queue: str) -> RollCall:
    """Make out who lives and what each has in hand.

    A worker that is connected and has a record lives, and runs what its record says; between taking a job and
    saying so it may have any that nobody else has. It is silent when it is connected, but its record has expired or
    it has not renewed the promise for its job in time: then it hangs, or it was killed and what it began lives on. That
    may be its scheduler, for ever; what counts is whether a job of its may still be running. A job whose promise still
    holds, and that no connected worker has, is at one that has lost Redis, or has just died: that one is silent, too.
    """
    living: dict[str, Record] = {}
    silent = missing = 0
    for worker in records.workers:
        overdue = any(job_id in records.started and not records.is_due(job_id) for job_id in worker.jobs)
        if not worker.is_connected or worker.fields["death"]:
            continue
        if overdue or not worker.is_there:
            silent += overdue or any(records.may_run(job_id, worker.name) for job_id in records.started)
        else:
            living[worker.name] = worker
    running = {name: list(worker.jobs) for name, worker in living.items()}
    taking: dict[str, list[str]] = {name: [] for name in living}
    claimed = {job_id for worker in records.workers for job_id in worker.jobs if worker.is_connected}
    beginning = [name for name, worker in living.items() if worker.fields["state"] == "busy" and not worker.jobs]
    for job_id in records.started:
        if job_id in claimed or not records.is_due(job_id) or records.is_over(job_id):
            continue
        if beginning:
            running[beginning.pop()].append(job_id)
        else:
            missing += 1
    idle = [worker for worker in living.values() if not worker.jobs and queue in worker.queues]
    for job_id in records.taken:
        if job_id in claimed or job_id in records.started or records.is_over(job_id):
            continue
        may_have = [worker.name for worker in idle if _may_have_taken(worker, records.jobs.get(job_id), records.now)]
        if beginning or may_have:
            taking[beginning.pop() if beginning else may_have[0]].append(job_id)
    return RollCall(living=living, running=running, taking=taking, silent=silent + missing, missing=missing)


def _may_have_taken(worker: Record, job: Job | None, now: datetime) -> bool:
    """Whether an idle worker may be about to begin a job: it gives a sign of life as soon as it has taken one."""
    if worker.fields["state"] == "suspended":
        return False
    signs = (worker.heartbeat, job.created_at if job is not None else None)
    return any(sign is not None and now - sign < TAKING for sign in signs)


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
        return WorkerSurvey(workers=workers, silent=call.silent)

    async def worker_details(self) -> WorkerRoster:
        """Read what every living worker tells of itself."""
        async with self.link() as link:
            records = await read_records(link, self._options)
        call = roll_call(records, self._options.queue)
        workers = tuple(self._details(worker, call, records) for worker in call.living.values())
        return WorkerRoster(workers=workers, silent=call.silent)

    async def pause(self) -> Consumers:
        """Have every worker of this Redis take no other job: RQ knows no pause for one queue alone."""
        return await self._tell(suspending=True)

    async def resume(self) -> Consumers:
        """Have every worker take jobs again."""
        return await self._tell(suspending=False)

    async def _tell(self, *, suspending: bool) -> Consumers:
        from sitegenctl.adapters.rq_library import RqLibrary

        library = RqLibrary(self._options)
        async with self.link() as link:
            await link.execute(*(library.suspend() if suspending else library.resume()))
        seen = await self.survey()
        return Consumers(obeyed=[worker.name for worker in seen.workers], refused={}, silent=seen.silent)

    def _claims(self, name: str, call: RollCall, records: Records) -> Iterator[LiveTask]:
        for state, held in ((TaskState.RUNNING, call.running), (TaskState.RESERVED, call.taking)):
            for job_id in held[name]:
                job = records.jobs.get(job_id)
                if job is not None and job.is_of(self._options.task):
                    yield LiveTask(
                        task_id=job_id,
                        name=self._options.task,
                        order_id=job.order_id(self._options.task),
                        state=state,
                        worker=name,
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
            active=tuple(self._held(call.running[worker.name], records)),
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
    workers = [_record(name, *told[3 * place : 3 * place + 3]) for place, name in enumerate(names)]
    entries: dict[str, tuple[Entry, ...]] = {}
    for member, score in zip(started[::2], started[1::2], strict=True):
        job_id = job_in_work(member)
        entries[job_id] = (*entries.get(job_id, ()), (member, score))
    on_the_way = tuple(job_id_of(member) for member in taken)
    wanted = {*entries, *on_the_way, *(job_id for worker in workers for job_id in worker.jobs)}
    return Records(
        now=datetime.fromtimestamp(int(now[0]) + int(now[1]) / 1e6, UTC),
        workers=tuple(workers),
        started=entries,
        taken=on_the_way,
        suspended=bool(suspended),
        jobs=await read_jobs(link, options, sorted(wanted)),
    )


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


def _record(name: str, values: Any, executions: Any, listening: Any) -> Record:
    told = values if isinstance(values, list) else [None] * len(_FIELDS)
    fields = {key: value.decode(errors="replace") if value else "" for key, value in zip(_FIELDS, told, strict=True)}
    jobs = [job_in_work(member) for member in executions] if isinstance(executions, list) else []
    if fields["current_job"]:
        jobs.append(fields["current_job"])
    # Where nobody may ask who listens, the record alone has to do.
    is_connected = isinstance(listening, Refusal) or int(listening[1]) > 0
    return Record(name=name, fields=fields, is_connected=is_connected, jobs=tuple(dict.fromkeys(jobs)))
