"""Celery's task and worker events over Redis: a subscription, and events decoded without trusting them.

Events are published on a fanout exchange, with a channel for each routing key: ``/0.celeryev/task.started``, under
kombu's global key prefix; without a routing key ``/0.celeryev`` alone. A pattern subscription receives them all and,
unlike ``celery events``, writes no binding into Redis. Task events come one at a time or, from a worker with an event
loop, as a list under ``task.multi``.
Source: celery/events/dispatcher.py, kombu/transport/redis.py 5.3 and 5.7.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from sitegenctl.adapters.celery.codec import parse_body, unpack
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.redis.connection import Connection
from sitegenctl.adapters.redis.errors import literally
from sitegenctl.adapters.redis.urls import parse_url
from sitegenctl.domain.queue.event import Event, NoEvent, read_event

_EXCHANGE = "celeryev"


class CeleryEvents:
    """``EventSource`` on Redis, over a connection of its own.

    ``timeout`` is in seconds, for each reply. After ``idle`` seconds without a message the silence is reported, and the
    connection is checked.
    """

    enabling = "celery -A APP control enable_events, or start the worker with -E"

    def __init__(self, url: str, options: QueueOptions, *, timeout: float, idle: float = 5.0) -> None:
        self._url = url
        self._options = options
        self._timeout = timeout
        self._idle = idle

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[Event | NoEvent]]:
        """Listen until the block is left."""
        address = parse_url(self._url)
        patterns = event_patterns(self._options, address.database, sentinel=bool(address.sentinels))
        connection = Connection(self._url, self._options, timeout=self._timeout)
        async with aclosing(connection.subscribe(patterns, idle=self._idle)) as messages:
            # Returns when Redis has confirmed the subscription.
            await anext(messages)
            async with aclosing(_events(messages)) as events:
                yield events


async def _events(messages: AsyncIterator[bytes | None]) -> AsyncGenerator[Event | NoEvent, None]:
    async for message in messages:
        if message is None:
            yield NoEvent.SILENCE
        else:
            for event in decode_events(message):
                yield event


def event_patterns(options: QueueOptions, database: int, *, sentinel: bool) -> tuple[str, ...]:
    """The patterns to subscribe to: for each channel itself, and all its routing keys."""
    patterns: list[str] = []
    for control in options.control_channels(database, sentinel=sentinel):
        # The channels of events differ from those of remote control only in the exchange.
        channel = literally(control.removesuffix("celery.pidbox") + _EXCHANGE)
        patterns += [channel, f"{channel}/*"]
    return tuple(patterns)


def decode_events(raw: bytes | str) -> list[Event | NoEvent]:
    """The events in one message, and ``MALFORMED`` for everything else."""
    try:
        message = json.loads(raw)
        # Raises for anything but JSON: a pickle, for one, is never loaded.
        sent = parse_body(message, unpack(message)) if isinstance(message, dict) else None
    except (ValueError, TypeError, RecursionError):
        return [NoEvent.MALFORMED]
    events = [
        read_event(each) if isinstance(each, dict) else None for each in (sent if isinstance(sent, list) else [sent])
    ]
    return [NoEvent.MALFORMED if event is None else event for event in events]
