"""redis-py's asyncio client, for tests that act as another client; the same on redis-py 4.6 and newer."""

from __future__ import annotations

import redis
from redis.asyncio import Redis


def async_redis(url: str) -> Redis:
    """A client that speaks RESP2."""
    return Redis.from_url(url, **({"protocol": 2} if redis.VERSION >= (5,) else {}))


async def close(client: Redis) -> None:
    """Close the client and its pool; redis-py 4.6 has no ``aclose`` and keeps the pool by default."""
    closing = client.aclose if hasattr(client, "aclose") else client.close
    await closing(close_connection_pool=True)
