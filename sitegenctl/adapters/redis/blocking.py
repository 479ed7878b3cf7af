"""redis-py's blocking client, for RQ's own objects: they accept no other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis import Redis
from redis.exceptions import AuthenticationError, ConnectionError as RedisConnectionError, RedisError, TimeoutError
from redis.sentinel import Sentinel

from sitegenctl.adapters.redis.errors import LoginRefused, Refusal, late, unreachable
from sitegenctl.adapters.redis.urls import client_url, parse_url
from sitegenctl.adapters.system.network import connection_problem

# Seconds for connecting where the calls themselves have no time limit.
_CONNECT_TIMEOUT = 5.0


def blocking_client(
    url: str,
    *,
    timeout: float | None = None,
    sentinel_master: str | None = None,
    sentinel_password: str | None = None,
) -> Redis:
    """A client whose calls block for ``timeout`` seconds at most. Raises ``UsageProblem`` for an invalid URL."""
    limits: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout or _CONNECT_TIMEOUT}
    if redis.VERSION >= (5,):
        # The protocol of all versions; redis-py 8 would use another one by default.
        limits["protocol"] = 2
    address = parse_url(url)
    if not address.sentinels:
        return Redis.from_url(client_url(url), **limits)
    watchers = Sentinel(  # type: ignore[no-untyped-call]
        [(each.host, each.port) for each in address.sentinels],
        sentinel_kwargs={**limits, **({"password": sentinel_password} if sentinel_password else {})},
        **limits,
        username=address.username,
        password=address.password,
        db=address.database,
    )
    master: Redis = watchers.master_for(sentinel_master or "", Redis)  # type: ignore[no-untyped-call]
    return master


@contextmanager
def translated() -> Iterator[None]:
    """Raise ``SourceError`` for redis-py's errors."""
    try:
        yield
    except AuthenticationError as exc:
        raise LoginRefused(str(exc)) from exc
    except TimeoutError as exc:
        raise late() from exc
    except (RedisConnectionError, OSError) as exc:
        raise unreachable(str(exc) or connection_problem(exc)) from exc
    except RedisError as exc:
        raise Refusal(f"Redis refused: {exc}") from exc
