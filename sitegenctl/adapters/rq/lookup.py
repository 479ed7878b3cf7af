"""Everything known of one job."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from typing import Any

from sitegenctl.adapters.broker.json_values import is_encodable, moment
from sitegenctl.adapters.redis.connection import Connection
from sitegenctl.adapters.rq.job import OVER, Job
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.adapters.rq.reader import read_jobs, read_queue
from sitegenctl.domain.queue.task import ForeignMessage, LiveTask, TaskDetails, TaskPlace, TaskResult, TaskState
from sitegenctl.domain.queue.worker import WorkerSurvey

#: Bytes of a traceback or a result at most; a traceback is compressed by its worker.
_MAX_BYTES = 1_000_000

#: Readings of job and registries: the job may end, or move, meanwhile.
_MAX_READINGS = 3

#: RQ's numbers for the outcome of an attempt.
_OUTCOMES = {"1": "FINISHED", "2": "FAILED", "3": "STOPPED", "4": "RETRIED", "5": "FAILED"}

#: The fields of a job's hash that are shown as they are.
_SHOWN = ("description", "status", "created_at", "started_at", "timeout", "retries_left")


async def find_job(connection: Connection, options: RqOptions, job_id: str) -> TaskDetails | None:
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


async def read_result(connection: Connection, options: RqOptions, job_id: str) -> TaskResult | None:
    """The result of the job's last attempt that has ended; None where there is none."""
    command = ("XREVRANGE", options.results(job_id), "+", "-", "COUNT", 1)
    (newest,) = await connection.execute(command, keep_refusals=True)
    if not isinstance(newest, list) or not newest:
        return None
    entry_id, values = newest[0]
    texts = [value.decode(errors="replace") for value in values]
    fields = dict(zip(texts[::2], texts[1::2], strict=True))
    return TaskResult(
        status=_OUTCOMES.get(fields.get("type", ""), "UNDECODABLE"),
        value=_value(fields["return_value"]) if "return_value" in fields else None,
        traceback=_unpacked(fields["exc_string"]) if "exc_string" in fields else None,
        # An entry's id begins with the time in milliseconds.
        date_done=moment(int(entry_id.partition(b"-")[0]) / 1000),
    )


def with_claim(details: TaskDetails, survey: WorkerSurvey) -> TaskDetails:
    """Add what the workers report of the job. Without a claim it stays as it is: it may move at this moment."""
    claim = next((task for worker in survey.workers for task in worker.tasks if task.task_id == details.task_id), None)
    return details if claim is None else replace(details, state=claim.state, worker=claim.worker)


def _unpacked(text: str) -> str | None:
    """A traceback from compressed text in base64; None for anything else."""
    try:
        return zlib.decompressobj().decompress(base64.b64decode(text), _MAX_BYTES).decode(errors="replace")
    except (ValueError, zlib.error):
        return None


def _value(text: str) -> str | None:
    """The returned value as JSON; None for anything else, usually a pickle, which is never loaded."""
    if len(text) > _MAX_BYTES:
        return None
    try:
        value: Any = json.loads(base64.b64decode(text))
    except (ValueError, RecursionError):
        return None
    return json.dumps(value, ensure_ascii=False)
