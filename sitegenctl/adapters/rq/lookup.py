"""Everything to be found of one job, for people who look at just this one."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sitegenctl.adapters.broker.json_values import is_encodable, moment
from sitegenctl.adapters.redis.connection import Link
from sitegenctl.adapters.rq.job import OVER, Job
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.adapters.rq.reader import QueueReading, read_jobs
from sitegenctl.domain.queue.task import ForeignMessage, LiveTask, TaskDetails, TaskPlace, TaskResult, TaskState
from sitegenctl.domain.queue.worker import WorkerSurvey

#: Bytes of a traceback, or of a result, at most: they are compressed, by whoever wrote them.
_LONGEST = 1_000_000

_LOOKS = 3

#: RQ's numbers for what came of an attempt.
_RESULTS = {"1": "FINISHED", "2": "FAILED", "3": "STOPPED", "4": "RETRIED", "5": "FAILED"}

#: What of a job's hash is worth showing as it is.
_SHOWN = ("description", "status", "created_at", "started_at", "timeout", "retries_left")


class JobSearch:
    """Looks for one job."""

    def __init__(self, link: Link, options: RqOptions) -> None:
        self._link = link
        self._options = options

    async def find(self, job_id: str) -> TaskDetails | None:
        """Find the job and what came of it; None when there is neither."""
        if not is_encodable(job_id):
            return None
        details = None
        # It may end, or go from one registry to another, while it is looked for.
        for _ in range(_LOOKS):
            job = (await read_jobs(self._link, self._options, [job_id]))[job_id]
            if job is None:
                break
            if job.fields["origin"] not in ("", self._options.queue):
                return None  # another queue's
            details = self._of(job)
            found = await self._look_for(job_id) if job.status not in OVER else None
            if found is not None:
                details = self._located(details, job, found)
            if found is not None or job.status in OVER:
                break
        result = await read_result(self._link, self._options, job_id)
        if details is None:
            return TaskDetails(task_id=job_id, place=TaskPlace.RESULT, result=result) if result else None
        if job is not None and job.status in OVER:
            # A job that was stopped has the result of one that failed, and one that was cancelled may have none.
            result = replace(result or TaskResult(status=""), status=job.status.upper())
        return replace(details, result=result)

    def _of(self, job: Job) -> TaskDetails:
        call = job.call()
        ours = self._options.task
        return TaskDetails(
            task_id=job.job_id,
            place=TaskPlace.RESULT,
            name=ours if job.is_of(ours) else call.function if call else None,
            order_id=job.order_id(ours),
            worker=job.worker,
            attempt=job.attempt,
            enqueued_at=job.enqueued_at,
            actor=job.actor,
            undecodable=None if call else "its description is no call, and what it calls is never unpickled",
            headers={name: job.fields[name] for name in _SHOWN if job.fields[name]},
        )

    def _located(self, details: TaskDetails, job: Job, found: LiveTask | ForeignMessage) -> TaskDetails:
        """Where it is follows from where it stands: its hash says what was last done with it."""
        queued = found.state is not TaskState.UNACKED
        return replace(
            details,
            place=TaskPlace.QUEUE if queued else TaskPlace.UNACKED,
            state=found.state,
            worker=None if queued else details.worker,
            eta=found.eta if isinstance(found, LiveTask) else None,
            list_key=self._options.list_key if found.state is TaskState.QUEUED else None,
            position=found.position,
            delivered_at=None if queued or job.status != "started" else job.started_at,
        )

    async def _look_for(self, job_id: str) -> LiveTask | ForeignMessage | None:
        """The job as it stands in the queue or a registry."""
        reading = await QueueReading(self._link, self._options).read()
        items: list[LiveTask | ForeignMessage] = [*reading.tasks, *reading.foreign]
        return next((item for item in items if item.task_id == job_id), None)


async def read_result(link: Link, options: RqOptions, job_id: str) -> TaskResult | None:
    """What came of the last attempt at a job that has ended; None where nothing is known of any."""
    question = ("XREVRANGE", options.results(job_id), "+", "-", "COUNT", 1)
    (newest,) = await link.execute(question, keep_refusals=True)
    return _result_of(*newest[0]) if isinstance(newest, list) and newest else None


def with_claim(details: TaskDetails, survey: WorkerSurvey) -> TaskDetails:
    """Add what the workers say of the job; one that nobody claims stays as it is: that takes a second look."""
    claim = next((task for worker in survey.workers for task in worker.tasks if task.task_id == details.task_id), None)
    return details if claim is None else replace(details, state=claim.state, worker=claim.worker)


def _result_of(entry_id: bytes, values: Sequence[bytes]) -> TaskResult:
    """What came of an attempt, from an entry of the stream; its id begins with the time in milliseconds."""
    told: Mapping[str, str] = {
        key.decode(errors="replace"): value.decode(errors="replace")
        for key, value in zip(values[::2], values[1::2], strict=True)
    }
    traceback = _unpacked(told["exc_string"]) if "exc_string" in told else None
    return TaskResult(
        status=_RESULTS.get(told.get("type", ""), "UNDECODABLE"),
        value=_value(told["return_value"]) if "return_value" in told else None,
        traceback=traceback,
        date_done=moment(int(entry_id.partition(b"-")[0]) / 1000),
    )


def _unpacked(text: str) -> str | None:
    """A traceback: text, compressed, in base64; None for anything else."""
    try:
        return zlib.decompressobj().decompress(base64.b64decode(text), _LONGEST).decode(errors="replace")
    except (ValueError, zlib.error):
        return None


def _value(text: str) -> str | None:
    """What the job returned, as JSON; None for what is none: a pickle, as a rule, which is never loaded."""
    if len(text) > _LONGEST:
        return None
    try:
        value: Any = json.loads(base64.b64decode(text))
    except (ValueError, RecursionError):
        return None
    return json.dumps(value, ensure_ascii=False)
