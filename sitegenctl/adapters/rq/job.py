"""RQ's jobs as they are in Redis: which order a job is for, and how far it is, without ever trusting it.

A job's ``data``, ``meta`` and result are pickles, which are never loaded: a pickle can run anything. So published jobs
carry their facts a second time, in plain fields of the job's hash, which RQ leaves alone. Other publishers' jobs are
recognised by their description alone, if it is the call that RQ writes there: ``app.module.function(42, resume=True)``.
A job with another description may be of our task.
Source: rq/job.py, get_call_string() in rq/utils.py, 1.15 to 3.0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sitegenctl.adapters.broker.json_values import is_encodable
from sitegenctl.adapters.broker.task_args import order_of, parse_time
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.domain.queue.task import ForeignMessage, LiveTask, TaskState

ORDER_FIELD = "sitegenctl_order_id"
ENQUEUED_AT_FIELD = "sitegenctl_enqueued_at"
ACTOR_FIELD = "sitegenctl_actor"
RETRIES_FIELD = "sitegenctl_retries"

#: The fields of a job's hash that are read: never ``data``, ``meta`` or ``result``.
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
    "dependency_ids",
    "dependency_id",
    "allow_dependency_failures",
    ORDER_FIELD,
    ENQUEUED_AT_FIELD,
    ACTOR_FIELD,
    RETRIES_FIELD,
)

#: The states of a job that no worker will run.
OVER = frozenset({"finished", "failed", "stopped", "canceled"})

#: The states of a job that has not begun its next attempt: then its start time is that of the last one.
WAITING = frozenset({"", "created", "queued", "scheduled", "deferred", "ready"})

#: The time limit of a job without one: too far away for anything to be concluded from it.
UNLIMITED = timedelta(days=36_525)

# Before 2 a job's id could hold a colon, too.
_EXECUTION = re.compile(r":[0-9a-f]{32}$")

# RQ cuts each argument at 75 characters, and does not limit their number.
_MAX_DESCRIPTION = 10_000

_CALL = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)\((.*)\)", re.DOTALL)
# Parts of arguments: a text, a bracket, a comma, or anything else. An unclosed quote matches none.
_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[(\[{]|[)\]}]|,|[^'"()\[\]{},]+""", re.DOTALL)
_ARGUMENT = re.compile(r"\s*(?:([A-Za-z_][A-Za-z0-9_]*)=)?(.*?)\s*", re.DOTALL)
# A whole number, as text too, or as a float.
_WHOLE = re.compile(r"""([+-]?\d+)(?:\.0*)?|(['"])\s*([+-]?\d+)\s*\2""", re.ASCII)
# No order id is longer, and Python refuses to read very long ones.
_MAX_DIGITS = 20


class Call(NamedTuple):
    """A call in a description.

    ``order_id`` is None for a number that no order can have, and where it ``is_unreadable``: no whole number.
    """

    function: str
    order_id: int | None
    is_unreadable: bool = False


class Started(NamedTuple):
    """One entry of the registry of jobs in work.

    ``promised_until`` is when the worker's next heartbeat is due; None where it is no time.
    """

    member: bytes
    score: bytes
    promised_until: datetime | None

    @property
    def job_id(self) -> str:
        """The id of its job."""
        return job_in_work(self.member)

    @property
    def delivery(self) -> str:
        """The member as text."""
        return job_id_of(self.member)

    def is_promised(self, now: datetime) -> bool:
        """Whether the next heartbeat is not overdue, so that the worker may well be alive."""
        return self.promised_until is not None and self.promised_until >= now


class Place(NamedTuple):
    """Where a job was found: its state there, when it is due, and its place in the order of delivery.

    ``reason`` is why a deferred job is orphaned.
    ``entry`` is its entry of the registry of jobs in work, and ``taken_up_at`` when it was taken up, if that registry
    knows. A job on its way from the queue to that registry has none.
    """

    state: TaskState
    due: datetime | None = None
    position: int | None = None
    entry: Started | None = None
    taken_up_at: datetime | None = None
    reason: str | None = None

    @property
    def delivery(self) -> str | None:
        """The member of that entry."""
        return self.entry.delivery if self.entry is not None else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One job; a field that it lacks is empty."""

    job_id: str
    fields: Mapping[str, str]

    @classmethod
    def of(cls, job_id: str, values: Sequence[bytes | None]) -> Job | None:
        """The job with these values of ``FIELDS``; None where it does not exist."""
        if not any(value is not None for value in values):
            return None
        texts = ((value or b"").decode(errors="replace") for value in values)
        return cls(job_id=job_id, fields=dict(zip(FIELDS, texts, strict=True)))

    @property
    def status(self) -> str:
        """RQ's state of it."""
        return self.fields["status"]

    @property
    def worker(self) -> str | None:
        """The worker that took it up last."""
        return self.fields["worker_name"] or None

    @property
    def created_at(self) -> datetime | None:
        """When it was created."""
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
        """Its time limit; None for no limit, for which RQ has -1."""
        seconds = self.fields["timeout"]
        return timedelta(seconds=int(seconds)) if _is_number(seconds) else None

    @property
    def time_limit(self) -> timedelta | None:
        """Likewise; ``UNLIMITED`` for no limit, and None where it is not known."""
        return UNLIMITED if self.fields["timeout"].startswith("-") else self.limit or None

    def taken_up_at(self, place: Place) -> datetime | None:
        """When it was taken up at this place, if that is known.

        The job has the start of its last attempt, which may be at another place: the later time counts.
        """
        began = self.started_at if self.status not in WAITING else None
        return max((time for time in (place.taken_up_at, began) if time is not None), default=None)

    @property
    def attempt(self) -> int:
        """The current or next attempt, from 1; of other publishers' jobs only whether it is the first."""
        first, left = self.fields[RETRIES_FIELD], self.fields["retries_left"]
        if _is_number(first) and _is_number(left):
            return max(int(first) - int(left), 0) + 1
        return 2 if self.started_at is not None and self.status in ("scheduled", "queued") else 1

    def call(self) -> Call | None:
        """The call in its description; None where that is something else."""
        return read_call(self.fields["description"])

    def order_id(self, task: str) -> int | None:
        """The order that it is for, if it is ours: by our own field, else by its call of ``task``."""
        written = self.fields[ORDER_FIELD]
        if written:
            return _order_of(written) if written.isascii() and written.isdigit() else None
        call = self.call()
        return call.order_id if call is not None and call.function == task else None

    @property
    def resumes(self) -> bool:
        """Whether it continues after the last finished stage, by the call in its description."""
        description = self.fields["description"]
        return "resume=False" not in description and not description.endswith(", False)")

    def name(self, task: str) -> str | None:
        """The function that it calls, ``task`` if our own field is there; None where that cannot be read."""
        if self.fields[ORDER_FIELD]:
            return task
        call = self.call()
        return call.function if call is not None else None

    def is_of(self, task: str) -> bool:
        """Whether it is a call of ``task`` for any order."""
        return self.name(task) == task

    def why_unattributed(self, task: str) -> str | None:
        """Why it may be a call of ``task`` for an order that cannot be read; None where that is certain."""
        if self.fields[ORDER_FIELD]:
            return None
        call = self.call()
        if call is None:
            return "its description is no call, and what it calls is never unpickled"
        if call.function == task:
            return "a call of our task; its description does not show for which order" if call.is_unreadable else None
        if call.function.rpartition(".")[2] == task.rpartition(".")[2]:
            return "a function with the name of our task, from another module"
        return None

    def oddities(self) -> Iterator[str]:
        """Fields with values that RQ never writes, which count as absent."""
        for name in ("created_at", "started_at", "ended_at", ENQUEUED_AT_FIELD):
            if self.fields[name] and parse_time(self.fields[name]) is None:
                yield f"{name} of a job"
        for name in ("timeout", "retries_left", RETRIES_FIELD):
            if self.fields[name] and not _is_number(self.fields[name].removeprefix("-")):
                yield f"{name} of a job"

    @property
    def dependencies(self) -> tuple[str, ...]:
        """The ids of the jobs that must end before it is queued; empty where they cannot be read."""
        try:
            ids = json.loads(self.fields["dependency_ids"] or "null")
        except (ValueError, RecursionError):
            return ()
        if ids is None and self.fields["dependency_id"]:
            ids = [self.fields["dependency_id"]]
        is_readable = isinstance(ids, list) and all(isinstance(each, str) and is_encodable(each) for each in ids)
        return tuple(ids) if is_readable else ()

    def is_ended_by(self, dependency: Job) -> bool:
        """Whether this state of a dependency means that RQ never queues the job."""
        is_tolerated = dependency.status == "failed" and self.fields["allow_dependency_failures"] == "1"
        return dependency.status in OVER - {"finished"} and not is_tolerated

    @property
    def enqueued_at(self) -> datetime | None:
        """When it was first enqueued; RQ's own time is that of the last attempt."""
        return parse_time(self.fields[ENQUEUED_AT_FIELD]) or self.created_at

    @property
    def actor(self) -> str | None:
        """The operator who enqueued it, if sitegenctl did."""
        return self.fields[ACTOR_FIELD] or None


def job_id_of(member: bytes) -> str:
    """The id of the job in a member of a list or registry."""
    return member.decode(errors="replace")


def is_execution(member: str) -> bool:
    """Whether a member of the registry of jobs in work names an execution (RQ 2)."""
    return _EXECUTION.search(member) is not None


def job_in_work(member: bytes) -> str:
    """The id of the job in a member of the registry of jobs in work, to which RQ 2 adds the execution's."""
    return _EXECUTION.sub("", job_id_of(member))


def read_call(description: str) -> Call | None:
    """Read a description that is a call; None for another one."""
    match = _CALL.fullmatch(description) if len(description) <= _MAX_DESCRIPTION else None
    if match is None:
        return None
    parts = [part for argument in _arguments(match[2]) if (part := _ARGUMENT.fullmatch(argument)) is not None]
    named = {part[1]: part[2] for part in parts if part[1]}
    positional = [part[2] for part in parts if not part[1]]
    number = _WHOLE.fullmatch(positional[0] if positional else named.get("order_id", ""))
    if number is None:
        return Call(match[1], None, is_unreadable=True)
    return Call(match[1], _order_of(number[1] or number[3]))


def _arguments(text: str) -> Iterator[str]:
    """The arguments up to the first incomplete one: RQ cuts long ones."""
    begin = at = depth = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            return
        if token[0] in "([{":
            depth += 1
        elif token[0] in ")]}":
            depth -= 1
        elif token[0] == "," and depth == 0:
            yield text[begin:at]
            begin = token.end()
        at = token.end()
    if depth == 0 and text[begin:].strip():
        yield text[begin:]


def _order_of(digits: str) -> int | None:
    return order_of([int(digits)], None) if len(digits) <= _MAX_DIGITS else None


def decode(job_id: str, job: Job | None, place: Place, options: RqOptions) -> LiveTask | ForeignMessage:
    """Decode one entry of the queue or of a registry; anything but a job of ours becomes foreign."""
    task = options.task
    if job is None:
        delivered = place.state is TaskState.UNACKED
        return ForeignMessage(
            name="nothing",
            reason="its job was deleted while it ran" if delivered else "its job no longer exists: workers skip it",
            state=place.state,
            task_id=job_id,
            position=place.position,
            may_be_ours=delivered,
        )
    unattributed = job.why_unattributed(task)
    if unattributed is not None or not job.is_of(task):
        return ForeignMessage(
            name=job.name(task) or "undecodable",
            reason=unattributed or "another function",
            state=place.state,
            task_id=job_id,
            position=place.position,
            may_be_ours=unattributed is not None and job.fields["origin"] in ("", options.queue),
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
        delivered_at=job.taken_up_at(place) if state is TaskState.UNACKED else None,
        delivery=place.delivery,
        limit=job.time_limit,
        reason=place.reason,
        resume=job.resumes,
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10
