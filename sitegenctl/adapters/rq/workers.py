"""``WorkerSource`` on the workers' records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from sitegenctl.adapters.redis.connection import Connection, open_connection
from sitegenctl.adapters.rq.assignments import Assignments, Running, assign_jobs
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.adapters.rq.records import Record, Records, read_records
from sitegenctl.adapters.system.processes import local_memory
from sitegenctl.domain.ports import Consumers
from sitegenctl.domain.queue.task import LiveTask, TaskState
from sitegenctl.domain.queue.worker import Worker, WorkerDetails, WorkerRoster, WorkerSurvey


class RqWorkers:
    """Reads and controls RQ's workers; ``timeout`` is in seconds, for each call."""

    def __init__(self, url: str, options: RqOptions, *, timeout: float) -> None:
        self._url = url
        self._options = options
        self._timeout = timeout

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """A connection to Redis, closed at the end."""
        return open_connection(self._url, self._options, timeout=self._timeout)

    async def survey(self) -> WorkerSurvey:
        """Read what every living worker holds."""
        records, assigned = await self._read()
        workers = tuple(
            Worker(name=name, tasks=tuple(self._claims(name, assigned, records))) for name in assigned.living
        )
        return WorkerSurvey(
            workers=workers,
            silent=assigned.silent,
            consumers=records.consumers,
            skipped=dict(records.skipped),
            asked_by=None,
        )

    async def worker_details(self) -> WorkerRoster:
        """Read the record of every living worker."""
        records, assigned = await self._read()
        workers = tuple(self._details(worker, assigned, records) for worker in assigned.living.values())
        return WorkerRoster(
            workers=workers,
            silent=assigned.silent,
            consumers=records.consumers,
            skipped=dict(records.skipped),
            asked_by=None,
        )

    async def pause(self) -> Consumers:
        """Have every worker of this Redis take no more jobs: RQ cannot pause a single queue."""
        return await self._set_suspended(suspended=True)

    async def resume(self) -> Consumers:
        """Have every worker take jobs again."""
        return await self._set_suspended(suspended=False)

    async def _set_suspended(self, *, suspended: bool) -> Consumers:
        from sitegenctl.adapters.rq.library import RqLibrary

        library = RqLibrary(self._options)
        async with self.connection() as connection:
            await connection.execute(*(library.suspend() if suspended else library.resume()))
        survey = await self.survey()
        return Consumers(
            acknowledged=[worker.name for worker in survey.workers], rejected={}, unresponsive=survey.silent
        )

    async def _read(self) -> tuple[Records, Assignments]:
        async with self.connection() as connection:
            records = await read_records(connection, self._options)
        return records, assign_jobs(records, self._options.queue)

    def _claims(self, name: str, assigned: Assignments, records: Records) -> Iterator[LiveTask]:
        task = self._options.task
        held = [(TaskState.RUNNING, job) for job in assigned.running[name]]
        held += [(TaskState.RESERVED, Running(job_id)) for job_id in assigned.taking[name]]
        for state, (job_id, delivery) in held:
            job = records.jobs.get(job_id)
            if job is None or not job.is_of(task) or job.why_unattributed(task):
                continue
            is_running = state is TaskState.RUNNING and job.status == "started"
            yield LiveTask(
                task_id=job_id,
                name=task,
                order_id=job.order_id(task),
                state=state,
                worker=name,
                attempt=job.attempt,
                delivery=delivery,
                limit=job.time_limit,
                started_at=job.started_at if is_running else None,
            )

    def _details(self, worker: Record, assigned: Assignments, records: Records) -> WorkerDetails:
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
            active=tuple(self._held(assigned.running_ids(worker.name), records, worker.name, TaskState.RUNNING)),
            reserved=tuple(self._held(assigned.taking[worker.name], records, worker.name, TaskState.RESERVED)),
        )

    def _held(self, job_ids: Iterable[str], records: Records, worker: str, state: TaskState) -> Iterator[LiveTask]:
        task = self._options.task
        for job_id in job_ids:
            job = records.jobs.get(job_id)
            call = job.call() if job is not None else None
            is_ours = job is not None and job.is_of(task)
            yield LiveTask(
                state=state,
                worker=worker,
                task_id=job_id,
                name=task if is_ours else call.function if call else "undecodable",
                order_id=job.order_id(task) if job is not None else None,
                started_at=job.started_at if job is not None and job.status == "started" else None,
            )
