"""Bodies of Celery's messages: unpacked within limits, and searched for calls of a task that another one carries.

A body is text or base64, perhaps compressed, of ``[args, kwargs, embed]`` or, in protocol 1, of one object with
everything. Chains, chords, groups and maps carry tasks as signatures: ``{"task": name, "args": …, "kwargs": …,
"options": {"task_id": …}, "immutable": …}``. Nothing is ever unpickled.
Source: kombu/message.py and compression.py, celery/canvas.py and app/builtins.py, 5.3 and 5.7.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from sitegenctl.adapters.broker.json_values import mapping, sequence, text

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


def parse_json(raw: bytes | str) -> Any:
    """Parse JSON as workers do: as UTF-8, whatever content-encoding says."""
    # Not json.loads, which guesses the encoding of every message.
    return _decode(raw.decode() if isinstance(raw, bytes) else raw)


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
    for number, item in enumerate(items, 1):
        # The same id whether the map itself is published already or not.
        call_id = f"{task_id}#{number}" if task_id is not None else None
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
