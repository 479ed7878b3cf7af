"""An RQ queue on Redis: reading every unfinished job, publishing, revoking and requeueing.

Reading does without RQ, whose own readings write and unpickle; writing sends the commands that RQ would send.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from sitegenctl.adapters.broker.json_values import is_encodable
from sitegenctl.adapters.redis.connection import Connection, require_writable
from sitegenctl.adapters.rq.job import OVER, Job, job_id_of
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.adapters.rq.reader import read_jobs, read_queue, read_result
from sitegenctl.adapters.rq.records import read_assignments
from sitegenctl.adapters.rq.workers import RqWorkers
from sitegenctl.domain.ports import PublishFailure
from sitegenctl.domain.queue.task import (
    BrokerReading,
    ForeignMessage,
    LiveTask,
    Publication,
    TaskDetails,
    TaskPlace,
    TaskResult,
    TaskState,
)
from sitegenctl.domain.queue.worker import WorkerSurvey

#: Readings of job and registries: the job may end, or move, meanwhile.
_MAX_READINGS = 3

#: The most failed jobs that are searched, the newest ones.
_MAX_FAILED = 1000

#: The fields of a job's hash that are shown as they are.
_SHOWN = ("description", "status", "created_at", "started_at", "timeout", "retries_left")

#: Celery's names for the final states of a job.
_RESULTS = {"finished": "SUCCESS", "failed": "FAILURE", "stopped": "REVOKED", "canceled": "REVOKED"}


class RqQueue(RqWorkers):
    """``QueueBackend`` on RQ."""

    def new_task_id(self) -> str:
        return str(uuid.uuid4())

    async def read(self, only: Collection[int] | None = None) -> BrokerReading:
        """Read every place of every unfinished job, and foreign jobs; or only the jobs of these orders.

        A delivery is orphaned here if it is not known when it was taken up, and its time limit has passed since the
        last heartbeat that was promised. All others are decided by when they were taken up.
        """
        async with self.connection() as connection:
            reading = await read_queue(connection, self._options, only)
            reading = replace(reading, hard_limit=self._options.hard_limit)
            if not any(_is_undated(task) for task in reading.tasks):
                return reading
            assigned = await read_assignments(connection, self._options)

        def decided(task: LiveTask) -> LiveTask:
            if not _is_undated(task) or assigned.holders(task.task_id) or assigned.why_undecided(task) is not None:
                return task
            return replace(task, state=TaskState.ORPHANED, reason="no process can be running it any more")

        return replace(reading, tasks=tuple(map(decided, reading.tasks)))

    async def task_details(self, task_id: str, *, survey: WorkerSurvey | None = None) -> TaskDetails | None:
        async with self.connection() as connection:
            details = await _find_job(connection, self._options, task_id)
        if details is None or details.place is TaskPlace.QUEUE:
            return details
        survey = survey if survey is not None else await self.survey()
        claim = next((task for worker in survey.workers for task in worker.tasks if task.task_id == task_id), None)
        # Without a claim it stays as it is: it may move at this moment.
        return details if claim is None else replace(details, state=claim.state, worker=claim.worker)

    async def publish(self, publications: Sequence[Publication]) -> Mapping[str, PublishFailure]:
        # Imported here and below, so that reading starts fast.
        from sitegenctl.adapters.rq.library import publish

        async with self.connection() as connection:
            return await publish(connection, self._options, publications)

    async def revoke(
        self, tasks: Sequence[LiveTask], *, terminate: bool = False, keep: Collection[str] = ()
    ) -> Mapping[str, str]:
        from sitegenctl.adapters.rq.revoke import RqRevoker

        async with self.connection() as connection:
            return await RqRevoker(connection, self._options, terminate=terminate).revoke(tasks, keep)

    async def requeue(self, tasks: Sequence[LiveTask], *, worker_dead: bool = False) -> Mapping[str, str]:
        """Return orphaned jobs to the queue, to be taken next."""
        from sitegenctl.adapters.rq.restore import RqRestorer

        async with self.connection() as connection:
            return await RqRestorer(connection, self._options).requeue(tasks, worker_dead=worker_dead)

    async def finished(self, task_ids: Collection[str]) -> Mapping[str, str]:
        ended = await self._ended(task_ids)
        if not ended:
            return {}
        assigned = await self._assignments()
        records = assigned.records
        # A worker may still be alive whose next heartbeat for the job is not overdue.
        due = {entry.job_id for entry in records.started if entry.is_promised(records.now)}
        return {
            task_id: _RESULTS[job.status]
            for task_id, job in ended.items()
            if not assigned.holders(task_id) and task_id not in due
        }

    async def results(self, task_ids: Collection[str]) -> Mapping[str, TaskResult]:
        ended = await self._ended(task_ids)
        if not ended:
            return {}
        async with self.connection() as connection:
            found = {task_id: await read_result(connection, self._options, task_id) for task_id in ended}
        # A stopped job has the result of a failed one, and a cancelled one may have none.
        return {
            task_id: replace(
                found[task_id] or TaskResult(status="", date_done=job.ended_at), status=_RESULTS[job.status]
            )
            for task_id, job in ended.items()
        }

    async def failed(self, order_ids: Collection[int]) -> Mapping[int, str]:
        if not order_ids:
            return {}
        async with self.connection() as connection:
            (members,) = await connection.execute(("ZREVRANGE", self._options.registry("failed"), 0, _MAX_FAILED - 1))
            jobs = await read_jobs(connection, self._options, map(job_id_of, members))
        task = self._options.task
        # Newest first; an earlier job of the same order does not replace a later one.
        ours = [(job.order_id(task), job_id) for job_id, job in jobs.items() if job is not None and job.is_of(task)]
        return {
            order_id: job_id for order_id, job_id in reversed(ours) if order_id is not None and order_id in order_ids
        }

    async def unusable(self, task_ids: Collection[str]) -> Mapping[str, str]:
        return {
            task_id: "its job was cancelled" if job.status == "canceled" else f"its job has ended: {job.status}"
            for task_id, job in (await self._ended(task_ids)).items()
        }

    async def _ended(self, task_ids: Collection[str]) -> dict[str, Job]:
        async with self.connection() as connection:
            jobs = await read_jobs(connection, self._options, filter(is_encodable, task_ids))
        return {task_id: job for task_id, job in jobs.items() if job is not None and job.status in OVER}

    async def require_writable(self) -> None:
        async with self.connection() as connection:
            await require_writable(connection, f"{self._options.list_key}:probe")

    async def prune_replies(self, *, dry_run: bool = False) -> int:
        return 0


def _is_undated(task: LiveTask) -> bool:
    return task.state is TaskState.UNACKED and task.delivered_at is None


async def _find_job(connection: Connection, options: RqOptions, job_id: str) -> TaskDetails | None:
    """Find a job and its result; None when there is neither."""
    if not is_encodable(job_id):
        return None
    details = None
    for _ in range(_MAX_READINGS):
        job = (await read_jobs(connection, options, [job_id]))[job_id]
        if job is None:
            break
        if job.fields["origin"] not in ("", options.queue):
            return None  # it is in another queue
        details = _details(job, options.task)
        if job.status in OVER:
            break
        reading = await read_queue(connection, options)
        items: list[LiveTask | ForeignMessage] = [*reading.tasks, *reading.foreign]
        item = next((item for item in items if item.task_id == job_id), None)
        if item is not None:
            details = _located(details, job, item, options.list_key)
            break
    result = await read_result(connection, options, job_id)
    if details is None:
        return TaskDetails(task_id=job_id, place=TaskPlace.RESULT, result=result) if result else None
    if job is not None and job.status in OVER:
        # A stopped job has the result of a failed one, and a cancelled one may have none.
        result = replace(result or TaskResult(status=""), status=job.status.upper())
    return replace(details, result=result)


def _details(job: Job, task: str) -> TaskDetails:
    return TaskDetails(
        task_id=job.job_id,
        place=TaskPlace.RESULT,
        name=job.name(task),
        order_id=job.order_id(task),
        worker=job.worker,
        attempt=job.attempt,
        enqueued_at=job.enqueued_at,
        actor=job.actor,
        undecodable=None if job.call() else "its description is no call, and what it calls is never unpickled",
        headers={name: job.fields[name] for name in _SHOWN if job.fields[name]},
    )


def _located(details: TaskDetails, job: Job, item: LiveTask | ForeignMessage, list_key: str) -> TaskDetails:
    """Add where the job is: its hash only has what was last done with it."""
    is_queued = item.state is not TaskState.UNACKED
    return replace(
        details,
        place=TaskPlace.QUEUE if is_queued else TaskPlace.UNACKED,
        state=item.state,
        worker=None if is_queued else details.worker,
        eta=item.eta if isinstance(item, LiveTask) else None,
        list_key=list_key if item.state is TaskState.QUEUED else None,
        position=item.position,
        delivered_at=None if is_queued or job.status != "started" else job.started_at,
    )
