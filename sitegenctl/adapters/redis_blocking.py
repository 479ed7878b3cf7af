"""Connections to Redis that block, for RQ's own worker and what else is done by RQ itself: it takes no other.

Everything else goes through ``redis_connection``, which says what a URL may hold.
"""

from __future__ import annotations

from typing import Any

import redis
from redis import Redis
from redis.sentinel import Sentinel

from sitegenctl.adapters.redis_connection import redis_client
from sitegenctl.adapters.redis_urls import client_url, credentials, database_number, is_sentinel, sentinels

# Seconds that making a connection may take where nothing else is said.
_CONNECTING = 5.0


def blocking_client(
    url: str,
    *,
    timeout: float | None = None,
    sentinel_master: str | None = None,
    sentinel_password: str | None = None,
) -> Redis:
    """A client whose calls block, without ``timeout`` (in seconds) for as long as they must.

    Raises ``UsageProblem`` and ``SourceError`` as ``redis_client`` does.
    """
    # It checks the URL, and connects to nothing.
    redis_client(url, timeout=_CONNECTING, sentinel_master=sentinel_master, sentinel_password=sentinel_password)
    limits: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout or _CONNECTING}
    if redis.VERSION >= (5,):
        limits["protocol"] = 2
    if not is_sentinel(url) or sentinel_master is None:
        return Redis.from_url(client_url(url), **limits)
    watchers = Sentinel(  # type: ignore[no-untyped-call]
        sentinels(url),
        sentinel_kwargs=limits | ({"password": sentinel_password} if sentinel_password else {}),
        **limits,
        **credentials(url),
        db=database_number(url),
    )
    client: Redis = watchers.master_for(sentinel_master, Redis)  # type: ignore[no-untyped-call]
    return client
