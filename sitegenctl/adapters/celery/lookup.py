"""Everything known of one task, and the results of tasks."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sitegenctl.adapters.broker.json_values import is_encodable, mapping, moment, number, text
from sitegenctl.adapters.broker.task_args import order_of, parse_time
from sitegenctl.adapters.celery.codec import Decoder, Place, envelope, task_id_of, unacked_envelope
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.redis.connection import Connection
from sitegenctl.domain.queue.task import LiveTask, TaskDetails, TaskPlace, TaskResult, TaskState
from sitegenctl.domain.queue.worker import WorkerSurvey

#: Readings of queue and ``unacked``: the task may move from one to the other meanwhile.
_MAX_READINGS = 2

#: Results read at once; one may be as long as a traceback.
_RESULTS = 200

_FINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED"})


class TaskSearch:
    """Searches for one task; ``batch`` messages are read at once."""

    def __init__(self, connection: Connection, options: QueueOptions, *, batch: int, now: datetime) -> None:
        self._connection = connection
        self._options = options
        self._batch = batch
        self._now = now

    async def find(self, task_id: str) -> TaskDetails | None:
        """Find the task's message and its result; None when there is neither."""
        details = None
        if not is_encodable(task_id):
            return None
        for _ in range(_MAX_READINGS):
            details = await self._in_lists(task_id) or await self._in_unacked(task_id)
            if details:
                break
        (results,) = await self._connection.execute(("MGET", *self._options.result_keys(task_id)))
        raw = next(filter(None, results), None)
        if raw is None:
            return details
        details = details or _from_meta(task_id, mapping(_json(raw)), self._options.task)
        return replace(details, result=_result_of(raw))

    async def _in_lists(self, task_id: str) -> TaskDetails | None:
        before = 0
        for key in self._options.lists:
            (length,) = await self._connection.execute(("LLEN", key))
            start = 0
            while messages := (await self._connection.execute(("LRANGE", key, start, start + self._batch - 1)))[0]:
                for place, raw in enumerate(messages):
                    if _may_be_of(task_id, raw) and (message := _of(task_id, envelope(raw))):
                        position = max(0, before + length - 1 - start - place)
                        details = self._details(task_id, message, Place(TaskState.QUEUED, position))
                        return replace(details, place=TaskPlace.QUEUE, list_key=key)
                start += len(messages)
            before += length
        return None

    async def _in_unacked(self, task_id: str) -> TaskDetails | None:
        unacked = self._options.unacked
        cursor: Any = 0
        while True:
            ((cursor, values),) = await self._connection.execute(("HSCAN", unacked, cursor, "COUNT", self._batch))
            for tag, raw in zip(values[::2], values[1::2], strict=True):
                if _may_be_of(task_id, raw) and (message := _of(task_id, unacked_envelope(raw))):
                    (score,) = await self._connection.execute(("ZSCORE", self._options.unacked_index, tag))
                    details = self._details(task_id, message, Place(TaskState.UNACKED))
                    return replace(details, delivered_at=moment(float(score)) if score is not None else None)
            if int(cursor) == 0:
                return None

    def _details(self, task_id: str, message: Mapping[str, Any], place: Place) -> TaskDetails:
        headers = mapping(message.get("headers"))
        name = headers.get("task")
        details = TaskDetails(
            task_id=task_id,
            place=TaskPlace.UNACKED,
            name=name if isinstance(name, str) else None,
            state=place.state,
            position=place.position,
            headers=headers,
        )
        # Only its own call, whichever task it is, not those that it carries.
        task, *_ = Decoder(details.name or "", now=self._now).decode_message(message, place)
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


async def final_states(connection: Connection, options: QueueOptions, task_ids: Collection[str]) -> dict[str, str]:
    """The final state of each of these tasks that has one among the results; a result in another format has none."""
    states: dict[str, str] = {}
    wanted = [task_id for task_id in dict.fromkeys(task_ids) if is_encodable(task_id)]
    for start in range(0, len(wanted), _RESULTS):
        batch = wanted[start : start + _RESULTS]
        replies = await connection.execute(*(("MGET", *options.result_keys(task_id)) for task_id in batch))
        for task_id, results in zip(batch, replies, strict=True):
            for raw in filter(None, results):
                state = text(mapping(_json(raw)).get("status"))
                if state in _FINAL:
                    states.setdefault(task_id, state)
    return states


def with_claim(task_id: str, details: TaskDetails | None, survey: WorkerSurvey) -> TaskDetails | None:
    """Add what the workers report of the task. Without a claim it stays ``unacked``: it may move at this moment."""
    claim = next((task for worker in survey.workers for task in worker.tasks if task.task_id == task_id), None)
    if claim is None:
        return details
    if details is None or details.place is TaskPlace.RESULT:
        details = TaskDetails(
            task_id=task_id,
            place=TaskPlace.WORKER,
            name=claim.name,
            order_id=claim.order_id,
            eta=claim.eta,
            result=details.result if details else None,
        )
    is_retrying = claim.state is TaskState.SCHEDULED and (details.attempt or 1) > 1
    return replace(details, state=TaskState.RETRYING if is_retrying else claim.state, worker=claim.worker)


def _may_be_of(task_id: str, raw: bytes) -> bool:
    """Whether the message is worth decoding: in protocol 1 the id is in the body, and an odd one is escaped."""
    return task_id.encode() in raw or b'"task"' not in raw or "\\" in task_id


def _of(task_id: str, message: dict[str, Any] | None) -> dict[str, Any] | None:
    return message if task_id_of(message) == task_id else None


def _result_of(raw: bytes) -> TaskResult:
    meta = _json(raw)
    if not isinstance(meta, dict):
        return TaskResult(status="UNDECODABLE")
    return TaskResult(
        status=text(meta.get("status")) or "UNDECODABLE",
        value=json.dumps(meta.get("result"), ensure_ascii=False),
        traceback=text(meta.get("traceback")),
        date_done=parse_time(meta.get("date_done")),
    )


def _from_meta(task_id: str, meta: Mapping[str, Any], task: str) -> TaskDetails:
    """What a result alone shows: name, arguments and worker are only there with ``result_extended``."""
    retries = number(meta.get("retries"))
    order_id = order_of(meta.get("args"), meta.get("kwargs"))
    if order_id is None:
        order_id = order_of([mapping(meta.get("result")).get("order_id")], None)
    return TaskDetails(
        task_id=task_id,
        place=TaskPlace.RESULT,
        name=text(meta.get("name")),
        # Another task's first argument is no order; usually a result has no name.
        order_id=order_id if text(meta.get("name")) in (None, task) else None,
        worker=text(meta.get("worker")),
        attempt=None if retries is None else retries + 1,
    )


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):  # a pickle, for one, which is never loaded
        return None
