"""An RQ queue on Redis: reading every unfinished job, publishing, revoking and requeueing.

Reading does without RQ, whose own readings write and unpickle; writing sends the commands that RQ would send.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from sitegenctl.adapters.broker.json_values import is_encodable
from sitegenctl.adapters.redis.connection import require_writable
from sitegenctl.adapters.rq.job import OVER, Job
from sitegenctl.adapters.rq.lookup import find_job, with_claim
from sitegenctl.adapters.rq.reader import read_jobs, read_queue
from sitegenctl.adapters.rq.records import read_assignments
from sitegenctl.adapters.rq.workers import RqWorkers
from sitegenctl.domain.ports import PublishFailure
from sitegenctl.domain.queue.task import BrokerReading, LiveTask, Publication, TaskDetails, TaskPlace, TaskState
from sitegenctl.domain.queue.worker import WorkerSurvey

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
            details = await find_job(connection, self._options, task_id)
        if details is None or details.place is TaskPlace.QUEUE:
            return details
        return with_claim(details, survey if survey is not None else await self.survey())

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
