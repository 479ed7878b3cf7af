"""RQ's jobs as they are in Redis: which order one is for and how far it is, without ever trusting it.

A job's ``data``, ``meta`` and result are pickles, which are never loaded: a pickle can run anything. What we publish
therefore carries its facts a second time, in plain fields of the job's hash that RQ leaves alone, whatever becomes
of the job. A job that others published is known by its description alone, as far as that is the call that RQ
writes there by itself: ``app.module.function(42, resume=True)``.
Source: rq/job.py, get_call_string() in rq/utils.py, 1.15 to 3.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sitegenctl.adapters.calls import order_of, parse_time
from sitegenctl.domain.task import ForeignMessage, LiveTask, TaskState

ORDER_FIELD = "sitegenctl_order_id"
ENQUEUED_AT_FIELD = "sitegenctl_enqueued_at"
ACTOR_FIELD = "sitegenctl_actor"
RETRIES_FIELD = "sitegenctl_retries"

#: What is read of a job's hash: never ``data``, ``meta`` or ``result``.
FIELDS = (
    "description",
    "status",
    "origin",
    "created_at",
    "started_at",
    "ended_at",
    "worker_name",
    "retries_left",
    "timeout",
    ORDER_FIELD,
    ENQUEUED_AT_FIELD,
    ACTOR_FIELD,
    RETRIES_FIELD,
)

#: The states of a job that nobody will run, unless somebody queues it again.
OVER = frozenset({"finished", "failed", "stopped", "canceled"})

#: A description that is longer is none that RQ wrote of our call.
_LONGEST = 500

_CALL = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)\((.*)\)", re.DOTALL)
_BOOL = r"True|False"
# RQ sorts the keyword arguments.
_ARGUMENTS = re.compile(
    rf"(\d{{1,10}})(?:, (?:resume=)?({_BOOL}))?|order_id=(\d{{1,10}})(?:, resume=({_BOOL}))?",
    re.ASCII,
)


class Call(NamedTuple):
    """A call as a description tells of it; ``order_id`` and ``resume`` are known where it can be the call of ours."""

    function: str
    order_id: int | None
    resume: bool = True


class Place(NamedTuple):
    """Where a job was found: the state that follows, when it is due, and its place in the order of delivery."""

    state: TaskState
    due: datetime | None = None
    position: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What is read of one job; a field that it lacks, or that is no text, is empty."""

    job_id: str
    fields: Mapping[str, str]

    @classmethod
    def of(cls, job_id: str, values: Sequence[bytes | None]) -> Job | None:
        """The job from its values of ``FIELDS``; None where there is no such job."""
        if not any(value is not None for value in values):
            return None
        return cls(job_id=job_id, fields={name: _text(value) for name, value in zip(FIELDS, values, strict=True)})

    @property
    def status(self) -> str:
        """RQ's word for where it is."""
        return self.fields["status"]

    @property
    def worker(self) -> str | None:
        """The name of the worker that took it up last."""
        return self.fields["worker_name"] or None

    @property
    def created_at(self) -> datetime | None:
        """When it was made."""
        return parse_time(self.fields["created_at"])

    @property
    def started_at(self) -> datetime | None:
        """When its last attempt began."""
        return parse_time(self.fields["started_at"])

    @property
    def ended_at(self) -> datetime | None:
        """When its last attempt ended."""
        return parse_time(self.fields["ended_at"])

    @property
    def limit(self) -> timedelta | None:
        """After what time a worker ends it; None for never, for which RQ has -1."""
        told = self.fields["timeout"]
        return timedelta(seconds=int(told)) if _is_number(told) else None

    @property
    def attempt(self) -> int:
        """Which attempt is under way, or comes next, from 1; of others' jobs it is only known that one has been."""
        first, left = self.fields[RETRIES_FIELD], self.fields["retries_left"]
        if _is_number(first) and _is_number(left):
            return max(int(first) - int(left), 0) + 1
        return 2 if self.started_at is not None and self.status in ("scheduled", "queued") else 1

    def call(self) -> Call | None:
        """What it calls, as far as its description tells; None where that is something else."""
        return read_call(self.fields["description"])

    def order_id(self, task: str) -> int | None:
        """The order that it is for, if it is ours: by the field that we wrote, else by its call of ``task``."""
        written = self.fields[ORDER_FIELD]
        if written:
            return order_of([int(written)], None) if _is_number(written) else None
        call = self.call()
        return call.order_id if call is not None and call.function == task else None

    def is_of(self, task: str) -> bool:
        """Whether it is a call of ``task``, whichever order that is for."""
        return bool(self.fields[ORDER_FIELD]) or ((call := self.call()) is not None and call.function == task)

    @property
    def enqueued_at(self) -> datetime | None:
        """When it was enqueued; RQ's own time for that is of the last attempt."""
        return parse_time(self.fields[ENQUEUED_AT_FIELD]) or self.created_at

    @property
    def actor(self) -> str | None:
        """Who enqueued it, if we did."""
        return self.fields[ACTOR_FIELD] or None


def read_call(description: str) -> Call | None:
    """Read a description that is the call of a function; None where it is none."""
    match = _CALL.fullmatch(description) if len(description) <= _LONGEST else None
    if match is None:
        return None
    arguments = _ARGUMENTS.fullmatch(match[2])
    if arguments is None:
        return Call(match[1], None)
    number, resume = arguments[1] or arguments[3], arguments[2] or arguments[4]
    return Call(match[1], order_of([int(number)], None), resume != "False")


def decode(job_id: str, job: Job | None, place: Place, *, task: str) -> LiveTask | ForeignMessage:
    """What one entry of the queue or of a registry is; anything that is not a job of ours becomes foreign."""
    if job is None:
        reason = "its job is gone: a worker passes over it"
        return ForeignMessage(name="nothing", reason=reason, state=place.state, task_id=job_id, position=place.position)
    if not job.is_of(task):
        call = job.call()
        return ForeignMessage(
            name=call.function if call else "undecodable",
            reason="another function" if call else "its description is no call, and what it calls is never unpickled",
            state=place.state,
            task_id=job_id,
            position=place.position,
        )
    state = place.state
    if state is TaskState.SCHEDULED and job.attempt > 1:
        state = TaskState.RETRYING
    return LiveTask(
        task_id=job_id,
        name=task,
        order_id=job.order_id(task),
        state=state,
        attempt=job.attempt,
        enqueued_at=job.enqueued_at,
        eta=place.due,
        actor=job.actor,
        position=place.position,
    )


def _text(value: bytes | None) -> str:
    return value.decode(errors="replace") if value is not None else ""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10
