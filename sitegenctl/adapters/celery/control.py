"""Celery's remote control over Redis, which returns as soon as every living worker has replied.

``celery inspect`` waits its whole timeout because it doesn't know how many workers there are. PUBLISH returns
exactly that number, so this module speaks kombu's pidbox protocol itself: the request goes out by PUBLISH, the
replies come into a list that is bound, read and removed again.
Source: kombu/pidbox.py and kombu/transport/redis.py, 5.3 and 5.7.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from typing import Any

from sitegenctl.adapters.broker.json_values import mapping, moment, text
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.redis.connection import Command, Connection
from sitegenctl.adapters.redis.errors import NotPermitted, Refusal, literally
from sitegenctl.errors import SourceError

_EXCHANGE = "celery.pidbox"
_REPLY_EXCHANGE = "reply.celery.pidbox"
_NO_ARGUMENTS: Mapping[str, Any] = {}

#: The name of no worker, which always holds an @; a request without any destination is for all of them.
_NO_WORKER = ("none",)

#: The key of the set of bindings of reply lists, behind kombu's key prefix.
BINDINGS = f"_kombu.binding.{_REPLY_EXCHANGE}"

#: Seconds to wait for workers that did not reply lately, once the others have.
LATE_REPLY = 0.25

#: Seconds after which an unaccessed reply list is abandoned.
ABANDONED_AFTER = 60

#: Steps of SCAN and keys in each: together the most keys that are searched.
SCAN_STEPS = 200
SCAN_COUNT = 1000

# KEYS: list, bindings. ARGV: seconds, member. The list must still be idle.
_PRUNE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if redis.call('OBJECT', 'IDLETIME', KEYS[1]) < tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[2])
return 1
"""

#: Replies by worker name, by method.
Answers = dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Replies:
    """The replies to one request.

    ``answers`` are those of workers that replied to every method, ``rejected`` the errors of those that replied with
    one: the method failed, or they don't know it. ``unresponsive`` living workers did not reply to every method in
    time. ``shared`` are names under which several workers replied: their lists are joined, and of everything else the
    first reply counts.
    """

    answers: Answers
    rejected: Mapping[str, str] = field(default_factory=dict)
    unresponsive: int = 0
    shared: frozenset[str] = frozenset()
    taken_at: datetime | None = None  # by Redis' clock, None where Redis refuses TIME
    partial: frozenset[str] = frozenset()  # replied to some methods only, and count as unresponsive

    @property
    def unknown(self) -> int:
        """The number of living workers whose state is unknown."""
        return self.unresponsive + len(self.rejected)


@dataclass(frozen=True, kw_only=True)
class ReplyLists:
    """Reply lists with the seconds since they were last accessed; None where Redis does not record it.

    ``complete`` is False when the keyspace is too large to have been searched to its end.
    """

    idle: Mapping[bytes, int | None]
    complete: bool

    @property
    def abandoned(self) -> list[bytes]:
        """Those that no client will read."""
        return [key for key, seconds in self.idle.items() if seconds is not None and seconds >= ABANDONED_AFTER]


class CannotAsk(Refusal):
    """Redis refuses what remote control needs, so that no worker can be asked."""

    def __init__(self, cause: Refusal, channels: Sequence[str]) -> None:
        hint = cause.hint
        if isinstance(cause, NotPermitted) and cause.command == "PUBLISH":
            # Methods are published on these channels, and kombu adds a suffix for a single worker.
            hint = cause.grant("+publish", *(f"'&{literally(channel)}*'" for channel in channels))
        message = f"no worker can be asked: {cause.message}"
        super().__init__(message, code=cause.code, reason=cause.reason, hint=hint, source="workers")


async def ask_workers(
    connection: Connection,
    methods: Sequence[str],
    options: QueueOptions,
    *,
    timeout: float,
    channels: Sequence[str],
    arguments: Mapping[str, Mapping[str, Any]] = _NO_ARGUMENTS,
    destination: Sequence[str] | None = None,
    silent: int = 0,
) -> Replies:
    """Send these remote-control methods to every living worker, or to those named by ``destination``.

    ``timeout`` is in seconds; that of the connection must be longer. ``channels`` are where the workers listen.
    ``arguments`` are by method. Of the workers, ``silent`` did not reply lately: once all others have replied, they
    get ``LATE_REPLY`` seconds. Nothing is left in Redis, unless the connection is lost for good.
    """
    box = _ReplyBox.new(options)
    tickets = {str(uuid.uuid4()): method for method in methods}
    requests = [
        _request(method, arguments.get(method, _NO_ARGUMENTS), destination, ticket, box.oid, timeout)
        for ticket, method in tickets.items()
    ]
    # An unreachable Redis must fail here, before there is anything to clean up.
    _, clock = await connection.execute(("PING",), ("TIME",), keep_refusals=True)
    # As many answers to each method as workers of this name gave.
    answers: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    try:
        _, *counts = await connection.execute(box.binding, *_published(requests, channels))
        asked = max((sum(counts[n : n + len(channels)]) for n in range(0, len(counts), len(channels))), default=0)
        if destination is not None:
            asked = min(asked, len(destination))
        deadline = time.monotonic() + (timeout if asked > silent else min(timeout, LATE_REPLY))
        for _ in range(asked * len(methods)):
            left = deadline - time.monotonic()
            popped = (await connection.execute(box.read(left)))[0] if left > 0 else None
            if popped is None:
                break
            for ticket, worker, answer in _read(popped[1]):
                if ticket in tickets:
                    answers[worker][tickets[ticket]].append(answer)
            if silent and _complete(answers, methods) >= asked - silent:
                deadline, silent = min(deadline, time.monotonic() + LATE_REPLY), 0
        await connection.execute(*box.cleaning)
    except BaseException as exc:
        # Also when cancelled, or when the connection is lost: it is opened again. A failure of the clean-up must not
        # hide the first error.
        with suppress(SourceError):
            await connection.execute(*box.cleaning)
        if isinstance(exc, Refusal):
            raise CannotAsk(exc, channels) from exc
        raise
    taken_at = None if isinstance(clock, Refusal) else moment(int(clock[0]) + int(clock[1]) / 1e6)
    return replace(_replies(answers, methods, asked), taken_at=taken_at)


async def count_workers(connection: Connection, options: QueueOptions, channels: Sequence[str]) -> int:
    """The number of workers that listen for remote control, by a request that none of them replies to.

    They subscribe to patterns, which PUBSUB NUMSUB does not count. Raises ``CannotAsk`` where a request would not
    work: all its commands are executed.
    """
    box = _ReplyBox.new(options)
    requests = _published([_request("ping", _NO_ARGUMENTS, _NO_WORKER, box.oid, box.oid, 1)], channels)
    try:
        _, *replies = await connection.execute(box.binding, *requests, box.read(0), *box.cleaning)
    except Refusal as exc:
        raise CannotAsk(exc, channels) from exc
    return sum(replies[: len(requests)])


async def find_reply_lists(connection: Connection, options: QueueOptions) -> ReplyLists:
    """Search the keyspace for reply lists, in steps and not beyond a limit. Writes nothing.

    Clients pop each reply at once, so a list that was not accessed for a minute belongs to a client that died, or
    came too late. A binding without a list is another matter: its client may be waiting for the first reply.
    """
    pattern = f"{literally(options.global_keyprefix)}*.{_REPLY_EXCHANGE}"
    keys: set[bytes] = set()
    cursor = b"0"
    for _ in range(SCAN_STEPS):
        ((cursor, page),) = await connection.execute(
            ("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT, "TYPE", "list")
        )
        keys.update(page)
        if cursor == b"0":
            break
    # Redis records no idle times under an LFU policy; a list may also be gone by now.
    times = await connection.execute(*(("OBJECT", "IDLETIME", key) for key in keys), keep_refusals=True)
    idle = {
        key: None if isinstance(seconds, Refusal) else seconds or 0 for key, seconds in zip(keys, times, strict=True)
    }
    return ReplyLists(idle=idle, complete=cursor == b"0")


async def prune_reply_lists(connection: Connection, options: QueueOptions) -> int:
    """Remove abandoned reply lists with their bindings; returns the number of lists."""
    lists = await find_reply_lists(connection, options)
    commands: list[Command] = []
    for key in lists.abandoned:
        queue = key.removeprefix(options.global_keyprefix.encode())
        # Routing key, pattern and queue.
        binding = options.sep.encode().join((queue.removesuffix(f".{_REPLY_EXCHANGE}".encode()), b"", queue))
        commands.append(("EVAL", _PRUNE, 2, key, options.global_keyprefix + BINDINGS, ABANDONED_AFTER, binding))
    return sum(await connection.execute(*commands))


@dataclass(frozen=True, kw_only=True)
class _ReplyBox:
    """The list for the replies to one request, and its entry in the set of bindings."""

    oid: str
    key: str
    entry: tuple[str, str]

    @classmethod
    def new(cls, options: QueueOptions) -> _ReplyBox:
        oid = str(uuid.uuid4())
        queue, prefix = f"{oid}.{_REPLY_EXCHANGE}", options.global_keyprefix
        return cls(oid=oid, key=prefix + queue, entry=(prefix + BINDINGS, options.sep.join((oid, "", queue))))

    @property
    def binding(self) -> Command:
        """The command that lets workers reply."""
        return ("SADD", *self.entry)

    @property
    def cleaning(self) -> tuple[Command, Command]:
        """The commands that remove everything."""
        return ("SREM", *self.entry), ("DEL", self.key)

    def read(self, patience: float) -> Command:
        """The command that waits for a reply; 0 seconds would be for ever."""
        return ("BRPOP", self.key, max(patience, 0.01))


def _published(requests: Sequence[str], channels: Sequence[str]) -> list[Command]:
    return [("PUBLISH", channel, request) for request in requests for channel in channels]


def _read(raw: bytes) -> Iterator[tuple[str, str, Any]]:
    """Ticket, worker and answer; nothing where they can't be read, which counts as no reply."""
    try:
        message = mapping(json.loads(raw))
        body = mapping(json.loads(base64.b64decode(message["body"])))
        ticket = mapping(message["headers"])["ticket"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return
    if not isinstance(ticket, str):
        return
    for worker, answer in body.items():
        if name := text(worker):
            yield ticket, name, answer


def _complete(answers: Mapping[str, Mapping[str, Sequence[Any]]], methods: Sequence[str]) -> int:
    """The number of workers that have replied to every method."""
    return sum(min(len(of_worker.get(method, ())) for method in methods) for of_worker in answers.values())


def _replies(collected: Mapping[str, dict[str, list[Any]]], methods: Sequence[str], asked: int) -> Replies:
    complete: Answers = {}
    rejected: dict[str, str] = {}
    counted = 0
    for name, answers in collected.items():
        # Each worker gives one answer to each method.
        workers = min((len(answers.get(method, ())) for method in methods), default=0)
        error = next(filter(None, map(_error, chain.from_iterable(answers.values()))), None)
        counted += max(workers, error is not None)
        if error is not None:
            rejected[name] = error
        elif workers:
            complete[name] = {method: _joined(answers[method]) for method in methods}
    return Replies(
        answers=complete,
        rejected=rejected,
        unresponsive=max(0, asked - counted),
        shared=frozenset(name for name, answers in collected.items() if max(map(len, answers.values())) > 1),
        partial=frozenset(collected.keys() - complete.keys() - rejected.keys()),
    )


def _joined(answers: Sequence[Any]) -> Any:
    """The answers of all workers of one name to a method."""
    if len(answers) > 1 and all(isinstance(answer, list) for answer in answers):
        return [entry for answer in answers for entry in answer]
    return answers[0]


def _error(answer: Any) -> str | None:
    """The error of a method that raised, or that the worker doesn't know, as kombu reports it."""
    if not isinstance(answer, dict) or set(answer) != {"error"}:
        return None
    error = answer["error"]
    return error if isinstance(error, str) else json.dumps(error)


def _request(
    method: str,
    arguments: Mapping[str, Any],
    destination: Sequence[str] | None,
    ticket: str,
    oid: str,
    timeout: float,
) -> str:
    body = {
        "method": method,
        "arguments": arguments,
        "destination": destination,
        "pattern": None,
        "matcher": None,
        "ticket": ticket,
        "reply_to": {"exchange": _REPLY_EXCHANGE, "routing_key": oid},
    }
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(body).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"clock": 1, "expires": time.time() + timeout},
            "properties": {
                "delivery_mode": 1,
                "delivery_info": {"exchange": _EXCHANGE, "routing_key": ""},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    )
