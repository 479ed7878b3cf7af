"""Ways to a Redis: what those who only send commands need, and which client gives it to them."""

from __future__ import annotations

import re
from typing import Any, Protocol

from sitegenctl.adapters.redis_urls import is_sentinel
from sitegenctl.adapters.redis_wire import Command, RedisWire, knows


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

    Raises ``SourceError`` for what is no URL of a Redis.
    """
    if not is_sentinel(url) and knows(url):
        return RedisWire(url, timeout=timeout)
    # Importing redis-py takes longer than most of what is done over a link.
    from sitegenctl.adapters.redis_connection import ClientLink, redis_client

    return ClientLink(
        redis_client(url, timeout=timeout, sentinel_master=sentinel_master, sentinel_password=sentinel_password)
    )


def literally(text: str) -> str:
    """The text as a pattern of Redis's that matches nothing else."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)
