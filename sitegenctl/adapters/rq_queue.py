"""An RQ queue on Redis: reading every unfinished job, publishing; what the workers tell is ``rq_workers``.

What reads does without RQ itself, whose readings write and unpickle (``rq_reading`` says how); what writes has RQ
say what is to be written (``rq_library``). Taking jobs away is for ``rq_withdrawal``, giving orphaned ones back for
``rq_put_back``.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from sitegenctl.adapters.queue_moving import LookElsewhere, nowhere_else
from sitegenctl.adapters.rq_details import JobSearch, with_claim
from sitegenctl.adapters.rq_options import RqOptions
from sitegenctl.adapters.rq_reading import QueueReading
from sitegenctl.adapters.rq_workers import RqWorkers
from sitegenctl.domain.ports import Consumers, PublishFailure
from sitegenctl.domain.task import BrokerReading, LiveTask, Publication, TaskDetails, TaskPlace
from sitegenctl.domain.worker import WorkerRoster, WorkerSurvey


class RqQueue:
    """``QueueBackend`` on RQ; ``timeout`` is in seconds, for each call. Each call has a connection of its own."""

    def __init__(
        self, url: str, options: RqOptions, *, timeout: float, elsewhere: LookElsewhere = nowhere_else
    ) -> None:
        self._options = options
        self._elsewhere = elsewhere
        self._workers = RqWorkers(url, options, timeout=timeout)

    def new_task_id(self) -> str:
        """An id as RQ makes them."""
        return str(uuid.uuid4())

    async def read(self, only: Collection[int] | None = None) -> BrokerReading:
        """Read every unfinished job and foreign one, each once; or just the jobs of these orders."""
        async with self._workers.link() as link:
            reading = await QueueReading(link, self._options, only=only).read()
        return replace(reading, hard_limit=self._options.hard_limit)

    async def survey(self) -> WorkerSurvey:
        """Read what every living worker holds."""
        return await self._workers.survey()

    async def worker_details(self) -> WorkerRoster:
        """Read what every living worker tells of itself."""
        return await self._workers.worker_details()

    async def task_details(self, task_id: str, *, survey: WorkerSurvey | None = None) -> TaskDetails | None:
        """Find one job in the queue, at the workers (if not at hand as ``survey``) and among the results."""
        async with self._workers.link() as link:
            found = await JobSearch(link, self._options).find(task_id)
        if found is None or found.place is TaskPlace.QUEUE:
            return found
        return with_claim(found, survey if survey is not None else await self.survey())

    async def publish(self, publications: Sequence[Publication]) -> Mapping[str, PublishFailure]:
        """Publish under exactly the given ids; returns the failure of each id that failed."""
        # Here and below: what only reads, and starts often, is spared importing RQ.
        from sitegenctl.adapters.rq_library import RqLibrary
        from sitegenctl.adapters.rq_publishing import publish

        async with self._workers.link() as link:
            return await publish(link, RqLibrary(self._options), self._options, publications)

    async def withdraw(
        self, tasks: Sequence[LiveTask], *, terminate: bool = False, keep: Collection[str] = ()
    ) -> Mapping[str, str]:
        """Take jobs away: out of the queue and the registries, and stopped where they run."""
        from sitegenctl.adapters.rq_withdrawal import Withdrawal

        async with self._workers.link() as link:
            return await Withdrawal(link, self._options, terminate=terminate).withdraw(tasks, keep)

    async def put_back(self, tasks: Sequence[LiveTask]) -> Mapping[str, str]:
        """Hand orphaned jobs to the queue again, to be taken next; nothing else of them changes."""
        from sitegenctl.adapters.rq_put_back import PuttingBack

        async with self._workers.link() as link:
            return await PuttingBack(link, self._options).put_back(tasks)

    async def pause(self) -> Consumers:
        """Have every worker of this Redis take no other job."""
        return await self._workers.pause()

    async def resume(self) -> Consumers:
        """Have every worker take jobs again."""
        return await self._workers.resume()

    async def left_behind(self, order_ids: Collection[int]) -> Mapping[int, str]:
        """Which of these orders still have a task in another queue on the same Redis, by that queue's name."""
        return await self._elsewhere(order_ids)

    async def prune_replies(self, *, dry_run: bool = False) -> int:
        """Nothing: RQ's workers are told, not asked, and nobody waits for a reply that could be left behind."""
        return 0
