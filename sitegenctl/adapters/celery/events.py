"""Celery's task and worker events over Redis: a subscription, and events decoded without trusting them.

Events are published on a fanout exchange, which is a channel for each routing key: ``/0.celeryev/task.started``,
under kombu's global key prefix like everything else; without a routing key ``/0.celeryev`` alone. A pattern
subscription hears them all and, other than ``celery events``, writes no binding into Redis. Task events come
one at a time or, from a worker with an event loop, as a list under ``task.multi``.
Source: celery/events/dispatcher.py, kombu/transport/redis.py 5.3 and 5.7.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio.client import PubSub

from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.redis.connection import literally
from sitegenctl.adapters.redis.redispy import DRIVER_ERRORS, close, redis_client, translate, translated
from sitegenctl.adapters.redis.urls import database_number, is_sentinel
from sitegenctl.domain.queue.event import Event, Heard, read_event

_EXCHANGE = "celeryev"


class CeleryEvents:
    """``EventSource`` on Redis. Each listening has a connection of its own.

    ``timeout`` is in seconds, for each answer; after ``idle`` seconds without a message that is passed on, and
    Redis is asked whether it is still there.
    """

    enabling = "celery -A APP control enable_events, or start the worker with -E"

    def __init__(self, url: str, options: QueueOptions, *, timeout: float, idle: float = 5.0) -> None:
        self._url = url
        self._options = options
        self._timeout = timeout
        self._idle = idle

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[Event | Heard]]:
        """Listen until the block is left; ``EventSource`` has the rest."""
        client = redis_client(
            self._url,
            timeout=self._timeout,
            sentinel_master=self._options.sentinel_master,
            sentinel_password=self._options.sentinel_password,
        )
        pubsub = client.pubsub()
        try:
            async with translated():
                await self._subscribe(pubsub)
            events = self._events(pubsub)
            try:
                yield events
            finally:
                await events.aclose()
        finally:
            with suppress(*DRIVER_ERRORS):
                # redis 4.6 knows no aclose().
                closing: Callable[[], Awaitable[None]] = getattr(pubsub, "aclose", pubsub.close)
                await closing()
            with suppress(*DRIVER_ERRORS):
                await close(client)

    async def _subscribe(self, pubsub: PubSub) -> None:
        patterns = event_patterns(self._options, database_number(self._url), sentinel=is_sentinel(self._url))
        await pubsub.psubscribe(*patterns)
        waiting = len(patterns)
        async with asyncio.timeout(self._timeout):
            while waiting:
                message = await pubsub.get_message(timeout=self._timeout)
                waiting -= message is not None and message["type"] == "psubscribe"

    async def _events(self, pubsub: PubSub) -> AsyncGenerator[Event | Heard, None]:
        asked = False
        while True:
            try:
                message = await pubsub.get_message(timeout=self._timeout if asked else self._idle)
                if message is None and asked:
                    raise TimeoutError
                if message is None:
                    # A connection that was cut off without a word looks like one on which nothing happens.
                    await pubsub.ping()
                asked = message is None
            except DRIVER_ERRORS as exc:
                raise translate(exc) from exc
            if message is None:
                yield Heard.NOTHING
            elif message["type"] == "pmessage":
                for event in decode_events(message["data"]):
                    yield event


def event_patterns(options: QueueOptions, database: int, *, sentinel: bool) -> tuple[str, ...]:
    """What to subscribe to, as Redis's patterns: for each channel itself, and all its routing keys."""
    patterns: list[str] = []
    for control in options.control_channels(database, sentinel=sentinel):
        # Remote control and events are laid out alike; only the exchange is another.
        channel = literally(control.removesuffix("celery.pidbox") + _EXCHANGE)
        patterns += [channel, f"{channel}/*"]
    return tuple(patterns)


def decode_events(raw: bytes | str) -> list[Event | Heard]:
    """The events in one message, and ``GARBAGE`` for what is none, so that it can be told of."""
    try:
        message = json.loads(raw)
        sent = _body(message) if isinstance(message, dict) else None
    except (ValueError, TypeError, RecursionError):
        return [Heard.GARBAGE]
    events = [
        read_event(each) if isinstance(each, dict) else None for each in (sent if isinstance(sent, list) else [sent])
    ]
    return [Heard.GARBAGE if event is None else event for event in events]


def _body(message: Mapping[str, Any]) -> Any:
    if message.get("content-type") != "application/json":
        # It might be pickle, which is never opened.
        return None
    body = message.get("body") or ""
    properties = message.get("properties")
    if isinstance(properties, dict) and properties.get("body_encoding") == "base64":
        body = base64.b64decode(body)
    return json.loads(body)
