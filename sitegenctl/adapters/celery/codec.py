"""Celery's messages in Redis: encoded as Celery does, decoded without ever trusting them.

Format: kombu's JSON envelope with a base64 body of ``[args, kwargs, embed]`` (Celery's message protocol 2,
https://docs.celeryq.dev/en/stable/internals/protocol.html). Nothing is ever unpickled: a message that is not
JSON is shown as foreign.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any, NamedTuple

from sitegenctl.adapters.broker.json_values import fitting, mapping, moment, number, sequence, span, text
from sitegenctl.adapters.broker.task_args import UnreadableOrder, order_of, parse_time, read_order
from sitegenctl.adapters.celery.bodies import UnreadableBody, contained_calls, may_name, names, parse, unpack
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.queue.task import ForeignMessage, LiveTask, Publication, TaskState

Item = LiveTask | ForeignMessage

ENQUEUED_AT_HEADER = "sitegenctl_enqueued_at"
ACTOR_HEADER = "sitegenctl_actor"

#: Why a message that can be read is foreign.
OTHER = "another task"

# No callbacks, no chain: what Celery puts behind the arguments of a task that stands alone.
_EMBED = json.dumps({"callbacks": None, "errbacks": None, "chain": None, "chord": None})

# Not json.loads: it looks at its options and guesses at the encoding for each message of a long queue.
_read_json = json.JSONDecoder().decode


class Place(NamedTuple):
    """Where a message was found: its state if it has no future ETA, and its place in the order of delivery.

    Of one that was delivered: the key of the delivery in ``unacked``, and when that was.
    """

    state: TaskState
    position: int | None = None
    delivery: str | None = None
    delivered_at: datetime | None = None


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
    """Return the headers that sitegenctl adds to Celery's own."""
    return {ENQUEUED_AT_HEADER: publication.enqueued_at.isoformat(), ACTOR_HEADER: publication.actor}


@cache
def installed_celery() -> tuple[int, int]:
    """Major and minor version of the Celery that is installed, without importing it."""
    # Importing it takes longer than reading the workers' answers, for which nothing is published.
    from importlib.metadata import version

    major, minor, *_ = version("celery").split(".")
    return int(major), int(minor)


def decode(
    raw: bytes | str, place: Place, *, task_name: str, now: datetime, skipped: Counter[str] | None = None
) -> list[Item]:
    """Decode one message of a queue's list: a task of ours, the calls of it that another carries, or what else it is.

    ``now`` is the broker's time. There is always at least one item; more than one where calls are carried. Values that
    do not fit are counted in ``skipped``, by what is wrong with them.
    """
    return _decoded(raw, envelope(raw), place, task_name, now, skipped)


def decode_unacked(
    raw: bytes | str, place: Place, *, task_name: str, now: datetime, skipped: Counter[str] | None = None
) -> list[Item]:
    """Decode one value of the ``unacked`` hash likewise: ``[message, exchange, routing_key]``."""
    return _decoded(raw, unacked_envelope(raw), place, task_name, now, skipped)


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
    """The id of the task in kombu's envelope, as ``decode`` has it."""
    headers = mapping(message.get("headers"))
    if "id" in headers:
        return text(headers["id"])
    try:
        return text(mapping(parse(message, unpack(message))).get("id"))  # protocol 1
    except UnreadableBody:
        return None


def decode_message(
    message: Mapping[str, Any],
    place: Place,
    *,
    task_name: str,
    now: datetime,
    raw: bytes | str = b"",
    skipped: Counter[str] | None = None,
) -> list[Item]:
    """Decode kombu's envelope; ``raw`` is what it came in, searched for our task's name where it cannot be read."""
    skipped = skipped if skipped is not None else Counter()
    headers = mapping(message.get("headers"))
    body, named, why = None, names(task_name, raw), None
    try:
        data = unpack(message)
        named = named or may_name(task_name, data)
        if not named and isinstance(name := headers.get("task"), str) and name != task_name:
            return [_foreign(text(name) or "", OTHER, place, text(headers.get("id")))]
        body = parse(message, data)
        named = named and (names(task_name, raw) or names(task_name, data) or _names_when_read(task_name, body))
    except UnreadableBody as exc:
        why = str(exc)
    if "task" not in headers:
        headers = {**mapping(body), **headers}  # protocol 1
    name, task_id = text(headers.get("task")), text(headers.get("id"))
    named = named or name == task_name
    if name is None or task_id is None:
        reason = why or ("its id is not a text" if name else "it names no task")
        return [_foreign(name or "undecodable", reason, place, task_id, may_be_ours=named)]
    if place.state is TaskState.QUEUED and (expired := _expiry(headers, now)) is not None:
        return [_foreign(name, f"expired {describe_age(now - expired)} ago", place, task_id)]
    parts = _parts(body)
    if parts is None:
        # A chain, a map or a chord of Celery's own may hold anything.
        may_be_ours = named or name.startswith("celery.")
        return [_foreign(name, why or "its body holds no arguments", place, task_id, may_be_ours=may_be_ours)]
    args, kwargs, embed = parts
    carrier = _task(name, task_id, headers, place, now, skipped)
    items: list[Item] = []
    if name == task_name:
        items.append(_ours(carrier, args, kwargs, place))
    if named:
        items += _carried(carrier, args, kwargs, embed, place, task_name)
    if not items:
        reason = "it names our task in a way that cannot be read" if named else OTHER
        return [_foreign(name, reason, place, task_id, may_be_ours=named)]
    return items


def limit_of(timelimit: Any) -> timedelta | None:
    """The hard limit of the two that a message has; None for none."""
    hard, *_ = (*sequence(timelimit), None)
    limit = span(hard)
    return limit if limit is not None and limit > timedelta(0) else None


def _decoded(
    raw: bytes | str,
    message: Mapping[str, Any] | None,
    place: Place,
    task_name: str,
    now: datetime,
    skipped: Counter[str] | None,
) -> list[Item]:
    if message is None:
        return [_foreign("undecodable", "not a message of Celery's", place, may_be_ours=names(task_name, raw))]
    return decode_message(message, place, task_name=task_name, now=now, raw=raw, skipped=skipped)


def _task(
    name: str, task_id: str, headers: Mapping[str, Any], place: Place, now: datetime, skipped: Counter[str]
) -> LiveTask:
    read = partial(fitting, skipped, "message")
    if task_id != headers.get("id"):
        skipped["message: an id with characters that are no text"] += 1
    attempt = max(read("retries", number, headers.get("retries")) or 0, 0) + 1
    due = read("eta", parse_time, headers.get("eta"))
    state = place.state
    if due is not None and state is TaskState.QUEUED and due > now:
        state = TaskState.RETRYING if attempt > 1 else TaskState.SCHEDULED
    return LiveTask(
        task_id=task_id,
        name=name,
        order_id=None,
        state=state,
        attempt=attempt,
        enqueued_at=read(ENQUEUED_AT_HEADER, parse_time, headers.get(ENQUEUED_AT_HEADER)),
        eta=due,
        actor=read(ACTOR_HEADER, text, headers.get(ACTOR_HEADER)),
        position=place.position,
        delivered_at=place.delivered_at,
        delivery=place.delivery,
        limit=limit_of(headers.get("timelimit")),
    )


def _ours(task: LiveTask, args: Any, kwargs: Any, place: Place) -> Item:
    try:
        return replace(task, order_id=read_order(args, kwargs))
    except UnreadableOrder:
        return _foreign(task.name, "its arguments name no order", place, task.task_id, may_be_ours=True)


def _carried(carrier: LiveTask, args: Any, kwargs: Any, embed: Any, place: Place, task_name: str) -> Iterator[Item]:
    """Calls of our task that this one carries: of each, what the carrier's message says, and an id."""
    try:
        calls = list(contained_calls(carrier.name, args, kwargs, embed, task_name, task_id=carrier.task_id))
    except RecursionError:
        yield _foreign(carrier.name, "nested too deeply to be read", place, carrier.task_id, may_be_ours=True)
        return
    for count, call in enumerate(calls, 1):
        task = replace(
            carrier,
            task_id=call.task_id or f"{carrier.task_id}#{count}",
            name=task_name,
            part_of=carrier.name,
            carrier=carrier.task_id,
        )
        if call.is_complete:
            yield _ours(task, call.args, call.kwargs, place)
        elif (order_id := order_of((), call.kwargs)) is not None:
            yield replace(task, order_id=order_id)
        else:
            reason = f"part of {carrier.name}; the step before decides its order"
            yield _foreign(task_name, reason, place, task.task_id, may_be_ours=True)


def _expiry(headers: Mapping[str, Any], now: datetime) -> datetime | None:
    """When the task expired, if it has."""
    value = headers.get("expires")
    expires = parse_time(value) or moment(value)
    return expires if expires is not None and expires <= now else None


def _parts(body: Any) -> tuple[Any, Any, Any] | None:
    """Arguments, and what Celery puts behind them, of either protocol; None for anything else."""
    if isinstance(body, dict):
        if "task" not in body and "args" not in body:
            return None
        behind = {name: body.get(name) for name in ("callbacks", "errbacks", "chord")}
        return body.get("args", ()), body.get("kwargs", {}), behind
    return (body[0], body[1], body[2:]) if isinstance(body, list) and len(body) > 1 else None


def _names_when_read(task_name: str, body: Any) -> bool:
    """Whether the name is in the body, however it was escaped there."""
    try:
        return names(task_name, json.dumps(body))
    except RecursionError:
        return True


def _json(raw: Any) -> Any:
    """What the JSON text says; None for what is none."""
    try:
        return _read_json(raw.decode() if isinstance(raw, bytes) else raw)
    except (ValueError, TypeError, RecursionError):
        return None


def _foreign(
    name: str, reason: str, place: Place, task_id: str | None = None, *, may_be_ours: bool = False
) -> ForeignMessage:
    return ForeignMessage(
        name=name,
        reason=reason,
        state=place.state,
        task_id=task_id,
        position=place.position,
        may_be_ours=may_be_ours,
    )
