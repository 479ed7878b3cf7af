"""A Celery queue on Redis: reading every unfinished task, asking the workers, publishing.

All of it goes through redis-py's asyncio client; Celery itself is not imported, because it takes longer to
import than everything here takes to do, and publishes one task at a time.
Facts of kombu's Redis transport that this module relies on: the queue is a list for each priority step (LPUSH
to publish, BRPOP to take, so that index -1 is next); what is delivered and not acknowledged, ETA tasks
included, is in the hash ``unacked``. Reading never writes.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from sitegenctl.adapters.celery_control import Answers, ask_workers
from sitegenctl.adapters.celery_details import QUESTIONS, TaskSearch, with_claim, worker_details
from sitegenctl.adapters.celery_messages import (
    ACTOR_HEADER,
    ENQUEUED_AT_HEADER,
    encode,
    installed_celery,
    order_of,
    parse_time,
)
from sitegenctl.adapters.celery_options import QueueOptions
from sitegenctl.adapters.celery_reading import Bounds, QueueReading
from sitegenctl.adapters.redis_connection import DRIVER_ERRORS, close, redis_client, translate, translated
from sitegenctl.adapters.redis_urls import database_number, is_sentinel, kombu_url
from sitegenctl.domain.ports import PublishFailure
from sitegenctl.domain.task import BrokerReading, LiveTask, Publication, TaskDetails, TaskPlace, TaskState
from sitegenctl.domain.worker import Worker, WorkerRoster, WorkerSurvey

__all__ = ["CeleryQueue", "QueueOptions", "kombu_url"]

_CLAIMS = {"active": TaskState.RUNNING, "reserved": TaskState.RESERVED, "scheduled": TaskState.SCHEDULED}


def _utc_now() -> datetime:
    return datetime.now(UTC)


class CeleryQueue:
    """``QueueBackend`` on Celery's Redis transport; ``timeout`` is in seconds, for each call."""

    def __init__(
        self,
        url: str,
        options: QueueOptions,
        *,
        timeout: float,
        now: Callable[[], datetime] = _utc_now,
        bounds: Bounds = Bounds(),  # noqa: B008 - a value
    ) -> None:
        self._url = url
        self._options = options
        self._timeout = timeout
        self._now = now
        self._bounds = bounds
        self._client: Redis | None = None

    async def close(self) -> None:
        """Close the connections, if there are any."""
        client, self._client = self._client, None
        if client is not None:
            await close(client)

    def new_task_id(self) -> str:
        """An id as Celery makes them."""
        return str(uuid.uuid4())

    async def read(self) -> BrokerReading:
        """Read every unfinished task and foreign message, each task once."""
        async with translated():
            return await QueueReading(self._redis(), self._options, self._bounds, now=self._now()).read()

    async def survey(self) -> WorkerSurvey:
        """Ask every living worker what it holds; returns as soon as all have answered."""
        answers, silent = await self._ask(list(_CLAIMS))
        workers = tuple(
            Worker(name=name, tasks=tuple(self._claims(name, given))) for name, given in sorted(answers.items())
        )
        return WorkerSurvey(workers=workers, silent=silent)

    async def worker_details(self) -> WorkerRoster:
        """Ask every living worker about itself; returns as soon as all have answered."""
        answers, silent = await self._ask(QUESTIONS)
        workers = tuple(worker_details(name, given) for name, given in sorted(answers.items()))
        return WorkerRoster(workers=workers, silent=silent)

    async def task_details(self, task_id: str) -> TaskDetails | None:
        """Find one task in the broker, at the workers and among the results; None when it is nowhere."""
        search = TaskSearch(self._redis(), self._options, chunk=self._bounds.chunk, now=self._now())
        async with translated():
            found = await search.find(task_id)
        if found is not None and found.place is TaskPlace.QUEUE:
            return found
        return with_claim(task_id, found, await self.survey())

    async def publish(self, publications: Sequence[Publication]) -> Mapping[str, PublishFailure]:
        """Publish under exactly the given ids; returns the failure of each id that failed.

        One round trip for all of them. When the connection is lost on the way, it isn't known which arrived:
        all are reported, and whoever called looks.
        """
        messages = [(publication.task_id, self._message(publication)) for publication in publications]
        pipe = self._redis().pipeline(transaction=False)
        for _, message in messages:
            pipe.lpush(self._options.lists[0], message)
        try:
            answers = await pipe.execute(raise_on_error=False)
        except DRIVER_ERRORS as exc:
            answers = [exc] * len(messages)
        return {
            # An answer from Redis itself is a refusal; anything else leaves open whether the task arrived.
            task_id: PublishFailure(reason=translate(answer).message, certain=isinstance(answer, ResponseError))
            for (task_id, _), answer in zip(messages, answers, strict=True)
            if isinstance(answer, BaseException)
        }

    def _message(self, publication: Publication) -> str:
        return encode(
            task_name=self._options.task,
            queue=self._options.queue,
            task_id=publication.task_id,
            args=[publication.order_id],
            kwargs={"resume": publication.resume},
            headers={
                ENQUEUED_AT_HEADER: publication.enqueued_at.isoformat(),
                ACTOR_HEADER: publication.actor,
            },
            celery=installed_celery(),
        )

    def _redis(self) -> Redis:
        if self._client is None:
            self._client = redis_client(
                self._url,
                timeout=self._timeout,
                sentinel_master=self._options.sentinel_master,
                sentinel_password=self._options.sentinel_password,
            )
        return self._client

    async def _ask(self, methods: Sequence[str]) -> tuple[Answers, int]:
        sentinel = is_sentinel(self._url)
        async with translated():
            return await ask_workers(
                self._redis(),
                methods,
                # The client gives up after its own timeout. The question must end well before it: Redis looks
                # only ten times a second whether a client has waited long enough.
                timeout=self._timeout - min(0.5, self._timeout / 2),
                channels=self._options.control_channels(database_number(self._url), sentinel=sentinel),
                prefix=self._options.global_keyprefix,
                sep=self._options.sep,
            )

    def _claims(self, worker: str, given: Mapping[str, Any]) -> Iterator[LiveTask]:
        for method, state in _CLAIMS.items():
            for entry in given.get(method) or ():
                # `scheduled` wraps what the other two give bare.
                request = entry.get("request", entry) if isinstance(entry, dict) else None
                if not isinstance(request, dict) or request.get("name") != self._options.task:
                    continue
                yield LiveTask(
                    task_id=str(request.get("id")),
                    name=self._options.task,
                    order_id=order_of(request.get("args"), request.get("kwargs")),
                    state=state,
                    worker=worker,
                    eta=parse_time(entry.get("eta")),
                )
