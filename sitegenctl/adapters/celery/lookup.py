"""Everything known of one task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sitegenctl.adapters.broker.json_values import is_encodable, mapping, moment, number, text
from sitegenctl.adapters.broker.task_args import order_of, parse_time
from sitegenctl.adapters.celery.codec import Decoder, Place, envelope, unacked_envelope
from sitegenctl.adapters.celery.messages import RawMessages, parse_result
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.redis.connection import Connection
from sitegenctl.domain.queue.task import LiveTask, TaskDetails, TaskPlace, TaskResult, TaskState
from sitegenctl.domain.queue.worker import WorkerSurvey

#: Readings of queue and ``unacked``: the task may move from one to the other meanwhile.
_MAX_READINGS = 2


async def find_task(
    connection: Connection, options: QueueOptions, task_id: str, *, now: datetime
) -> TaskDetails | None:
    """Find the task's message and its result; None when there is neither."""
    if not is_encodable(task_id):
        return None
    messages = RawMessages(connection, options)
    details = None
    for _ in range(_MAX_READINGS):
        if queued := await messages.find({task_id}):
            message, place = envelope(queued[0].raw), Place(TaskState.QUEUED, queued[0].position)
            details = _details_in(task_id, mapping(message), place, options.task, now)
            details = replace(details, place=TaskPlace.QUEUE, list_key=queued[0].key)
            break
        if unacked := await messages.find_unacked({task_id}):
            message, place = unacked_envelope(unacked[0].raw), Place(TaskState.UNACKED)
            details = _details_in(task_id, mapping(message), place, options.task, now)
            details = replace(details, delivered_at=moment(float(unacked[0].score or 0)))
            break
    (results,) = await connection.execute(("MGET", *options.result_keys(task_id)))
    raw = next(filter(None, results), None)
    if raw is None:
        return details
    meta = parse_result(raw)
    return replace(details or _from_meta(task_id, mapping(meta), options.task), result=_result_of(meta))


def _details_in(task_id: str, message: Mapping[str, Any], place: Place, task_name: str, now: datetime) -> TaskDetails:
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
    task, *_ = Decoder(details.name or "", now=now).decode_message(message, place)
    if not isinstance(task, LiveTask):
        return replace(details, undecodable=task.reason)
    return replace(
        details,
        # Another task's first argument is no order.
        order_id=task.order_id if task.name == task_name else None,
        state=task.state,
        attempt=task.attempt,
        enqueued_at=task.enqueued_at,
        eta=task.eta,
        actor=task.actor,
    )


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


def _result_of(meta: Any) -> TaskResult:
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
