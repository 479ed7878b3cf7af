"""A Celery queue on Redis: reading every unfinished task, publishing, revoking and requeueing.

Facts of kombu's Redis transport that this package relies on: the queue is a list for each priority step (LPUSH to
publish, BRPOP to take, so that index -1 is next); delivered and unacknowledged messages, ETA tasks included, are in the
hash ``unacked``. Reading never writes. Neither redis-py nor Celery is imported, because that takes longer than most
calls.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from sitegenctl.adapters.celery.codec import encode_messages, new_id
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.reader import Bounds, QueueReading
from sitegenctl.adapters.celery.workers import CeleryWorkers
from sitegenctl.adapters.redis.connection import ConnectionPool, require_writable
from sitegenctl.adapters.redis.errors import Refusal
from sitegenctl.domain.ports import PublishFailure
from sitegenctl.domain.queue.task import BrokerReading, LiveTask, Publication, TaskDetails, TaskPlace, TaskResult
from sitegenctl.domain.queue.worker import WorkerSurvey
from sitegenctl.errors import SourceError


class CeleryQueue(CeleryWorkers):
    """``QueueBackend`` on Celery's Redis transport; ``timeout`` is in seconds, for each call."""

    new_task_id = staticmethod(new_id)

    def __init__(
        self,
        url: str,
        options: QueueOptions,
        *,
        timeout: float,
        now: Callable[[], datetime] = partial(datetime.now, UTC),  # noqa: B008 - a function
        bounds: Bounds = Bounds(),  # noqa: B008 - a value
    ) -> None:
        pool = ConnectionPool(url, options, timeout=timeout)
        super().__init__(url, options, timeout=timeout, connection=pool.connection)
        self._now = now
        self._bounds = bounds
        self.close = pool.aclose

    async def read(self, only: Collection[int] | None = None) -> BrokerReading:
        async with self._connection() as connection:
            reading = await QueueReading(connection, self._options, self._bounds, now=self._now(), only=only).read()
        options = self._options
        return replace(reading, hard_limit=options.hard_limit, reconnect_time=options.reconnect_time)

    async def task_details(self, task_id: str, *, survey: WorkerSurvey | None = None) -> TaskDetails | None:
        # Imported here and below, so that reading starts fast.
        from sitegenctl.adapters.celery.messages import find_task, with_claim

        async with self._connection() as connection:
            details = await find_task(connection, self._options, task_id, now=self._now())
        if details is not None and details.place is TaskPlace.QUEUE:
            return details
        return with_claim(task_id, details, survey if survey is not None else await self.survey())

    async def publish(self, publications: Sequence[Publication]) -> Mapping[str, PublishFailure]:
        """Publish under exactly the given ids; returns the failure of each id that failed.

        One command publishes all or none. When the connection is lost meanwhile, it is not known which: then all are
        reported as uncertain.
        """
        if not publications:
            return {}
        messages = encode_messages(publications, task_name=self._options.task, queue=self._options.queue)
        try:
            async with self._connection() as connection:
                await connection.execute(("LPUSH", self._options.lists[0], *messages))
        except SourceError as exc:
            failure = PublishFailure(reason=exc.message, certain=isinstance(exc, Refusal))
            return {publication.task_id: failure for publication in publications}
        return {}

    async def revoke(
        self, tasks: Sequence[LiveTask], *, terminate: bool = False, keep: Collection[str] = ()
    ) -> Mapping[str, str]:
        from sitegenctl.adapters.celery.messages import RawMessages
        from sitegenctl.adapters.celery.revoke import CeleryRevoker

        async with self._connection() as connection:
            messages = RawMessages(connection, self._options)
            return await CeleryRevoker(messages, self, terminate=terminate).revoke(tasks, keep)

    async def requeue(self, tasks: Sequence[LiveTask], *, worker_dead: bool = False) -> Mapping[str, str]:
        """Return orphaned tasks to the queue, to be delivered next."""
        from sitegenctl.adapters.celery.restore import CeleryRestorer

        async with self._connection() as connection:
            return await CeleryRestorer(connection, self._options, self).requeue(tasks, worker_dead=worker_dead)

    async def prune_replies(self, *, dry_run: bool = False) -> int:
        from sitegenctl.adapters.celery.control import find_reply_lists, prune_reply_lists

        async with self._connection() as connection:
            if dry_run:
                return len((await find_reply_lists(connection, self._options)).abandoned)
            return await prune_reply_lists(connection, self._options)

    async def finished(self, task_ids: Collection[str]) -> Mapping[str, str]:
        return {task_id: result.status for task_id, result in (await self.results(task_ids)).items()}

    async def results(self, task_ids: Collection[str]) -> Mapping[str, TaskResult]:
        if not task_ids:
            return {}
        from sitegenctl.adapters.celery.messages import RawMessages

        async with self._connection() as connection:
            return await RawMessages(connection, self._options).final_results(task_ids)

    async def failed(self, order_ids: Collection[int]) -> Mapping[int, str]:
        # Results name neither their task nor its arguments.
        return {}

    async def unusable(self, task_ids: Collection[str]) -> Mapping[str, str]:
        if not task_ids:
            return {}
        reasons = {
            task_id: f"its result is {status} already" for task_id, status in (await self.finished(task_ids)).items()
        }
        for worker, revoked in (await self.revoked()).items():
            for task_id in revoked.intersection(task_ids):
                reasons.setdefault(task_id, f"worker {worker} has revoked it")
        return reasons

    async def require_writable(self) -> None:
        options = self._options
        async with self._connection() as connection:
            await require_writable(connection, f"{options.global_keyprefix}{options.queue}{options.sep}probe")
