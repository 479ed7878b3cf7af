"""How jobs leave an RQ queue for another, and get into it from there; see ``queue_moving``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sitegenctl.adapters.broker.moving import Departure
from sitegenctl.adapters.redis.client import Command
from sitegenctl.adapters.redis.connection import Link
from sitegenctl.adapters.rq.library import RqLibrary
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.adapters.rq.publisher import commands_of
from sitegenctl.adapters.rq.reader import read_jobs
from sitegenctl.domain.queue.defaults import RETRIES
from sitegenctl.domain.queue.task import LiveTask, Publication


class RqMoving:
    """``Leaving`` and ``Arriving`` of an RQ queue."""

    def __init__(self, options: RqOptions) -> None:
        self._options = options
        self._library = RqLibrary(options)

    async def departures(self, link: Link, tasks: Sequence[LiveTask]) -> Mapping[str, Departure]:
        """How each of these jobs leaves the queue, or the registry of those that are scheduled."""
        jobs = await read_jobs(link, self._options, [task.task_id for task in tasks])
        departures = {}
        for task in tasks:
            job = jobs[task.task_id]
            call = job.call() if job is not None else None
            if call is not None:
                departures[task.task_id] = self._departure(task, resume=call.resume)
        return departures

    def arrival(self, publication: Publication) -> Sequence[Command]:
        """What queues the job, or schedules it, with as many attempts left as it had."""
        job = self._options.job(publication.task_id)
        *writing, queueing = commands_of(publication, self._library, self._options)
        if publication.attempt > 1:
            left = max(RETRIES + 1 - publication.attempt, 0)
            writing.append(("HSET", job, "retries_left", left))
        if publication.eta is not None:
            writing.append(("HSET", job, "status", "scheduled"))
            queueing = ("ZADD", self._options.scheduled, int(publication.eta.timestamp()), publication.task_id)
        return [*writing, queueing]

    def _departure(self, task: LiveTask, *, resume: bool) -> Departure:
        options, job_id = self._options, task.task_id
        if task.position is not None:
            taking: Command = ("LREM", options.list_key, 1, job_id)
            # It was next, or behind others that were to go before it.
            undoing: Command = ("LPUSH", options.list_key, job_id)
        else:
            due = task.eta.timestamp() if task.eta else 0
            taking = ("ZREM", options.scheduled, job_id)
            undoing = ("ZADD", options.scheduled, due, job_id)
        leftovers = (options.job(job_id), options.results(job_id), options.attempts(job_id))
        return Departure(resume=resume, taking=taking, undoing=undoing, clearing=[("DEL", *leftovers)])
