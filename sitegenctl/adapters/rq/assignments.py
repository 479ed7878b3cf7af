"""Which workers are alive, and which jobs each of them has: concluded from their records. No I/O.

A worker that listens is there. One that does not may have lost that connection alone; and a worker that gives up
because Redis was unreachable leaves the process of its job running.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from sitegenctl.adapters.rq.job import OVER, Job
from sitegenctl.adapters.rq.reader import Started
from sitegenctl.adapters.rq.records import Record, Records
from sitegenctl.domain.queue.task import LiveTask, TaskState

#: For so long after its heartbeat a worker may be about to begin a job that it has taken; RQ allows a minute, too.
_TAKING = timedelta(minutes=1)


class Running(NamedTuple):
    """A job that a worker runs; ``delivery`` is its member of the registry of jobs in work, if it is there."""

    job_id: str
    delivery: str | None = None


@dataclass(kw_only=True)
class Assignments:
    """The living workers and their jobs.

    ``running`` has the entries of the registry of jobs in work by worker; one without an entry is only in the worker's
    record. ``taking`` are ids of jobs that a worker is about to begin. Nothing may be concluded from ``silent``
    workers; ``missing`` of them are not connected to Redis. ``doubts`` has the reason why an entry of the registry that
    no living worker has may be running all the same, by its member.
    """

    living: dict[str, Record]
    running: dict[str, list[Running]] = field(default_factory=dict)
    taking: dict[str, list[str]] = field(default_factory=dict)
    silent: int = 0
    missing: int = 0
    doubts: dict[str, str] = field(default_factory=dict)

    def holders(self, job_id: str) -> list[tuple[str, TaskState]]:
        """The workers that have this job, and its state there."""
        held = [
            (name, TaskState.RUNNING) for name, jobs in self.running.items() for job in jobs if job.job_id == job_id
        ]
        return held + [(name, TaskState.RESERVED) for name, jobs in self.taking.items() if job_id in jobs]

    def holder(self, job_id: str) -> tuple[str, TaskState] | None:
        """The first of them."""
        return next(iter(self.holders(job_id)), None)

    def runner(self, delivery: str) -> str | None:
        """The living worker that runs this entry of the registry."""
        return next((name for name, jobs in self.running.items() for job in jobs if job.delivery == delivery), None)

    def running_ids(self, name: str) -> list[str]:
        """The ids of the jobs that a worker runs."""
        return [job.job_id for job in self.running[name]]


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
    assigned = _living(records)
    beginning = [
        name for name, worker in assigned.living.items() if worker.fields["state"] == "busy" and not worker.jobs
    ]
    for entry in _match_entries(records, assigned):
        if entry.delivery in assigned.doubts or not entry.is_promised(records.now):
            continue
        if beginning and not records.is_over(entry.job_id):
            assigned.running[beginning.pop()].append(Running(entry.job_id, entry.delivery))
        else:
            assigned.missing += not records.is_over(entry.job_id)
            assigned.doubts[entry.delivery] = (
                "its worker did not respond and may be running it:"
                f" its next heartbeat is due by {entry.promised_until:%H:%M:%S} UTC"
            )
    assigned.taking = _taking(records, queue, assigned.living, beginning)
    assigned.missing += _count_idle_missing(records, assigned.living)
    assigned.silent += assigned.missing
    return assigned


def entries_of(places: Iterable[LiveTask], records: Records) -> list[Started]:
    """The entries of the registry of jobs in work at these places; a place without delivery has all of its job's."""
    entries: dict[bytes, Started] = {}
    for task in places:
        for entry in records.entries(task.task_id):
            if task.delivery in (None, entry.delivery):
                entries[entry.member] = entry
    return list(entries.values())


def why_undecided(task: LiveTask, records: Records, assigned: Assignments) -> str | None:
    """Why a delivery that no living worker has may be running; None where its time limit has ended it.

    An orphaned task has been decided with more knowledge: then only what Redis shows now counts.
    """
    entries = entries_of([task], records)
    for entry in entries:
        if entry.delivery in assigned.doubts:
            return assigned.doubts[entry.delivery]
        over_at = records.over_at(entry)
        if task.state is TaskState.ORPHANED or (over_at is not None and over_at <= records.now):
            continue
        if over_at is None:
            return "its worker did not respond and may be running it: it has no time limit"
        return f"its worker did not respond and may be running it until {over_at:%H:%M:%S} UTC"
    if not entries and task.task_id in records.taken and records.may_have_taken:
        return "a worker took it and may be about to begin it"
    return None


def _living(records: Records) -> Assignments:
    """The living workers, and those that are silent although they are connected."""
    assigned = Assignments(living={})
    for worker in records.workers:
        if not worker.is_connected or worker.fields["death"]:
            continue
        own = [entry for entry in records.started if worker.names(entry)]
        is_overdue = bool(own) and not any(entry.is_promised(records.now) for entry in own)
        if worker.is_there and not is_overdue:
            assigned.living[worker.name] = worker
            continue
        # It may be its scheduler alone that is still connected: it counts while a job of its may be running.
        began = own or [entry for entry in records.started if _may_run(records, entry, worker.name)]
        assigned.silent += bool(began)
        assigned.doubts |= {
            entry.delivery: f"its worker {worker.name} did not respond and may be running it" for entry in began
        }
    return assigned


def _match_entries(records: Records, assigned: Assignments) -> list[Started]:
    """Assign the entries of the registry to the workers that name them; returns the others."""
    living = assigned.living
    running: dict[str, list[Running]] = {name: [] for name in living}
    assigned.running = running
    unclaimed: list[Started] = []
    left = {name: list(worker.jobs) for name, worker in living.items()}

    def promise(entry: Started) -> float:
        return entry.promised_until.timestamp() if entry.promised_until is not None else 0.0

    # The latest promise first: of two entries of one job, its worker renews that one.
    for entry in sorted(records.started, key=promise, reverse=True):
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
    return unclaimed


def _only_entry(records: Records, job_id: str) -> str | None:
    """The entry that two workers share: before RQ 2 a job has a single one, whichever worker runs it."""
    entries = records.entries(job_id)
    return entries[0].delivery if len(entries) == 1 and entries[0].delivery == job_id else None


def _may_run(records: Records, entry: Started, worker: str) -> bool:
    """Whether this worker began this entry, which has not certainly run into its time limit."""
    job = records.jobs.get(entry.job_id)
    if job is None or job.status in OVER or job.worker != worker:
        return False
    over_at = records.over_at(entry)
    return over_at is None or records.now < over_at


def _taking(records: Records, queue: str, living: Mapping[str, Record], beginning: list[str]) -> dict[str, list[str]]:
    """The jobs on their way, by the worker that may be about to begin them."""
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
    """Whether an idle worker may be about to begin a job: it sends a heartbeat as soon as it has taken one."""
    times = (worker.heartbeat, job.created_at if job is not None else None)
    return not worker.is_suspended and any(time is not None and now - time < _TAKING for time in times)


def _count_idle_missing(records: Records, living: Mapping[str, Record]) -> int:
    """The number of idle workers that do not listen, and yet wait for jobs."""
    apart = sum(worker.is_there and not worker.is_connected and not worker.jobs for worker in records.workers)
    if records.consumers is None:
        return apart
    idle = sum(not worker.jobs and not worker.is_suspended for worker in living.values())
    return min(apart, max(records.consumers - idle, 0))
