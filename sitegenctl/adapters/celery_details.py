"""Everything to be found of one task, and what one worker tells of itself; for people who look at just these."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis

from sitegenctl.adapters.celery_messages import (
    Place,
    decode_message,
    envelope,
    order_of,
    parse_time,
    task_id_of,
    unacked_envelope,
)
from sitegenctl.adapters.celery_options import QueueOptions
from sitegenctl.domain.task import LiveTask, TaskDetails, TaskPlace, TaskResult, TaskState
from sitegenctl.domain.worker import HeldTask, WorkerDetails, WorkerSurvey

#: The remote-control methods whose answers ``worker_details`` reads; `report` alone tells Celery's version.
QUESTIONS = ("stats", "active_queues", "registered", "active", "reserved", "scheduled", "report")

_LOOKS = 2


class TaskSearch:
    """Looks for one task; ``chunk`` messages are asked of Redis at once."""

    def __init__(self, client: Redis, options: QueueOptions, *, chunk: int, now: datetime) -> None:
        self._client = client
        self._options = options
        self._chunk = chunk
        self._now = now

    async def find(self, task_id: str) -> TaskDetails | None:
        """Find the task's message and its result; None when there is neither."""
        found = None
        # It may be on the move from one to the other while they are read.
        for _ in range(_LOOKS):
            found = await self._in_lists(task_id) or await self._in_unacked(task_id)
            if found:
                break
        results: list[Any] = await self._client.mget(self._options.result_keys(task_id))
        result = next(filter(None, results), None)
        if result is None:
            return found
        told = _result_of(result)
        if found is not None:
            return replace(found, result=told)
        return replace(_from_meta(task_id, _mapping(_json(result))), result=told)

    async def _in_lists(self, task_id: str) -> TaskDetails | None:
        before = 0
        for key in self._options.lists:
            length = int(await self._client.llen(key))
            start = 0
            while messages := await self._client.lrange(key, start, start + self._chunk - 1):
                for place, raw in enumerate(messages):
                    if task_id.encode() in raw and (message := _of(task_id, envelope(raw))):
                        position = max(0, before + length - 1 - start - place)
                        details = self._details(task_id, message, Place(TaskState.QUEUED, position))
                        return replace(details, place=TaskPlace.QUEUE, list_key=key)
                start += len(messages)
            before += length
        return None

    async def _in_unacked(self, task_id: str) -> TaskDetails | None:
        async for tag, raw in self._client.hscan_iter(self._options.unacked, count=self._chunk):
            if task_id.encode() in raw and (message := _of(task_id, unacked_envelope(raw))):
                score = await self._client.zscore(self._options.unacked_index, tag)
                details = self._details(task_id, message, Place(TaskState.UNACKED))
                return replace(details, delivered_at=_moment(score))
        return None

    def _details(self, task_id: str, message: Mapping[str, Any], place: Place) -> TaskDetails:
        headers = _mapping(message.get("headers"))
        name = headers.get("task")
        details = TaskDetails(
            task_id=task_id,
            place=TaskPlace.UNACKED,
            name=name if isinstance(name, str) else None,
            state=place.state,
            position=place.position,
            headers=headers,
        )
        # Whichever task it is: here nobody asks whether it is one of ours.
        task = decode_message(message, place, task_name=details.name or "", now=self._now)
        if not isinstance(task, LiveTask):
            return replace(details, undecodable=task.reason)
        return replace(
            details,
            # Another task's first argument is no order.
            order_id=task.order_id if task.name == self._options.task else None,
            state=task.state,
            attempt=task.attempt,
            enqueued_at=task.enqueued_at,
            eta=task.eta,
            actor=task.actor,
        )


def with_claim(task_id: str, details: TaskDetails | None, survey: WorkerSurvey) -> TaskDetails | None:
    """Add what the workers say of the task.

    One that nobody claims stays ``unacked``: it takes a second look to call it orphaned.
    """
    claim = next((task for worker in survey.workers for task in worker.tasks if task.task_id == task_id), None)
    if claim is None:
        return details
    if details is None or details.place is TaskPlace.RESULT:
        told = TaskDetails(
            task_id=task_id,
            place=TaskPlace.WORKER,
            name=claim.name,
            order_id=claim.order_id,
            eta=claim.eta,
            result=details.result if details else None,
        )
    else:
        told = details
    retrying = claim.state is TaskState.SCHEDULED and (told.attempt or 1) > 1
    return replace(told, state=TaskState.RETRYING if retrying else claim.state, worker=claim.worker)


def worker_details(name: str, given: Mapping[str, Any]) -> WorkerDetails:
    """Read one worker's answers to ``QUESTIONS``."""
    stats = _mapping(given.get("stats"))
    pool = _mapping(stats.get("pool"))
    soft, hard = _limits(pool.get("timeouts"))
    totals = [count for count in _mapping(stats.get("total")).values() if isinstance(count, int)]
    version = re.search(r"celery:(\S+)", str(_mapping(given.get("report")).get("ok")))
    uptime = stats.get("uptime")
    return WorkerDetails(
        name=name,
        pid=_number(stats.get("pid")),
        concurrency=_number(pool.get("max-concurrency")),
        pool=_text(pool.get("implementation")),
        queues=tuple(str(queue.get("name")) for queue in _mappings(given.get("active_queues"))),
        # A task with a rate limit is listed as `name [rate_limit=…]`.
        registered=tuple(sorted(str(task).partition(" ")[0] for task in _sequence(given.get("registered")))),
        processed=sum(totals) if "total" in stats else None,
        uptime=timedelta(seconds=uptime) if isinstance(uptime, int | float) else None,
        prefetch_count=_number(stats.get("prefetch_count")),
        version=version[1] if version else None,
        soft_limit=soft,
        hard_limit=hard,
        active=tuple(_held(given.get("active"))),
        reserved=tuple(_held(given.get("reserved"))),
        scheduled=tuple(_held(given.get("scheduled"))),
    )


def _held(entries: Any) -> Iterator[HeldTask]:
    for entry in _mappings(entries):
        # `scheduled` wraps what the others give bare.
        request = _mapping(entry.get("request", entry))
        yield HeldTask(
            task_id=str(request.get("id")),
            name=str(request.get("name")),
            order_id=order_of(request.get("args"), request.get("kwargs")),
            started_at=_moment(request.get("time_start")),
            eta=parse_time(entry.get("eta")),
        )


def _of(task_id: str, message: dict[str, Any] | None) -> dict[str, Any] | None:
    return message if message is not None and task_id_of(message) == task_id else None


def _result_of(raw: bytes) -> TaskResult:
    meta = _json(raw)
    if not isinstance(meta, dict):
        return TaskResult(status="UNDECODABLE")
    return TaskResult(
        status=str(meta.get("status")),
        value=json.dumps(meta.get("result"), ensure_ascii=False),
        traceback=_text(meta.get("traceback")),
        date_done=parse_time(meta.get("date_done")),
    )


def _from_meta(task_id: str, meta: Mapping[str, Any]) -> TaskDetails:
    """What a result alone tells: name, arguments and worker are there with ``result_extended`` only."""
    retries = _number(meta.get("retries"))
    order_id = order_of(meta.get("args"), meta.get("kwargs"))
    return TaskDetails(
        task_id=task_id,
        place=TaskPlace.RESULT,
        name=_text(meta.get("name")),
        order_id=order_id if order_id is not None else _number(_mapping(meta.get("result")).get("order_id")),
        worker=_text(meta.get("worker")),
        attempt=None if retries is None else retries + 1,
    )


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):  # a pickle, for one, which is never loaded
        return None


def _limits(value: Any) -> tuple[timedelta | None, timedelta | None]:
    # 0 is how the pool says that there is none.
    given = [timedelta(seconds=each) if isinstance(each, int | float) and each else None for each in _sequence(value)]
    soft, hard, *_ = (*given, None, None)
    return soft, hard


def _moment(value: Any) -> datetime | None:
    return datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) and value else None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _mappings(value: Any) -> list[dict[str, Any]]:
    return [each for each in _sequence(value) if isinstance(each, dict)]


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
