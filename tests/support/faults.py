"""Faults on purpose: a Redis that refuses writes, locked orders."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import asyncpg
import pytest

from sitegenctl.config.settings import parse_duration
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.operations import failpoints as failpoints
from sitegenctl.operations.failpoints import Failpoint
from sitegenctl.operations.observe import observe
from sitegenctl.session import Session
from tests.support.world import World, with_grace


def condition(world: World, order_id: int = 42, grace: str = "2m") -> Condition:
    async def look(session: Session) -> Condition:
        seen = await observe(with_grace(session, parse_duration(grace)), [order_id])
        return seen.diagnose(order_id).condition

    return world.with_session(look)


@contextlib.contextmanager
def refusing_redis(world: World):
    """Redis out of memory: it answers every reading, and refuses every write."""
    with world.redis() as client:
        client.config_set("maxmemory", "1")
        try:
            yield
        finally:
            client.config_set("maxmemory", "0")


@contextlib.contextmanager
def redis_refusing_from(world: World, checkpoint: Failpoint, monkeypatch: pytest.MonkeyPatch):
    """Redis that runs out of memory at this moment of the enqueue."""
    with contextlib.ExitStack() as stack, monkeypatch.context() as patch:

        def reach(reached: Failpoint) -> None:
            if reached is checkpoint:
                stack.enter_context(refusing_redis(world))

        patch.setattr(failpoints, "reached", reach)
        yield


@contextlib.contextmanager
def held_lock(world: World, key: int):
    """Hold an advisory lock, in a connection of its own."""
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(world.database_url))
    loop.run_until_complete(connection.execute(f"SELECT pg_advisory_lock({key})"))
    try:
        yield
    finally:
        loop.run_until_complete(connection.close())
        loop.close()


LOCK = "BEGIN; SELECT FROM site_orders WHERE id = 42 FOR UPDATE"


@contextlib.contextmanager
def held(world: World, statement: str, **settings: str) -> Iterator[int]:
    """Hold whatever the statement locks, in a connection of its own; yields its pid."""
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(world.database_url, server_settings=settings))
    loop.run_until_complete(connection.execute(statement))
    try:
        yield connection.get_server_pid()
    finally:
        loop.run_until_complete(connection.close())
        loop.close()
