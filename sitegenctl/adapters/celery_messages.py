"""Celery's messages in Redis: encoded as Celery does, decoded without ever trusting them.

Format: kombu's JSON envelope with a base64 body of ``[args, kwargs, embed]`` (Celery's message protocol 2,
https://docs.celeryq.dev/en/stable/internals/protocol.html). Nothing is ever unpickled: a message that is not
JSON is shown as foreign.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Any

from sitegenctl.domain.task import ForeignMessage, LiveTask, TaskState

ENQUEUED_AT_HEADER = "sitegenctl_enqueued_at"
ACTOR_HEADER = "sitegenctl_actor"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a message was found: its state if it has no future ETA, and its place in the order of delivery."""

    state: TaskState
    position: int | None = None


def encode(
    *,
    task_name: str,
    queue: str,
    task_id: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    headers: Mapping[str, Any],
    celery: tuple[int, int],
) -> str:
    """Encode a task as Celery's ``send_task`` does, to the byte but for ids and the place of origin.

    ``celery`` is the version to imitate: its major and minor number. ``headers`` are added to Celery's own.
    """
    body = [args, kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    # What changed in the format: 5.4 counts replaced tasks, 5.7 leaves the results to the task's own setting.
    nesting = {"replaced_task_nesting": 0} if celery >= (5, 4) else {}
    message = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": task_name,
            "id": task_id,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": task_id,
            "parent_id": None,
            "argsrepr": repr(args),
            "kwargsrepr": repr(kwargs),
            "origin": f"gen{os.getpid()}@{socket.gethostname()}",
            "ignore_result": None if celery >= (5, 7) else False,
            **nesting,
            "stamped_headers": None,
            "stamps": {},
            **headers,
        },
        "properties": {
            "correlation_id": task_id,
            "reply_to": str(uuid.uuid4()),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }
    return json.dumps(message)


@cache
def installed_celery() -> tuple[int, int]:
    """Major and minor version of the Celery that is installed, without importing it."""
    major, minor, *_ = version("celery").split(".")
    return int(major), int(minor)


def decode(raw: bytes | str, place: Place, *, task_name: str, now: datetime) -> LiveTask | ForeignMessage:
    """Decode one message of a queue's list; anything that is not a task of ours becomes foreign."""
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        return _foreign("undecodable", "not a message of Celery's", place)
    return decode_message(message, place, task_name=task_name, now=now)


def decode_unacked(raw: bytes | str, place: Place, *, task_name: str, now: datetime) -> LiveTask | ForeignMessage:
    """Decode one value of the ``unacked`` hash: ``[message, exchange, routing_key]``."""
    try:
        message = json.loads(raw)[0]
    except (ValueError, RecursionError, IndexError, KeyError, TypeError):
        message = None
    if not isinstance(message, dict):
        return _foreign("undecodable", "not a message of Celery's", place)
    return decode_message(message, place, task_name=task_name, now=now)


def decode_message(
    message: Mapping[str, Any], place: Place, *, task_name: str, now: datetime
) -> LiveTask | ForeignMessage:
    """Decode kombu's envelope."""
    headers = message.get("headers")
    if not isinstance(headers, dict):
        return _foreign("undecodable", "it has no headers", place)
    name = headers.get("task")
    task_id = headers.get("id")
    if not isinstance(name, str) or not isinstance(task_id, str):
        return _foreign("undecodable", "it names no task", place)
    if name != task_name:
        return _foreign(name, "another task", place, task_id=task_id)
    content_type = message.get("content-type")
    if content_type != "application/json":
        return _foreign(name, f"serialized as {content_type}, not JSON", place, task_id=task_id)
    arguments = _arguments(message)
    if arguments is None:
        return _foreign(name, "its arguments can't be decoded", place, task_id=task_id)
    retries = headers.get("retries")
    attempt = retries + 1 if isinstance(retries, int) else 1
    eta = parse_time(headers.get("eta"))
    state = place.state
    if state is TaskState.QUEUED and eta is not None and eta > now:
        state = TaskState.RETRYING if attempt > 1 else TaskState.SCHEDULED
    actor = headers.get(ACTOR_HEADER)
    return LiveTask(
        task_id=task_id,
        name=name,
        order_id=order_of(*arguments),
        state=state,
        attempt=attempt,
        enqueued_at=parse_time(headers.get(ENQUEUED_AT_HEADER)),
        eta=eta,
        actor=actor if isinstance(actor, str) else None,
        position=place.position,
    )


def order_of(args: Any, kwargs: Any) -> int | None:
    """The order that a call of ``generate_site_task(order_id, resume=True)`` is for."""
    value = args[0] if isinstance(args, list | tuple) and args else None
    if value is None and isinstance(kwargs, dict):
        value = kwargs.get("order_id")
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def parse_time(text: Any) -> datetime | None:
    """Read an ISO 8601 time, UTC when it names no zone; None when it is none."""
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _arguments(message: Mapping[str, Any]) -> tuple[Any, Any] | None:
    body = message.get("body")
    properties = message.get("properties")
    encoding = properties.get("body_encoding") if isinstance(properties, dict) else None
    try:
        if encoding == "base64":
            body = base64.b64decode(body or "")
        decoded = json.loads(body or "")
        return decoded[0], decoded[1]
    except (ValueError, TypeError, IndexError, KeyError, RecursionError, binascii.Error):
        return None


def _foreign(name: str, reason: str, place: Place, task_id: str | None = None) -> ForeignMessage:
    return ForeignMessage(name=name, reason=reason, state=place.state, task_id=task_id, position=place.position)
