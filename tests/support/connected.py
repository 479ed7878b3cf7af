"""What every simulated worker has, whichever queue it is of: a connection, and a thread that hears what it is told."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import redis
from redis import Redis
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.exceptions import RedisError
from redis.retry import Retry

# redis 4.6 knows no other, and no option for it.
_PROTOCOL: dict[str, Any] = {"protocol": 2} if redis.VERSION >= (5,) else {}


@dataclass(eq=False, repr=False)
class Connected:
    """A worker that is connected, or not; each of a subclass hears its channel in ``_hear``."""

    name: str
    url: str
    _client: Redis | None = None
    _thread: threading.Thread | None = None
    _unsubscribed: threading.Event = field(default_factory=threading.Event)

    def __repr__(self) -> str:
        return self.name

    @property
    def is_connected(self) -> bool:
        return self._client is not None

    @property
    def redis(self) -> Redis:
        assert self._client is not None, f"{self.name} is not connected"
        return self._client

    def _hear(self, message: Mapping[str, Any]) -> None:
        """Do what it was told."""
        raise NotImplementedError

    def _come(self, channel: str) -> None:
        """Connect, and hear from now on what is said on the channel."""
        self._client = Redis.from_url(self.url, retry=Retry(NoBackoff(), 0), **_PROTOCOL)
        listening = self._client.pubsub()
        listening.subscribe(channel, self._own_channel)
        for _ in range(2):
            assert listening.get_message(timeout=10)
        self._thread = threading.Thread(target=self._listen, args=(listening, channel), name=self.name)
        self._thread.start()

    def stop_hearing(self) -> None:
        """Lose the subscription, and nothing else: remote control does not reach it until it connects again."""
        self._unsubscribed.clear()
        self._signal("stop hearing")
        assert self._unsubscribed.wait(10)

    def _signal(self, what: str) -> None:
        with suppress(RedisError), Redis.from_url(self.url, retry=Retry(NoBackoff(), 0)) as client:
            client.publish(self._own_channel, what)

    def _leave(self) -> None:
        """Be connected no more, at once."""
        self._signal("leave")
        if self._thread is not None:
            self._thread.join(timeout=10)
            assert not self._thread.is_alive()
        if self._client is not None:
            self._client.close()
            self._client.connection_pool.disconnect()
        self._thread = self._client = None

    @property
    def _own_channel(self) -> str:
        return f"own.{self.name}"

    def _listen(self, listening: PubSub, channel: str) -> None:
        with suppress(RedisError, OSError):
            for item in listening.listen():
                if item["type"] == "unsubscribe":
                    self._unsubscribed.set()
                if item["type"] != "message":
                    continue
                if item["channel"] != self._own_channel.encode():
                    self._hear(item)
                elif item["data"] == b"leave":
                    listening.unsubscribe()
                else:
                    listening.unsubscribe(channel)
        listening.close()
