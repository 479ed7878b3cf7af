"""Celery's remote control over Redis, answering as soon as every living worker has answered.

``celery inspect`` waits its whole timeout because it doesn't know how many workers there are. PUBLISH returns
exactly that number, so this module speaks kombu's pidbox protocol itself: the request goes out by PUBLISH, the
answers come into a list that is bound, read and removed again.
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
from dataclasses import dataclass, field
from typing import Any

from sitegenctl.adapters.broker.json_values import mapping, text
from sitegenctl.adapters.redis.client import Command
from sitegenctl.adapters.redis.connection import Link, literally
from sitegenctl.adapters.redis.errors import NotPermitted, Refusal
from sitegenctl.errors import SourceError

_EXCHANGE = "celery.pidbox"
_REPLY_EXCHANGE = "reply.celery.pidbox"
_NONE: Mapping[str, Any] = {}

#: No worker has such a name, which always holds an @; a request without any destination is for all of them.
_NOBODY = ("nobody",)

#: Answers by worker name, by method.
Answers = dict[str, dict[str, Any]]

# The same, with as many answers to a method as workers of this name gave.
_AllAnswers = dict[str, dict[str, list[Any]]]


@dataclass(frozen=True, kw_only=True)
class Replies:
    """What came of one question to the workers.

    ``answers`` are those of the workers that answered every method, ``refused`` the words of those that
    answered one with an error: it failed, or they don't know it. ``silent`` living workers did not answer, or
    not every method, in time. ``shared`` are names under which several workers answered: their lists are joined, and
    of everything else the first answer counts.
    """

    answers: Answers
    refused: Mapping[str, str] = field(default_factory=dict)
    silent: int = 0
    shared: frozenset[str] = frozenset()

    @property
    def unknown(self) -> int:
        """How many living workers there are of which nothing may be concluded."""
        return self.silent + len(self.refused)


async def ask_workers(
    link: Link,
    methods: Sequence[str],
    *,
    timeout: float,
    channels: Sequence[str],
    arguments: Mapping[str, Mapping[str, Any]] = _NONE,
    destination: Sequence[str] | None = None,
    prefix: str = "",
    sep: str = "\x06\x16",
) -> Replies:
    """Ask every living worker these remote-control methods.

    ``timeout`` in seconds; the link's own must be longer. ``channels`` are where the workers listen.
    ``arguments`` are by method. ``destination`` names those who shall answer, where not all. Nothing is left in
    Redis, unless Redis itself goes away.
    """
    oid = str(uuid.uuid4())
    reply_list = f"{prefix}{oid}.{_REPLY_EXCHANGE}"
    binding = (f"{prefix}_kombu.binding.{_REPLY_EXCHANGE}", sep.join((oid, "", f"{oid}.{_REPLY_EXCHANGE}")))
    tickets = {str(uuid.uuid4()): method for method in methods}
    requests = [
        _request(method, arguments.get(method, _NONE), destination, ticket, oid, timeout)
        for ticket, method in tickets.items()
    ]
    # A Redis that is away shall say so here, before there is anything to clean up.
    await link.execute(("PING",))
    try:
        _, *counts = await _publish(link, ("SADD", *binding), requests, channels)
        asked = max((sum(counts[n : n + len(channels)]) for n in range(0, len(counts), len(channels))), default=0)
        if destination is not None:
            asked = min(asked, len(destination))
        given = await _collect(link, reply_list, tickets, asked * len(methods), timeout)
        await _clean_up(link, binding, reply_list)
    except BaseException:
        # Also when this was cancelled, or the connection is lost: the link makes a new one. If that is of no use
        # either, the first thing that went wrong is what is told.
        with suppress(SourceError):
            await _clean_up(link, binding, reply_list)
        raise
    refused = {name: why for name, why in ((name, _error(answers)) for name, answers in given.items()) if why}
    complete: Answers = {}
    shared: set[str] = set()
    counted = 0
    for name, answers in given.items():
        # Each worker gives one answer to each method.
        workers = min((len(answers.get(method, ())) for method in methods), default=0)
        counted += max(workers, name in refused)
        if workers and name not in refused:
            complete[name] = {method: _joined(answers[method]) for method in methods}
        if max(map(len, answers.values())) > 1:
            shared.add(name)
    return Replies(answers=complete, refused=refused, silent=max(0, asked - counted), shared=frozenset(shared))


async def count_workers(link: Link, channels: Sequence[str]) -> int:
    """How many workers listen for remote control, by Redis' own word: each gets a request that it need not answer.

    They subscribe to patterns, which PUBSUB NUMSUB does not count. Nothing is written, and nobody waited for.
    """
    request = _request("ping", _NONE, _NOBODY, str(uuid.uuid4()), str(uuid.uuid4()), 1)
    return sum(await _publish(link, None, [request], channels))


async def _publish(link: Link, before: Command | None, requests: Sequence[str], channels: Sequence[str]) -> list[Any]:
    """Publish these requests in one round trip, which begins with the command ``before``; returns all replies."""
    publishing: list[Command] = [("PUBLISH", channel, request) for request in requests for channel in channels]
    try:
        return await link.execute(*([before] if before else []), *publishing)
    except NotPermitted as exc:
        if not exc.is_channel:
            raise
        raise ChannelNotPermitted(channels, exc) from exc


class ChannelNotPermitted(Refusal):
    """The ACL of Redis does not let this user use the channel on which workers listen for remote control."""

    def __init__(self, channels: Sequence[str], cause: NotPermitted) -> None:
        super().__init__(
            f"no worker can be asked: Redis does not let this user use the channel {' or '.join(channels)}",
            hint=cause.grant(*(f"&{literally(channel)}*" for channel in channels)),
            source="workers",
        )


async def _clean_up(link: Link, binding: tuple[str, str], reply_list: str) -> None:
    await link.execute(("SREM", *binding), ("DEL", reply_list))


async def _collect(
    link: Link, reply_list: str, tickets: Mapping[str, str], expected: int, timeout: float
) -> _AllAnswers:
    answers: _AllAnswers = defaultdict(dict)
    deadline = time.monotonic() + timeout
    while expected > 0:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        (popped,) = await link.execute(("BRPOP", reply_list, max(left, 0.01)))
        if popped is None:
            break
        for ticket, worker, answer in _read(popped[1]):
            if ticket in tickets:
                answers[worker].setdefault(tickets[ticket], []).append(answer)
        expected -= 1
    return answers


def _read(raw: bytes) -> Iterator[tuple[str, str, Any]]:
    """Ticket, worker and answer; nothing of what can't be read, which is as good as no answer."""
    try:
        message = mapping(json.loads(raw))
        body = mapping(json.loads(base64.b64decode(message["body"])))
        ticket = mapping(message["headers"])["ticket"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return
    if not isinstance(ticket, str):
        return
    for worker, answer in body.items():
        # A name may hold what no terminal should be sent: that is for the screens, and no reason to miss a worker.
        if name := text(worker):
            yield ticket, name, answer


def _joined(answers: Sequence[Any]) -> Any:
    """What the workers of one name answered to a method."""
    if len(answers) > 1 and all(isinstance(answer, list) for answer in answers):
        return [entry for answer in answers for entry in answer]
    return answers[0]


def _error(answers: Mapping[str, Sequence[Any]]) -> str | None:
    """Why a worker could not answer one of the methods; kombu says it so when the method raises, or is unknown."""
    everything = (answer for given in answers.values() for answer in given)
    errors = (answer["error"] for answer in everything if isinstance(answer, dict) and set(answer) == {"error"})
    return next((error if isinstance(error, str) else json.dumps(error) for error in errors), None)


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
