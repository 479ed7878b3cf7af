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
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sitegenctl.adapters.calls import order_of, parse_time
from sitegenctl.adapters.json_values import number, text
from sitegenctl.domain.task import ForeignMessage, LiveTask, Publication, TaskState

ENQUEUED_AT_HEADER = "sitegenctl_enqueued_at"
ACTOR_HEADER = "sitegenctl_actor"


# No callbacks, no chain: what Celery puts behind the arguments of a task that stands alone.
_EMBED = json.dumps({"callbacks": None, "errbacks": None, "chain": None, "chord": None})

# Not json.loads: it looks at its options and guesses at the encoding for each message of a long queue.
_read_json = json.JSONDecoder().decode


class Place(NamedTuple):
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
    eta: datetime | None = None,
    retries: int = 0,
) -> str:
    """Encode a task as Celery's ``send_task`` does, to the byte but for ids and the place of origin.

    ``celery`` is the version to imitate: its major and minor number. ``headers`` are added to Celery's own.
    """
    encoder = Encoder(
        task_name=task_name, queue=queue, kwargs=kwargs, headers=headers, celery=celery, eta=eta, retries=retries
    )
    return encoder.encode(task_id, args)


class Encoder:
    """Encodes tasks that differ only in their ids and arguments; ``encode`` has the rest.

    All that is the same is encoded once: of many tasks, that is most of the time.
    """

    def __init__(
        self,
        *,
        task_name: str,
        queue: str,
        kwargs: Mapping[str, Any],
        headers: Mapping[str, Any],
        celery: tuple[int, int],
        eta: datetime | None = None,
        retries: int = 0,
    ) -> None:
        # What changed in the format: 5.4 counts replaced tasks, 5.7 leaves the results to the task's own setting.
        nesting = {"replaced_task_nesting": 0} if celery >= (5, 4) else {}
        # Nothing that anybody chose can be taken for one of these.
        body, task, args, tag = (f"{name}-{uuid.uuid4()}" for name in ("body", "task", "args", "tag"))
        message = {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": task_name,
                "id": task,
                "shadow": None,
                "eta": eta.isoformat() if eta is not None else None,
                "expires": None,
                "group": None,
                "group_index": None,
                "retries": retries,
                "timelimit": [None, None],
                "root_id": task,
                "parent_id": None,
                "argsrepr": args,
                "kwargsrepr": repr(kwargs),
                "origin": f"gen{os.getpid()}@{socket.gethostname()}",
                "ignore_result": None if celery >= (5, 7) else False,
                **nesting,
                "stamped_headers": None,
                "stamps": {},
                **headers,
            },
            "properties": {
                "correlation_id": task,
                "reply_to": str(uuid.uuid4()),  # one for each publisher, as Celery's are
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": tag,
            },
        }
        text = json.dumps(message)
        for marker, place in ((body, "{body}"), (task, "{task}"), (args, "{args}"), (tag, "{tag}")):
            text = text.replace(f'"{marker}"', f"\0{place}\0")
        # JSON has no NUL as it is: every other part is one of the places.
        self._parts = text.split("\0")
        self._kwargs = json.dumps(kwargs)

    def encode(self, task_id: str, args: Sequence[Any]) -> str:
        """The message of one task."""
        body = f"[{json.dumps(args)}, {self._kwargs}, {_EMBED}]"
        values = {
            "{body}": f'"{base64.b64encode(body.encode()).decode()}"',
            "{task}": json.dumps(task_id),
            "{args}": json.dumps(repr(args)),
            "{tag}": f'"{new_id()}"',
        }
        return "".join([values.get(part, part) for part in self._parts])


def new_id() -> str:
    """A random UUID, as Celery's ids are; ``uuid.uuid4`` takes three times as long, which counts for very many."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[ord(digits[16]) % 4]}{digits[17:20]}-{digits[20:]}"


def headers_of(publication: Publication) -> dict[str, str]:
    """What we add to Celery's own headers, as far as it is known."""
    headers = {}
    if publication.enqueued_at is not None:
        headers[ENQUEUED_AT_HEADER] = publication.enqueued_at.isoformat()
    if publication.actor is not None:
        headers[ACTOR_HEADER] = publication.actor
    return headers


@cache
def installed_celery() -> tuple[int, int]:
    """Major and minor version of the Celery that is installed, without importing it."""
    # Importing it takes longer than reading the workers' answers, for which nothing is published.
    from importlib.metadata import version

    major, minor, *_ = version("celery").split(".")
    return int(major), int(minor)


def decode(raw: bytes | str, place: Place, *, task_name: str, now: datetime) -> LiveTask | ForeignMessage:
    """Decode one message of a queue's list; anything that is not a task of ours becomes foreign."""
    message = envelope(raw)
    if message is None:
        return _foreign("undecodable", "not a message of Celery's", place)
    return decode_message(message, place, task_name=task_name, now=now)


def decode_unacked(raw: bytes | str, place: Place, *, task_name: str, now: datetime) -> LiveTask | ForeignMessage:
    """Decode one value of the ``unacked`` hash: ``[message, exchange, routing_key]``."""
    message = unacked_envelope(raw)
    if message is None:
        return _foreign("undecodable", "not a message of Celery's", place)
    return decode_message(message, place, task_name=task_name, now=now)


def envelope(raw: bytes | str) -> dict[str, Any] | None:
    """Kombu's envelope in a message of a list; None when it is none."""
    message = _json(raw)
    return message if isinstance(message, dict) else None


def unacked_envelope(raw: bytes | str) -> dict[str, Any] | None:
    """Kombu's envelope in a value of ``unacked``; None when there is none."""
    delivery = _json(raw)
    message = delivery[0] if isinstance(delivery, list) and delivery else None
    return message if isinstance(message, dict) else None


def task_id_of(message: Mapping[str, Any]) -> str | None:
    """The id of the task in kombu's envelope."""
    headers = message.get("headers")
    task_id = headers.get("id") if isinstance(headers, dict) else None
    return task_id if isinstance(task_id, str) else None


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
    attempt = max(number(headers.get("retries")) or 0, 0) + 1
    due = parse_time(headers.get("eta"))
    state = place.state
    if due is not None and state is TaskState.QUEUED and due > now:
        state = TaskState.RETRYING if attempt > 1 else TaskState.SCHEDULED
    return LiveTask(
        task_id=task_id,
        name=task_name,
        order_id=order_of(*arguments),
        state=state,
        attempt=attempt,
        enqueued_at=parse_time(headers.get(ENQUEUED_AT_HEADER)),
        eta=due,
        actor=text(headers.get(ACTOR_HEADER)),
        position=place.position,
    )


def resume_in(raw: bytes) -> bool:
    """What a message says of whether to resume; the task does unless it is told not to."""
    message = envelope(raw)
    args, kwargs = (_arguments(message) if message is not None else None) or ((), {})
    if isinstance(kwargs, dict) and "resume" in kwargs:
        return kwargs["resume"] is not False
    return not (isinstance(args, list) and len(args) > 1 and args[1] is False)


def _arguments(message: Mapping[str, Any]) -> tuple[Any, Any] | None:
    body = message.get("body")
    properties = message.get("properties")
    encoding = properties.get("body_encoding") if isinstance(properties, dict) else None
    try:
        decoded = _json(binascii.a2b_base64(body or "") if encoding == "base64" else body or "")
        return decoded[0], decoded[1]
    except (ValueError, TypeError, LookupError):
        return None


def _json(raw: Any) -> Any:
    """What the JSON text says; None for what is none."""
    try:
        return _read_json(raw.decode() if isinstance(raw, bytes) else raw)
    except (ValueError, TypeError, RecursionError):
        return None


def _foreign(name: str, reason: str, place: Place, task_id: str | None = None) -> ForeignMessage:
    return ForeignMessage(name=name, reason=reason, state=place.state, task_id=task_id, position=place.position)
