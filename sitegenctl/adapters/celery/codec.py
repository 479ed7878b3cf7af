"""Celery's messages in Redis: encoded as Celery does, decoded without ever trusting them.

Format: kombu's JSON envelope with a body, as text or base64 and perhaps compressed, of ``[args, kwargs, embed]``
(Celery's message protocol 2, https://docs.celeryq.dev/en/stable/internals/protocol.html) or, in protocol 1, of one
object with everything. Chains, chords, groups and maps carry tasks as signatures: ``{"task": name, "args": …,
"kwargs": …, "options": {"task_id": …}, "immutable": …}``. Nothing is ever unpickled: a message that is not JSON is
shown as foreign.
Source: kombu/message.py and compression.py, celery/canvas.py and app/builtins.py, 5.3 and 5.7.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import socket
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from sitegenctl.adapters.broker.json_values import fitting, mapping, moment, number, sequence, text, time_limit
from sitegenctl.adapters.broker.task_args import UnreadableOrder, order_of, parse_time, read_order, resume_of
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.queue.task import ForeignMessage, LiveTask, Publication, TaskState

Item = LiveTask | ForeignMessage

ENQUEUED_AT_HEADER = "sitegenctl_enqueued_at"
ACTOR_HEADER = "sitegenctl_actor"

#: What Celery puts behind the arguments of a task without callbacks and chains.
EMBED = json.dumps({"callbacks": None, "errbacks": None, "chain": None, "chord": None})


#: Parses JSON; raises ``ValueError``, or ``RecursionError`` for what is nested too deeply.
Parse = Callable[[bytes | str], Any]

#: Bytes that a body may have once it is decompressed.
MAX_BODY = 16 * 1024 * 1024

# Memory that decompressing may take; xz's largest preset takes 65 MB.
_LZMA_MEMORY = 100_000_000

# Values of kombu's header, and its names for them. Its "gzip" is zlib's format; both are accepted.
_ZLIB = frozenset({"application/x-gzip", "application/gzip", "gzip", "application/zlib", "application/x-zlib", "zlib"})
_BZIP2 = frozenset({"application/x-bz2", "application/x-bzip2", "bzip2", "bzip", "bz2"})
_LZMA = frozenset({"application/x-lzma", "lzma", "application/x-xz", "xz"})

_MAPS = ("celery.map", "celery.starmap", "celery.chunks")

_decode = json.JSONDecoder().decode


def parse_json(raw: bytes | str) -> Any:
    """Parse JSON as workers do: as UTF-8, whatever content-encoding says."""
    # Not json.loads, which guesses the encoding of every message.
    return _decode(raw.decode() if isinstance(raw, bytes) else raw)


class Place(NamedTuple):
    """Where a message was found: its state unless it has a future ETA, and its place in the order of delivery.

    Of a delivered message: the key of the delivery in ``unacked``, and its time.
    """

    state: TaskState
    position: int | None = None
    delivery: str | None = None
    delivered_at: datetime | None = None


def encode_messages(publications: Iterable[Publication], *, task_name: str, queue: str) -> list[str]:
    """Encode tasks as the installed Celery's ``send_task`` does: the same to the byte, except for ids and origin."""
    messages: list[str] = []
    for each in publications:
        kwargs = {"resume": each.resume}
        headers = ((ENQUEUED_AT_HEADER, each.enqueued_at.isoformat()), (ACTOR_HEADER, each.actor))
        body = f"[{json.dumps([each.order_id])}, {json.dumps(kwargs)}, {EMBED}]"
        values = {
            "{body}": f'"{base64.b64encode(body.encode()).decode()}"',
            "{task}": json.dumps(each.task_id),
            "{args}": json.dumps(repr([each.order_id])),
            "{tag}": f'"{new_id()}"',
            "{eta}": json.dumps(each.eta.isoformat() if each.eta is not None else None),
            "{retries}": str(each.attempt - 1),
        }
        parts = _template(task_name, queue, repr(kwargs), headers)
        messages.append("".join([values.get(part, part) for part in parts]))
    return messages


@cache
def _celery_version() -> tuple[int, int]:
    """The installed Celery, from its source: importing importlib.metadata takes longer than publishing."""
    spec = find_spec("celery")
    source = Path(spec.origin).read_text("utf-8") if spec is not None and spec.origin is not None else ""
    if (written := re.search(r"^__version__ = ['\"](\d+)\.(\d+)", source, re.MULTILINE)) is not None:
        return int(written[1]), int(written[2])
    from importlib.metadata import version

    major, minor, *_ = version("celery").split(".")
    return int(major), int(minor)


@lru_cache(maxsize=16)
def _template(task_name: str, queue: str, kwargsrepr: str, headers: tuple[tuple[str, str], ...]) -> list[str]:
    """The parts of a message between its slots: what many tasks share is encoded once, which takes most of the time."""
    celery = _celery_version()
    # Changes of the format: 5.4 counts replaced tasks, 5.7 leaves the results to the task's own setting.
    nesting = {"replaced_task_nesting": 0} if celery >= (5, 4) else {}
    # Random, so that no value can be mistaken for one of them.
    slots = ("body", "task", "args", "tag", "eta", "retries")
    body, task, args, tag, eta, retries = markers = [f"{name}-{uuid.uuid4()}" for name in slots]
    message = {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": task_name,
            "id": task,
            "shadow": None,
            "eta": eta,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": retries,
            "timelimit": [None, None],
            "root_id": task,
            "parent_id": None,
            "argsrepr": args,
            "kwargsrepr": kwargsrepr,
            "origin": f"gen{os.getpid()}@{socket.gethostname()}",
            "ignore_result": None if celery >= (5, 7) else False,
            **nesting,
            "stamped_headers": None,
            "stamps": {},
            **dict(headers),
        },
        "properties": {
            "correlation_id": task,
            "reply_to": str(uuid.uuid4()),  # one per publisher, as Celery's are
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": tag,
        },
    }
    template = json.dumps(message)
    for marker, slot in zip(markers, slots, strict=True):
        template = template.replace(f'"{marker}"', f"\0{{{slot}}}\0")
    # JSON contains no raw NUL: every other part is a slot.
    return template.split("\0")


def new_id() -> str:
    """A random UUID, as Celery's ids are; ``uuid.uuid4`` takes three times as long."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[ord(digits[16]) % 4]}{digits[17:20]}-{digits[20:]}"


def envelope(raw: bytes | str, parse: Parse = parse_json, *, unacked: bool = False) -> dict[str, Any] | None:
    """Kombu's envelope in a list entry, or in a value of ``unacked``; None if it contains none."""
    try:
        message = parse(raw)
    except (ValueError, TypeError, RecursionError):
        return None
    if unacked:  # [message, exchange, routing_key]
        message = message[0] if isinstance(message, list) and message else None
    return message if isinstance(message, dict) else None


def task_id_of(message: Mapping[str, Any] | None) -> str | None:
    """The id of the task in kombu's envelope, as ``Decoder`` has it."""
    if message is None:
        return None
    headers = mapping(message.get("headers"))
    if "id" in headers:
        return text(headers["id"])
    try:
        return text(mapping(parse_body(message, unpack(message))).get("id"))  # protocol 1
    except UnreadableBody:
        return None


@dataclass(frozen=True)
class Decoder:
    """Decodes messages of a queue: tasks of ours, the calls of them that others carry, and foreign messages.

    ``now`` is the broker's time. Values that do not fit are counted in ``skipped``, by what is wrong with them.
    """

    task_name: str
    now: datetime = field(kw_only=True)
    skipped: Counter[str] = field(kw_only=True, default_factory=Counter)
    parse: Parse = field(kw_only=True, default=parse_json)

    def decode(self, raw: bytes | str, place: Place) -> list[Item]:
        """Decode a list entry: at least one item, and more where the message carries calls."""
        return self.decode_message(envelope(raw, self.parse), place, raw)

    def decode_unacked(self, raw: bytes | str, place: Place) -> list[Item]:
        """Decode a value of the ``unacked`` hash likewise."""
        return self.decode_message(envelope(raw, self.parse, unacked=True), place, raw)

    def decode_message(self, message: Mapping[str, Any] | None, place: Place, raw: bytes | str = b"") -> list[Item]:
        """Decode kombu's envelope; ``raw``, its text, is searched for our task's name where it cannot be read."""
        task_name = self.task_name
        in_raw = names(task_name, raw)
        if message is None:
            return [_foreign("undecodable", "not a message of Celery's", place, may_be_ours=in_raw)]
        headers = mapping(message.get("headers"))
        body, in_body, why = None, False, None
        try:
            data = unpack(message)
            in_body = may_name(task_name, data)
            name = headers.get("task")
            if not (in_raw or in_body) and isinstance(name, str) and name != task_name:
                return [_foreign(text(name) or "", "another task", place, text(headers.get("id")))]
            body = parse_body(message, data, self.parse)
            in_body = in_body and (names(task_name, data) or _names_when_read(task_name, body))
        except UnreadableBody as exc:
            why = str(exc)
        if "task" not in headers:
            headers = {**mapping(body), **headers}  # protocol 1
        name, task_id = text(headers.get("task")), text(headers.get("id"))
        is_named = in_raw or in_body or name == task_name
        if name is None or task_id is None:
            reason = why or ("its id is not a text" if name else "it names no task")
            return [_foreign(name or "undecodable", reason, place, task_id, may_be_ours=is_named)]
        expires = parse_time(headers.get("expires")) or moment(headers.get("expires"))
        if place.state is TaskState.QUEUED and expires is not None and expires <= self.now:
            return [_foreign(name, f"expired {describe_age(self.now - expires)} ago", place, task_id)]
        parts = _parts(body)
        if parts is None:
            # A chain, a map or a chord of Celery's own may hold anything.
            may_be_ours = is_named or name.startswith("celery.")
            return [_foreign(name, why or "its body holds no arguments", place, task_id, may_be_ours=may_be_ours)]
        args, kwargs, _ = parts
        carrier = self._task(name, task_id, headers, place)
        items: list[Item] = []
        if name == task_name:
            items.append(_ours(carrier, args, kwargs, place))
        if in_body:
            items += self._carried(carrier, parts, place)
        if not items:
            reason = "it names our task in a way that cannot be read" if is_named else "another task"
            return [_foreign(name, reason, place, task_id, may_be_ours=is_named)]
        return items

    def _task(self, name: str, task_id: str, headers: Mapping[str, Any], place: Place) -> LiveTask:
        """The task without its order, which may be set: it is not shared yet."""
        if task_id != headers.get("id"):
            self.skipped["message: an id with characters that are no text"] += 1
        read = partial(fitting, self.skipped, "message")
        attempt = max(read("retries", number, headers.get("retries")) or 0, 0) + 1
        due = read("eta", parse_time, headers.get("eta"))
        state = place.state
        if due is not None and state is TaskState.QUEUED and due > self.now:
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
            # The hard one of ``[hard, soft]``.
            limit=time_limit(next(iter(sequence(headers.get("timelimit"))), None)),
        )

    def _carried(self, carrier: LiveTask, parts: tuple[Any, Any, Any], place: Place) -> Iterator[Item]:
        """Calls of our task that this message carries: what the message says of each, and an id."""
        task_name, name = self.task_name, carrier.name
        try:
            calls = list(contained_calls(name, *parts, task_name, task_id=carrier.task_id))
        except RecursionError:
            yield _foreign(name, "nested too deeply to be read", place, carrier.task_id, may_be_ours=True)
            return
        for count, call in enumerate(calls, 1):
            task = replace(
                carrier,
                task_id=call.task_id or f"{carrier.task_id}#{count}",
                name=task_name,
                order_id=None,
                part_of=name,
                carrier=carrier.task_id,
            )
            if call.is_complete:
                yield _ours(task, call.args, call.kwargs, place)
            elif (order_id := order_of((), call.kwargs)) is not None:
                yield replace(task, order_id=order_id)
            else:
                reason = f"part of {name}; the step before decides its order"
                yield _foreign(task_name, reason, place, task.task_id, may_be_ours=True)


def _ours(task: LiveTask, args: Any, kwargs: Any, place: Place) -> Item:
    """The task with its order and flag."""
    try:
        order_id = read_order(args, kwargs)
    except UnreadableOrder:
        return _foreign(task.name, "its arguments name no order", place, task.task_id, may_be_ours=True)
    # Not by replace(), which would double the time of a long queue: the task is not shared yet.
    object.__setattr__(task, "order_id", order_id)
    object.__setattr__(task, "resume", resume_of(args, kwargs))
    return task


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


# --- bodies ---


class UnreadableBody(ValueError):
    """A body that cannot be decoded here; the text says why."""


class Call(NamedTuple):
    """A call of our task inside another task's message.

    ``task_id`` is None where Celery will choose it. ``is_complete`` is False where the result of an earlier task will
    be put before the arguments.
    """

    task_id: str | None
    args: Any
    kwargs: Any
    is_complete: bool


def unpack(message: Mapping[str, Any]) -> bytes:
    """The body in kombu's envelope as the producer serialized it. Raises ``UnreadableBody``."""
    body = message.get("body") or ""
    encoding = mapping(message.get("properties")).get("body_encoding")
    if encoding and encoding != "base64":
        raise UnreadableBody("its body has an unknown encoding")
    try:
        data = binascii.a2b_base64(body) if encoding else body.encode()
    except (ValueError, TypeError, AttributeError) as exc:
        raise UnreadableBody("its body cannot be decoded") from exc
    compression = mapping(message.get("headers")).get("compression")
    return _decompress(data, compression) if compression else data


def parse_body(message: Mapping[str, Any], data: bytes, parse: Parse = parse_json) -> Any:
    """The content of this message's unpacked body. Raises ``UnreadableBody`` for anything but JSON."""
    content_type = message.get("content-type")
    if content_type != "application/json":
        content_type = text(content_type) or "an unknown type"
        if content_type.partition(";")[0].strip().lower() != "application/json":
            raise UnreadableBody(f"serialized as {content_type[:60]}, not JSON")
    try:
        return parse(data)
    except (ValueError, RecursionError) as exc:
        raise UnreadableBody("its arguments cannot be decoded") from exc


def names(task: str, raw: bytes | str) -> bool:
    """Whether the task's name is in this text, as it is or as JSON escapes it."""
    data = raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogatepass")
    # Not any(): this runs for every message of a long queue.
    for written in _written(task):  # noqa: SIM110
        if written in data:
            return True
    return False


def may_name(task: str, data: bytes) -> bool:
    """The same for JSON in which any character may be escaped."""
    return b"\\u" in data or names(task, data)


@cache
def _written(task: str) -> tuple[bytes, ...]:
    return tuple({task.encode(), json.dumps(task)[1:-1].encode()})


def contained_calls(
    name: str, args: Any, kwargs: Any, embed: Any, task: str, *, task_id: str | None = None
) -> Iterator[Call]:
    """Every call of ``task`` that a call of ``name`` with this id and these arguments will make or publish.

    Raises ``RecursionError`` where the arguments are nested too deeply.
    """
    yield from _in_arguments(name, args, kwargs, task, task_id=task_id, prepended=False)
    # Later steps, callbacks and the body of a chord get the result of the step before.
    yield from _in_any(embed, task, prepended=True)


def _in_arguments(
    name: str, args: Any, kwargs: Any, task: str, *, task_id: str | None, prepended: bool
) -> Iterator[Call]:
    """Calls in the arguments of Celery's own tasks, and of any other task that takes signatures.

    With ``prepended`` the task gets more arguments before these.
    """
    args, options = sequence(args), mapping(kwargs)
    if name in _MAPS:
        given = {**dict(zip(("task", "it"), args, strict=False)), **options}
        if mapping(given.get("task")).get("task") == task:
            yield from _in_map(given.get("it"), task_id, each_is_one_argument=name == "celery.map")
            return
    if name == "celery.chain":
        first, *others = (*sequence(options.get("tasks")), None)
        yield from _in_any(first, task, prepended=prepended)
        yield from _in_any(others, task, prepended=True)
    elif name == "celery.group":
        # The fourth argument, too, goes before the arguments of each task.
        partial_args = options.get("partial_args") or next(iter(args[3:4]), None)
        yield from _in_any([*args, *options.values()], task, prepended=prepended or bool(partial_args))
    elif name == "celery.chord":
        header, body = options.get("header", args[0:1]), options.get("body", args[1:2])
        yield from _in_any(header, task, prepended=prepended or bool(options.get("partial_args") or args[2:3]))
        yield from _in_any(body, task, prepended=True)
    else:
        yield from _in_any([*args, *options.values()], task, prepended=name == "celery.chord_unlock")


def _in_map(items: Any, task_id: str | None, *, each_is_one_argument: bool) -> Iterator[Call]:
    if not isinstance(items, list):
        yield Call(None, items, {}, is_complete=False)
        return
    for count, item in enumerate(items, 1):
        # The same id whether the map itself is published already or not.
        call_id = f"{task_id}#{count}" if task_id is not None else None
        yield Call(call_id, [item] if each_is_one_argument else item, {}, is_complete=True)


def _in_any(value: Any, task: str, *, prepended: bool) -> Iterator[Call]:
    """Calls in the signatures within this value, wherever they are."""
    if isinstance(value, list | tuple):
        for each in value:
            yield from _in_any(each, task, prepended=prepended)
    elif isinstance(value, dict):
        name = value.get("task")
        if name != task and not (isinstance(name, str) and ("args" in value or "kwargs" in value)):
            yield from _in_any(list(value.values()), task, prepended=prepended)
            return
        prepended = prepended and value.get("immutable") is not True
        args, kwargs, options = value.get("args"), value.get("kwargs"), mapping(value.get("options"))
        task_id = text(options.get("task_id"))
        if name == task:
            yield Call(task_id, args, kwargs, is_complete=not prepended)
        yield from _in_arguments(name, args, kwargs, task, task_id=task_id, prepended=prepended)
        yield from _in_any(list(options.values()), task, prepended=True)


def _decompress(data: bytes, compression: Any) -> bytes:
    method = compression.lower() if isinstance(compression, str) else ""
    # Hardly any message is compressed.
    import bz2
    import lzma
    import zlib

    unpacker: Any
    if method in _ZLIB:
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # with either header
    elif method in _BZIP2:
        unpacker = bz2.BZ2Decompressor()
    elif method in _LZMA:
        unpacker = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)
    else:
        raise UnreadableBody(f"compressed as {(text(compression) or 'an unknown type')[:60]}, which is not supported")
    try:
        unpacked = unpacker.decompress(data, MAX_BODY + 1)
    except (zlib.error, lzma.LZMAError, OSError, ValueError, EOFError, MemoryError) as exc:
        raise UnreadableBody("its body cannot be decompressed") from exc
    if len(unpacked) > MAX_BODY:
        raise UnreadableBody(f"its body is larger than {MAX_BODY // 1024**2} MB decompressed")
    if not unpacker.eof:
        raise UnreadableBody("its body cannot be decompressed")
    return bytes(unpacked)
