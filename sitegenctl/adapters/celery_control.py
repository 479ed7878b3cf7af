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
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

_EXCHANGE = "celery.pidbox"
_REPLY_EXCHANGE = "reply.celery.pidbox"
_NONE: Mapping[str, Any] = {}

#: Answers by worker name, by method.
Answers = dict[str, dict[str, Any]]


async def ask_workers(
    client: Redis,
    methods: Sequence[str],
    *,
    timeout: float,
    database: int = 0,
    channels: Sequence[str] = (),
    arguments: Mapping[str, Mapping[str, Any]] = _NONE,
    destination: Sequence[str] | None = None,
    prefix: str = "",
    sep: str = "\x06\x16",
) -> tuple[Answers, int]:
    """Ask every living worker these remote-control methods.

    ``timeout`` in seconds; the client's own socket timeout must be longer. ``channels`` are where workers
    listen, if not where they do by default on this ``database``. ``arguments`` are by method.
    ``destination`` names those who shall answer, where not all. Returns the answers of the workers that
    answered all methods, and how many living workers (of those named) did not.
    """
    channels = channels or (f"{prefix}/{database}.{_EXCHANGE}",)
    oid = str(uuid.uuid4())
    reply_list = f"{oid}.{_REPLY_EXCHANGE}"
    binding = (f"{prefix}_kombu.binding.{_REPLY_EXCHANGE}", sep.join((oid, "", reply_list)))
    tickets = {str(uuid.uuid4()): method for method in methods}
    try:
        pipe = client.pipeline(transaction=False)
        pipe.sadd(*binding)
        for ticket, method in tickets.items():
            request = _request(method, arguments.get(method, _NONE), destination, ticket, oid, timeout)
            for channel in channels:
                pipe.publish(channel, request)
        counts = (await pipe.execute())[1:]
        asked = max((sum(counts[n : n + len(channels)]) for n in range(0, len(counts), len(channels))), default=0)
        if destination is not None:
            asked = min(asked, len(destination))
        answers = await _collect(client, prefix + reply_list, tickets, asked * len(methods), timeout)
    finally:
        # Also when this was cancelled, or the connection is lost: the client makes a new one.
        pipe = client.pipeline(transaction=False)
        pipe.srem(*binding)
        pipe.delete(prefix + reply_list)
        await pipe.execute()
    complete = {name: given for name, given in answers.items() if len(given) == len(methods)}
    return complete, max(0, asked - len(complete))


async def _collect(client: Redis, reply_list: str, tickets: dict[str, str], expected: int, timeout: float) -> Answers:
    answers: Answers = defaultdict(dict)
    deadline = time.monotonic() + timeout
    while expected > 0:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        popped = await client.brpop([reply_list], timeout=max(left, 0.01))
        if popped is None:
            break
        message = json.loads(popped[1])
        method = tickets.get(message["headers"].get("ticket"))
        if method is not None:
            for worker, answer in json.loads(base64.b64decode(message["body"])).items():
                answers[worker][method] = answer
            expected -= 1
    return answers


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
