"""Connections to Redis: URLs as deployments have them, time limits, and errors in one line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ConnectionError as RedisConnectionError,
    NoPermissionError,
    RedisError,
    TimeoutError as RedisTimeoutError,
)

from sitegenctl.errors import SourceError

#: Everything that the client lets out when a server is away, refuses or answers too late.
DRIVER_ERRORS = (RedisError, OSError, TimeoutError)


def redis_client(url: str, *, timeout: float) -> Redis:
    """A client whose every call ends within ``timeout`` seconds; it connects when first used."""
    return Redis.from_url(
        client_url(url),
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        decode_responses=False,
        # redis 6 and newer repeat by themselves a call whose answer was lost: a publish would happen twice.
        retry=Retry(NoBackoff(), 0),
    )


async def close(client: Redis) -> None:
    """Close the client and its connections."""
    # redis 4.6 knows no aclose(), and leaves a pool made from a URL open unless told not to.
    closing = client.aclose if hasattr(client, "aclose") else client.close
    await closing(close_connection_pool=True)


def client_url(url: str) -> str:
    """The URL as redis-py wants it: kombu writes ``redis+socket://`` for what redis-py calls ``unix://``."""
    parts = urlsplit(url)
    if parts.scheme in ("redis+socket", "unix"):
        query = parts.query.replace("virtual_host=", "db=")
        # Not urlunsplit, which drops the // of a URL without a host.
        return f"unix://{parts.netloc}{parts.path}" + (f"?{query}" if query else "")
    if parts.scheme not in ("redis", "rediss"):
        raise SourceError("REDIS_URL is not a Redis URL", hint="it looks like redis://host:6379/0", source="broker")
    return url


def database_number(url: str) -> int:
    """The number of the Redis database that the URL names; 0 when it names none."""
    path = urlsplit(url).path.strip("/")
    return int(path) if path.isdigit() else 0


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
