"""Connections to Redis: time limits, sentinels, and errors in one line. URLs are read in ``redis_urls``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ConnectionError as RedisConnectionError,
    NoPermissionError,
    RedisError,
    TimeoutError as RedisTimeoutError,
)

from sitegenctl.adapters.redis_urls import client_url, credentials, database_number, is_sentinel, sentinels
from sitegenctl.errors import SourceError

#: Everything that the client lets out when a server is away, refuses or answers too late.
DRIVER_ERRORS = (RedisError, OSError, TimeoutError)


def redis_client(
    url: str, *, timeout: float, sentinel_master: str | None = None, sentinel_password: str | None = None
) -> Redis:
    """A client whose every call ends within ``timeout`` seconds; it connects when first used.

    ``sentinel_master`` is the name of the Redis to ask the sentinels for, where the URL names sentinels.
    """
    limits: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # redis 6 and newer repeat by themselves a call whose answer was lost: a publish would happen twice.
        "retry": Retry(NoBackoff(), 0),
    }
    if is_sentinel(url):
        if sentinel_master is None:
            raise SourceError(
                "REDIS_URL names sentinels, but not which Redis to ask them for",
                hint="set SITEGENCTL_SENTINEL_MASTER to its name (kombu's master_name)",
                source="broker",
            )
        watchers = Sentinel(  # type: ignore[no-untyped-call]
            sentinels(url),
            sentinel_kwargs=limits | ({"password": sentinel_password} if sentinel_password else {}),
            **limits,
            **credentials(url),
            db=database_number(url),
        )
        client: Redis = watchers.master_for(sentinel_master, Redis)
        return client
    return Redis.from_url(client_url(url), decode_responses=False, **limits)


async def close(client: Redis) -> None:
    """Close the client and its connections, those to sentinels included."""
    pool = client.connection_pool
    watchers = pool.sentinel_manager.sentinels if isinstance(pool, SentinelConnectionPool) else []
    for each in (client, *watchers):
        # redis 4.6 knows no aclose(), and leaves a pool made from a URL open unless told not to.
        closing = each.aclose if hasattr(each, "aclose") else each.close
        await closing(close_connection_pool=True)


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turn whatever the client raises inside into a ``SourceError``."""
    try:
        yield
    except DRIVER_ERRORS as exc:
        raise translate(exc) from exc


def translate(exc: BaseException) -> SourceError:
    """Say in one line what went wrong with Redis."""
    if isinstance(exc, AuthenticationError | NoPermissionError):
        return SourceError(f"Redis refuses the login: {exc}", hint="check the password in REDIS_URL", source="broker")
    if isinstance(exc, RedisTimeoutError | TimeoutError):
        reason = "it did not answer in time"
    elif isinstance(exc, RedisConnectionError | OSError):
        reason = str(exc) or type(exc).__name__
    else:
        return SourceError(f"Redis refused: {exc}", source="broker")
    return SourceError(
        f"Redis can't be reached: {reason.splitlines()[0]}",
        hint="is Redis up, and REDIS_URL right? (sitegenctl config show)",
        source="broker",
    )
