"""Events of an RQ queue, derived by polling, because RQ's workers send none.

They have Celery's names and fields. What begins and ends between two readings has only its final event. Nothing is
written, and nothing unpickled: a returned value is reported only if it is JSON.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sitegenctl.adapters.redis.connection import Connection
from sitegenctl.adapters.rq.job import Job, job_id_of
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.adapters.rq.reader import atomically, read_jobs, read_result, scored
from sitegenctl.adapters.rq.records import read_assignments
from sitegenctl.adapters.rq.workers import RqAccess
from sitegenctl.domain.queue.event import HEARTBEAT, Event, NoEvent, read_event
from sitegenctl.domain.queue.task import TaskResult, TaskState

#: Seconds between two readings.
INTERVAL = 1.0

#: How many of the jobs published last, and of those ended last, are read.
_NEWEST = 200

#: The event for a job that reached this state.
_EVENTS = {
    "finished": "task-succeeded",
    "failed": "task-failed",
    "stopped": "task-revoked",
    "canceled": "task-revoked",
    "scheduled": "task-retried",
    "queued": "task-retried",
}

#: A job created so long before the last reading was there then.
_SLACK = timedelta(seconds=2)


@dataclass(frozen=True, kw_only=True)
class QueueState:
    """One reading: jobs by where they are, running ones with their workers, and each worker's last heartbeat.

    ``waiting`` has the time of a scheduled job. ``has_workers`` is whether any worker is alive, silent or not.
    """

    now: datetime
    has_workers: bool
    waiting: Mapping[str, datetime | None]
    running: Mapping[str, str]
    ended: frozenset[str]
    workers: Mapping[str, str]
    jobs: Mapping[str, Job | None]
    results: Mapping[str, TaskResult | None] = field(default_factory=dict)

    def newly_waiting(self, before: QueueState) -> set[str]:
        """The jobs that wait now and did not before, or for another time."""
        return {job_id for job_id, _ in self.waiting.items() - before.waiting.items()}


class RqEvents(RqAccess):
    """``EventSource`` on RQ; reads every ``INTERVAL`` seconds."""

    enabling = "RQ's workers need not send events: their state is polled"

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[Event | NoEvent]]:
        """Listen until the block is left."""
        async with self.connection() as connection:
            first = await read_state(connection, self._options)
            events = self._events(connection, first)
            try:
                yield events
            finally:
                await events.aclose()

    async def _events(self, connection: Connection, before: QueueState) -> AsyncGenerator[Event | NoEvent, None]:
        while True:
            await asyncio.sleep(INTERVAL)
            after = await read_state(connection, self._options, before)
            events = list(filter(None, map(read_event, differences(before, after, self._options.task))))
            for event in events:
                yield event
            if not events and not after.has_workers:
                yield NoEvent.SILENCE
            before = after


async def read_state(connection: Connection, options: RqOptions, before: QueueState | None = None) -> QueueState:
    """Read everything that can change, and the results of jobs that ended since ``before``."""
    assigned = await read_assignments(connection, options)
    records = assigned.records
    running = {
        job.job_id: name for name, jobs in assigned.held.items() for job in jobs if job.state is TaskState.RUNNING
    }
    listed, scheduled, *registries = await atomically(
        connection,
        [
            ("LRANGE", options.list_key, -_NEWEST, -1),
            ("ZREVRANGE", options.registry("scheduled"), 0, _NEWEST - 1, "WITHSCORES"),
            *(("ZREVRANGE", options.registry(kind), 0, _NEWEST - 1) for kind in ("finished", "failed", "canceled")),
        ],
    )
    waiting: dict[str, datetime | None] = {job_id_of(member): None for member in listed}
    waiting |= scored(scheduled)
    state = QueueState(
        now=records.now,
        has_workers=bool(assigned.living or assigned.silent),
        waiting=waiting,
        running=running,
        ended=frozenset(job_id_of(member) for members in registries for member in members),
        workers={name: worker.fields["last_heartbeat"] for name, worker in assigned.living.items()},
        jobs=records.jobs,
    )
    if before is None:
        return state
    changed = state.newly_waiting(before) | (state.ended - before.ended) | (before.running.keys() ^ running.keys())
    over = sorted(job_id for job_id in changed if job_id not in running and job_id not in waiting)
    return replace(
        state,
        jobs={**records.jobs, **await read_jobs(connection, options, sorted(changed))},
        results={job_id: await read_result(connection, options, job_id) for job_id in over},
    )


def differences(before: QueueState, after: QueueState, task: str) -> Iterator[dict[str, Any]]:
    """The fields of the events from one reading to the next, in the order in which they must have happened."""
    at = after.now.timestamp()
    for name in after.workers.keys() - before.workers.keys():
        yield {"type": "worker-online", "hostname": name, "timestamp": at}
    for job_id in sorted(after.newly_waiting(before) - before.running.keys()):
        job = after.jobs.get(job_id)
        if job is None or job.created_at is None:
            continue
        if job.attempt > 1 and job.status in _EVENTS:  # a worker may have taken it since
            yield _end(job, after, None, task)
        elif job.attempt == 1 and job.created_at > before.now - _SLACK:
            sent = {"type": "task-sent", "timestamp": job.created_at.timestamp(), **_called(job, task)}
            yield sent | _eta(after.waiting[job_id])
    for job_id, name in after.running.items():
        job = after.jobs.get(job_id)
        if job is not None and before.running.get(job_id) != name:
            began = job.started_at.timestamp() if job.started_at is not None else at
            yield {"type": "task-started", "timestamp": began, "hostname": name, **_called(job, task)}
    for job_id in sorted((before.running.keys() - after.running.keys()) | (after.ended - before.ended)):
        job = after.jobs.get(job_id)
        if job is not None and job_id not in after.running and job.status in _EVENTS:
            yield _end(job, after, before.running.get(job_id), task)
    for name, heartbeat in after.workers.items():
        if name in before.workers and before.workers[name] != heartbeat:
            yield {"type": HEARTBEAT, "hostname": name, "timestamp": at}
    for name in before.workers.keys() - after.workers.keys():
        yield {"type": "worker-offline", "hostname": name, "timestamp": at}


def _eta(due: datetime | None) -> dict[str, str]:
    return {"eta": due.isoformat()} if due is not None else {}


def _called(job: Job, task: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"uuid": job.job_id, "retries": job.attempt - 1}
    if (name := job.name(task)) is not None:
        fields["name"] = name
    if (order_id := job.order_id(task)) is not None:
        fields["args"] = f"({order_id},)"
    return fields


def _end(job: Job, after: QueueState, worker: str | None, task: str) -> dict[str, Any]:
    ended = job.ended_at or after.now
    fields: dict[str, Any] = {"type": _EVENTS[job.status], "timestamp": ended.timestamp(), **_called(job, task)}
    fields |= _eta(after.waiting.get(job.job_id))
    if name := worker or job.worker:
        fields["hostname"] = name
    result = after.results.get(job.job_id)
    if job.status == "finished" and job.started_at is not None:
        fields["runtime"] = max((ended - job.started_at).total_seconds(), 0.0)
    if job.status == "finished" and result is not None and result.value is not None:
        # As Celery's workers represent it.
        fields["result"] = repr(json.loads(result.value))
    if job.status == "failed" and result is not None and result.traceback:
        fields["exception"] = result.traceback.strip().splitlines()[-1]
    if job.status == "stopped":
        fields["terminated"] = True
    return fields
