"""What Celery's workers tell of themselves and of the tasks they hold, asked by remote control.

Reaches Redis by a link of its own for each question, because an answer is waited for on it; who asks again and again
gives it those of his that are idle. What is in the broker is for ``celery_queue``; neither redis-py nor Celery is
needed to ask, which makes asking quick.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from sitegenctl.adapters.calls import order_of, parse_time
from sitegenctl.adapters.celery_control import Replies, ask_workers
from sitegenctl.adapters.celery_options import QueueOptions
from sitegenctl.adapters.json_values import mapping, mappings, moment, number, sequence, span, text
from sitegenctl.adapters.local_processes import local_memory
from sitegenctl.adapters.redis_link import Link, opened_link
from sitegenctl.adapters.redis_urls import database_number, is_sentinel
from sitegenctl.domain.ports import Consumers
from sitegenctl.domain.task import LiveTask, TaskState
from sitegenctl.domain.worker import HeldTask, Worker, WorkerDetails, WorkerRoster, WorkerSurvey

#: The methods that tell which tasks a worker holds, and what it means to be told of by each.
CLAIMS = {"active": TaskState.RUNNING, "reserved": TaskState.RESERVED, "scheduled": TaskState.SCHEDULED}

#: The methods whose answers ``_details`` reads; `report` alone tells Celery's version.
_QUESTIONS = ("stats", "active_queues", "registered", "active", "reserved", "scheduled", "report")


class CeleryWorkers:
    """``WorkerSource`` on Celery's remote control; ``timeout`` is in seconds, for each question.

    ``link`` lends a link of the same time limit, which nobody else uses meanwhile.
    """

    def __init__(
        self,
        url: str,
        options: QueueOptions,
        *,
        timeout: float,
        link: Callable[[], AbstractAsyncContextManager[Link]] | None = None,
    ) -> None:
        self._url = url
        self._options = options
        self._timeout = timeout
        self._link = link or partial(opened_link, url, options, timeout=timeout)

    @property
    def patience(self) -> float:
        """How many seconds the workers are given to answer.

        Less than the link's own limit: Redis looks only ten times a second whether a client has waited long
        enough.
        """
        return self._timeout - min(0.5, self._timeout / 2)

    async def ask(
        self,
        methods: Sequence[str],
        *,
        arguments: Mapping[str, Mapping[str, Any]] | None = None,
        destination: Sequence[str] | None = None,
    ) -> Replies:
        """Ask every living worker, or those named, these methods of remote control; ``arguments`` are by method.

        Returns as soon as all have answered. Raises ``SourceError`` without Redis.
        """
        async with self._link() as link:
            return await ask_workers(
                link,
                methods,
                timeout=self.patience,
                channels=self._options.control_channels(database_number(self._url), sentinel=is_sentinel(self._url)),
                arguments=arguments or {},
                destination=destination,
                prefix=self._options.global_keyprefix,
                sep=self._options.sep,
            )

    async def survey(self) -> WorkerSurvey:
        """Ask every living worker what it holds; returns as soon as all have answered."""
        replies = await self._without_revoked(await self.ask(list(CLAIMS)))
        workers = tuple(
            Worker(name=name, tasks=tuple(_claims(name, given, self._options.task)))
            for name, given in sorted(replies.answers.items())
        )
        return WorkerSurvey(workers=workers, silent=replies.unknown)

    async def worker_details(self) -> WorkerRoster:
        """Ask every living worker about itself; returns as soon as all have answered."""
        replies = await self._without_revoked(await self.ask(_QUESTIONS))
        task = self._options.task
        workers = tuple(_details(name, given, task) for name, given in sorted(replies.answers.items()))
        return WorkerRoster(workers=workers, silent=replies.unknown)

    async def pause(self) -> Consumers:
        """Have every living worker stop taking tasks from our queue."""
        return await self._tell("cancel_consumer")

    async def resume(self) -> Consumers:
        """Have every living worker take tasks from our queue again."""
        return await self._tell("add_consumer")

    async def _tell(self, method: str) -> Consumers:
        replies = await self.ask([method], arguments={method: {"queue": self._options.queue}})
        return Consumers(obeyed=sorted(replies.answers), refused=replies.refused, silent=replies.silent)

    async def _without_revoked(self, replies: Replies) -> Replies:
        """The same without what will not run: a worker lists it until its turn has come, and drops it then.

        Who holds nothing for later isn't asked for its revokes, which may be many. They are asked for before the
        tasks are, once more: one that was revoked after it had started runs on.
        """
        holding = [name for name, given in replies.answers.items() if given.get("reserved") or given.get("scheduled")]
        if not holding:
            return replies
        again = await self.ask(["revoked", *CLAIMS], destination=holding)
        sifted = {name: {**replies.answers[name], **_not_revoked(given)} for name, given in again.answers.items()}
        return replace(replies, answers={**replies.answers, **sifted})


def _not_revoked(given: Mapping[str, Any]) -> dict[str, Any]:
    revoked = {task_id for task_id in sequence(given.get("revoked")) if isinstance(task_id, str)}
    later = {
        method: [entry for entry, request in requests(given.get(method)) if request.get("id") not in revoked]
        for method in ("reserved", "scheduled")
    }
    return {"active": given.get("active"), **later}


def _claims(worker: str, given: Mapping[str, Any], task: str) -> Iterator[LiveTask]:
    for method, state in CLAIMS.items():
        for entry, request in requests(given.get(method)):
            if request.get("name") != task:
                continue
            yield LiveTask(
                task_id=str(request.get("id")),
                name=task,
                order_id=order_of(request.get("args"), request.get("kwargs")),
                state=state,
                worker=worker,
                eta=parse_time(entry.get("eta")),
            )


def _details(name: str, given: Mapping[str, Any], task: str) -> WorkerDetails:
    stats = mapping(given.get("stats"))
    pool = mapping(stats.get("pool"))
    soft, hard = _limits(pool.get("timeouts"))
    totals = {str(task): count for task, count in mapping(stats.get("total")).items() if isinstance(count, int)}
    processes = tuple(pid for pid in sequence(pool.get("processes")) if isinstance(pid, int))
    # In kilobytes, as Linux counts it.
    peak = number(mapping(stats.get("rusage")).get("maxrss"))
    version = re.search(r"celery:(\S+)", str(mapping(given.get("report")).get("ok")))
    return WorkerDetails(
        name=name,
        pid=number(stats.get("pid")),
        concurrency=number(pool.get("max-concurrency")),
        pool=text(pool.get("implementation")),
        queues=tuple(str(queue.get("name")) for queue in mappings(given.get("active_queues"))),
        # A task with a rate limit is listed as `name [rate_limit=…]`.
        registered=tuple(sorted(str(task).partition(" ")[0] for task in sequence(given.get("registered")))),
        processed=sum(totals.values()) if "total" in stats else None,
        processed_by_task=totals,
        uptime=span(stats.get("uptime")),
        prefetch_count=number(stats.get("prefetch_count")),
        version=version[1] if version else None,
        soft_limit=soft,
        hard_limit=hard,
        processes=processes,
        peak_memory=None if peak is None else peak * 1024,
        memory=local_memory(name.rpartition("@")[2], [pid for pid in (number(stats.get("pid")), *processes) if pid]),
        active=tuple(_held(given.get("active"), task)),
        reserved=tuple(_held(given.get("reserved"), task)),
        scheduled=tuple(_held(given.get("scheduled"), task)),
    )


def _held(entries: Any, task: str) -> Iterator[HeldTask]:
    for entry, request in requests(entries):
        yield HeldTask(
            task_id=str(request.get("id")),
            name=str(request.get("name")),
            # Another task's first argument is no order.
            order_id=order_of(request.get("args"), request.get("kwargs")) if request.get("name") == task else None,
            started_at=moment(request.get("time_start")),
            eta=parse_time(entry.get("eta")),
            pid=number(request.get("worker_pid")),
        )


def requests(entries: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each entry with the request in it: `scheduled` wraps what the other methods give bare."""
    for entry in mappings(entries):
        request = entry.get("request", entry)
        if isinstance(request, dict):
            yield entry, request


def _limits(value: Any) -> tuple[timedelta | None, timedelta | None]:
    # 0 is how the pool says that there is none.
    given = [span(each) or None for each in sequence(value)]
    soft, hard, *_ = (*given, None, None)
    return soft, hard
