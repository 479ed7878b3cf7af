"""Connections to Redis that block, for RQ's own worker and what else is done by RQ itself: it takes no other.

Everything else goes through ``redis_connection``, which says what a URL may hold.
"""

from __future__ import annotations

from redis import Redis
from redis.sentinel import Sentinel

from sitegenctl.adapters.redis.redispy import client_of

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

    Raises ``UsageProblem`` as ``redis_client`` does.
    """
    limits = {"socket_timeout": timeout, "socket_connect_timeout": timeout or _CONNECTING}
    return client_of(Redis, Sentinel, url, limits, sentinel_master=sentinel_master, sentinel_password=sentinel_password)
