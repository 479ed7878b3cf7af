"""Ways to a Redis: what those who only send commands need, and which client gives it to them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, Protocol

from sitegenctl.adapters.redis.client import Command, RedisWire, knows
from sitegenctl.adapters.redis.errors import Refusal, write_refused
from sitegenctl.adapters.redis.urls import is_sentinel


class Link(Protocol):
    """A way to one Redis, which serves one call at a time.

    It connects when it is first used, and anew when the connection was lost or a call was given up.
    """

    async def execute(self, *commands: Command, keep_refusals: bool = False) -> list[Any]:
        """Send these commands in one round trip; returns their replies as RESP2 has them, texts as bytes.

        With ``keep_refusals`` a command that Redis refuses has a ``Refusal`` for its reply. Raises
        ``SourceError`` for every other failure, at the latest when the link's time limit is over.
        """
        ...

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        ...


def redis_link(
    url: str, *, timeout: float, sentinel_master: str | None = None, sentinel_password: str | None = None
) -> Link:
    """A link whose every call ends within ``timeout`` seconds; the rest as for ``redis_client``.

    Raises ``UsageProblem`` for what is no URL of a Redis.
    """
    if not is_sentinel(url) and knows(url):
        return RedisWire(url, timeout=timeout)
    # Importing redis-py takes longer than most of what is done over a link.
    from sitegenctl.adapters.redis.redispy import ClientLink, redis_client

    return ClientLink(
        redis_client(url, timeout=timeout, sentinel_master=sentinel_master, sentinel_password=sentinel_password)
    )


class SentinelOptions(Protocol):
    """What sentinels are asked for, and with which password of theirs; None where there are none."""

    @property
    def sentinel_master(self) -> str | None:
        """The name under which sentinels know the Redis."""
        ...

    @property
    def sentinel_password(self) -> str | None:
        """That of the sentinels, not of the Redis that they watch."""
        ...


def opened_link(url: str, options: SentinelOptions, *, timeout: float) -> AbstractAsyncContextManager[Link]:
    """A link that is closed at the end."""
    return aclosing(_link_of(url, options, timeout=timeout))


class Links:
    """Links that are kept from one call to the next; each serves one caller at a time."""

    def __init__(self, url: str, options: SentinelOptions, *, timeout: float) -> None:
        self._url = url
        self._options = options
        self._timeout = timeout
        self._idle: list[Link] = []
        self._is_closed = False

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Link]:
        """A link that nobody else is using meanwhile."""
        link = self._idle.pop() if self._idle else _link_of(self._url, self._options, timeout=self._timeout)
        try:
            yield link
        finally:
            if self._is_closed:
                # Whoever was given up with everything else comes last.
                await link.aclose()
            else:
                self._idle.append(link)

    async def aclose(self) -> None:
        """Close those that nobody is using now, and every other as soon as it is left."""
        self._is_closed = True
        idle, self._idle = self._idle, []
        for link in idle:
            await link.aclose()


def _link_of(url: str, options: SentinelOptions, *, timeout: float) -> Link:
    return redis_link(
        url,
        timeout=timeout,
        sentinel_master=options.sentinel_master,
        sentinel_password=options.sentinel_password,
    )


async def require_writable(link: Link, key: str) -> None:
    """Raise ``SourceError`` where Redis refuses writes; ``key`` never exists, so that nothing is changed."""
    (reply,) = await link.execute(("LPUSHX", key, ""), keep_refusals=True)
    if isinstance(reply, Refusal):
        raise write_refused(reply)


def literally(text: str) -> str:
    """The text as a pattern of Redis's that matches nothing else."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)
