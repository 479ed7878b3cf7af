"""``WorkerSource`` on the workers' records, and the access to Redis that all of RQ's ports share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from sitegenctl.adapters.redis.connection import Connection, open_connection, require_writable
from sitegenctl.adapters.redis.errors import NotPermitted, Refusal
from sitegenctl.adapters.rq.job import Job
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.adapters.rq.records import Assignments, read_assignments
from sitegenctl.adapters.system.processes import local_memory
from sitegenctl.domain.ports import Consumers
from sitegenctl.domain.queue.task import LiveTask, TaskState
from sitegenctl.domain.queue.worker import Worker, WorkerDetails, WorkerRoster, WorkerSurvey


class RqAccess:
    """The Redis of an RQ queue; ``timeout`` is in seconds, for each call. Each call has a connection of its own."""

    def __init__(self, url: str, options: RqOptions, *, timeout: float) -> None:
        self._url = url
        self._options = options
        self._timeout = timeout

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """A connection to Redis, closed at the end."""
        return open_connection(self._url, self._options, timeout=self._timeout)

    async def _assignments(self) -> Assignments:
        async with self.connection() as connection:
            return await self._assigned(connection)

    async def _assigned(self, connection: Connection) -> Assignments:
        """Read who has what. Raises ``Refusal`` if workers seem silent because Redis refuses their heartbeats."""
        assigned = await read_assignments(connection, self._options)
        if assigned.silent:
            try:
                await require_writable(connection, f"{self._options.list_key}:probe")
            except NotPermitted:
                pass  # that is about this user
            except Refusal as exc:
                message = f"no worker can send heartbeats: {exc.message}"
                raise Refusal(message, code=exc.code, reason=exc.reason, hint=exc.hint, source="workers") from exc
        return assigned


class RqWorkers(RqAccess):
    """Reads and controls RQ's workers."""

    async def survey(self) -> WorkerSurvey:
        """Read what every living worker holds."""
        assigned = await self._assignments()
        ours = self._options.task

        def is_certain(job: Job | None) -> bool:
            return job is not None and job.is_of(ours) and job.why_unattributed(ours) is None

        workers = (
            Worker(name=name, tasks=tuple(task for job, task in self._tasks(name, assigned) if is_certain(job)))
            for name in assigned.living
        )
        return WorkerSurvey(workers=tuple(workers), **_summary(assigned))

    async def worker_details(self) -> WorkerRoster:
        """Read the record of every living worker."""
        assigned = await self._assignments()
        return WorkerRoster(
            workers=tuple(self._details(name, assigned) for name in assigned.living), **_summary(assigned)
        )

    async def pause(self) -> Consumers:
        """Have every worker of this Redis take no more jobs: RQ cannot pause a single queue."""
        return await self._set_suspended(suspended=True)

    async def resume(self) -> Consumers:
        """Have every worker take jobs again."""
        return await self._set_suspended(suspended=False)

    async def _set_suspended(self, *, suspended: bool) -> Consumers:
        # As rq.suspension.suspend and resume do.
        key = self._options.suspended
        async with self.connection() as connection:
            await connection.execute(("SET", key, 1) if suspended else ("DEL", key))
        survey = await self.survey()
        return Consumers(
            acknowledged=[worker.name for worker in survey.workers], rejected={}, unresponsive=survey.silent
        )

    def _tasks(self, name: str, assigned: Assignments) -> Iterator[tuple[Job | None, LiveTask]]:
        """The jobs of a worker as tasks."""
        task = self._options.task
        for job_id, state, delivery in assigned.held[name]:
            job = assigned.records.jobs.get(job_id)
            if job is None:
                yield None, LiveTask(task_id=job_id, name="undecodable", order_id=None, state=state, worker=name)
                continue
            is_running = state is TaskState.RUNNING and job.status == "started"
            yield (
                job,
                LiveTask(
                    task_id=job_id,
                    name=job.name(task) or "undecodable",
                    order_id=job.order_id(task),
                    state=state,
                    worker=name,
                    attempt=job.attempt,
                    delivery=delivery,
                    limit=job.time_limit,
                    started_at=job.started_at if is_running else None,
                ),
            )

    def _details(self, name: str, assigned: Assignments) -> WorkerDetails:
        worker, records = assigned.living[name], assigned.records
        pid = worker.count("pid")
        tasks = [task for _, task in self._tasks(name, assigned)]
        return WorkerDetails(
            name=name,
            pid=pid,
            concurrency=1,
            queues=() if records.suspended else worker.queues,
            processed=worker.processed,
            uptime=worker.uptime(records.now),
            software="rq",
            version=worker.fields["version"] or None,
            memory=local_memory(worker.fields["hostname"], [pid] if pid else []),
            active=tuple(task for task in tasks if task.state is TaskState.RUNNING),
            reserved=tuple(task for task in tasks if task.state is TaskState.RESERVED),
        )


def _summary(assigned: Assignments) -> dict[str, Any]:
    """What a survey and a roster have in common."""
    records = assigned.records
    return {
        "silent": assigned.silent,
        "silent_names": tuple(assigned.silent_names),
        "consumers": records.consumers,
        "taken_at": records.now,
        "skipped": dict(records.skipped),
        "asked_by": None,
    }
