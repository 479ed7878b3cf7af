"""Connections to Redis through redis-py: time limits, sentinels, and its errors in our words.

URLs are read in ``redis_urls``. Where importing redis-py would take longer than what there is to do,
``redis_link`` offers another way.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import redis
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

from sitegenctl.adapters.redis.client import Command
from sitegenctl.adapters.redis.errors import (
    explained,
    late,
    login_refused,
    not_permitted,
    refused,
    unreachable,
    without_errors,
)
from sitegenctl.adapters.redis.urls import client_url, credentials, database_number, is_sentinel, sentinels
from sitegenctl.errors import SourceError, UsageProblem

_Client = TypeVar("_Client", Redis, redis.Redis)

#: Everything that the client lets out when a server is away, refuses or answers too late.
DRIVER_ERRORS = (RedisError, OSError, TimeoutError)

#: Replies whose code the client turns into a class of its own; before redis-py 5 not all of these.
_CODES = {
    code: kind
    for code, name in (("OOM", "OutOfMemoryError"), ("READONLY", "ReadOnlyError"))
    if (kind := getattr(redis.exceptions, name, None)) is not None
}


def redis_client(
    url: str, *, timeout: float, sentinel_master: str | None = None, sentinel_password: str | None = None
) -> Redis:
    """A client whose every call ends within ``timeout`` seconds; it connects when first used.

    ``sentinel_master`` is the name of the Redis to ask the sentinels for, where the URL names sentinels. Raises
    ``UsageProblem`` for what names no Redis, or an option in the URL that it doesn't know.
    """
    limits = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # redis 6 and newer repeat by themselves a call whose answer was lost: a publish would happen twice.
        "retry": Retry(NoBackoff(), 0),
    }
    return client_of(Redis, Sentinel, url, limits, sentinel_master=sentinel_master, sentinel_password=sentinel_password)


def client_of(
    kind: type[_Client],
    watching: type[Any],
    url: str,
    limits: Mapping[str, Any],
    *,
    sentinel_master: str | None,
    sentinel_password: str | None,
) -> _Client:
    """A client of one of redis-py's two kinds, with this kind of ``Sentinel``; ``limits`` are for each connection.

    Raises ``UsageProblem`` as ``redis_client`` does.
    """
    if redis.VERSION >= (5,):
        # The one protocol that all versions know; 8 would speak another, with other types of replies.
        limits = {**limits, "protocol": 2}
    if is_sentinel(url):
        if sentinel_master is None:
            raise UsageProblem(
                "REDIS_URL names sentinels, but not which Redis to ask them for",
                hint="set SITEGENCTL_SENTINEL_MASTER to its name (kombu's master_name)",
            )
        watchers = watching(
            sentinels(url),
            sentinel_kwargs={**limits, **({"password": sentinel_password} if sentinel_password else {})},
            **limits,
            **credentials(url),
            db=database_number(url),
        )
        primary: _Client = watchers.master_for(sentinel_master, kind)
        return primary
    try:
        client = kind.from_url(client_url(url), **limits)
        # What it makes of the URL's options it tells only when it makes a connection, which doesn't connect yet.
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    except (TypeError, ValueError) as exc:
        option = re.search(r"keyword argument '(\w+)'|for '?`?(\w+)", str(exc))
        named = f": {option[1] or option[2]}" if option else ""
        raise UsageProblem(
            f"REDIS_URL has an option that redis-py {redis.__version__} does not take{named}",
            hint="those of TLS are ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_cert_reqs and ssl_check_hostname",
        ) from exc
    return client


async def close(client: Redis) -> None:
    """Close the client and its connections, those to sentinels included."""
    pool = client.connection_pool
    watchers = pool.sentinel_manager.sentinels if isinstance(pool, SentinelConnectionPool) else []
    for each in (client, *watchers):
        # redis 4.6 knows no aclose(), and leaves a pool made from a URL open unless told not to.
        closing = each.aclose if hasattr(each, "aclose") else each.close
        await closing(close_connection_pool=True)


class ClientLink:
    """``Link`` through redis-py: for sentinels, and for what else the wire does not know."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        # It would make objects of some replies, and another client, to whom this is a link too, would not.
        client.response_callbacks.clear()

    async def execute(self, *commands: Command, keep_refusals: bool = False) -> list[Any]:
        """Send these commands in one round trip; ``Link`` has the rest."""
        async with translated():
            pipe = self._client.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)
            replies = await pipe.execute(raise_on_error=False)
        told = [translate(reply) if isinstance(reply, RedisError) else reply for reply in replies]
        return without_errors(explained(commands, told), keep_refusals=keep_refusals)

    async def aclose(self) -> None:
        """Close the connections, those to sentinels included."""
        await close(self._client)


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turn whatever the client raises inside into a ``SourceError``."""
    try:
        yield
    except DRIVER_ERRORS as exc:
        raise translate(exc) from exc


def translate(exc: BaseException) -> SourceError:
    """Say in one line what went wrong with Redis."""
    if isinstance(exc, AuthenticationError):
        return login_refused(str(exc))
    if isinstance(exc, NoPermissionError):
        return not_permitted(str(exc))
    if isinstance(exc, RedisTimeoutError | TimeoutError):
        return late()
    if isinstance(exc, RedisConnectionError | OSError):
        return unreachable(str(exc) or type(exc).__name__)
    code = next((code for code, kind in _CODES.items() if isinstance(exc, kind)), str(exc).partition(" ")[0])
    return refused(str(exc), code)
