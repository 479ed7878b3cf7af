"""Faults on purpose: a Redis that refuses writes, locked orders."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import asyncpg
import pytest

from sitegenctl.config.settings import parse_duration
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.operations import failpoints
from sitegenctl.operations.failpoints import Failpoint
from sitegenctl.operations.observe import observe
from sitegenctl.session import Session
from tests.support.world import World, with_grace


def condition(world: World, order_id: int = 42, grace: str = "2m") -> Condition:
    async def work(session: Session) -> Condition:
        snapshot = await observe(with_grace(session, parse_duration(grace)), [order_id])
        return snapshot.diagnose(order_id).condition

    return world.with_session(work)


@contextlib.contextmanager
def refusing_redis(world: World):
    """Redis out of memory: it answers reads and refuses writes."""
    with world.redis() as client:
        client.config_set("maxmemory", "1")
        try:
            yield
        finally:
            client.config_set("maxmemory", "0")


@contextlib.contextmanager
def redis_refusing_from(world: World, failpoint: Failpoint, monkeypatch: pytest.MonkeyPatch):
    """Redis that runs out of memory at a failpoint."""
    with contextlib.ExitStack() as stack, monkeypatch.context() as patch:

        def reach(reached: Failpoint) -> None:
            if reached is failpoint:
                stack.enter_context(refusing_redis(world))

        patch.setattr(failpoints, "reached", reach)
        yield


LOCK = "BEGIN; SELECT FROM site_orders WHERE id = 42 FOR UPDATE"


@contextlib.contextmanager
def held(world: World, statement: str, **settings: str) -> Iterator[int]:
    """Hold the statement's locks in a connection of its own; yields the pid of its server process."""
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(world.database_url, server_settings=settings))
    loop.run_until_complete(connection.execute(statement))
    try:
        yield connection.get_server_pid()
    finally:
        loop.run_until_complete(connection.close())
        loop.close()


def faulty_orders(world: World) -> None:
    """One order of each kind that maintenance repairs, and others that it leaves alone."""
    world.order(1, "REVIEW", steps=["START", "SUCCESS"], files=8)
    world.order(2, "GENERATING")  # interrupted
    world.order(3)  # unstarted
    world.order(4, "GENERATING", steps=["START", "ERROR"], files=6)  # failed
    world.order(5, "GENERATING", steps=["START", "PHASE_1_START"])  # empty
    world.order(6, "GENERATING", steps=["START", "ERROR"] * 3)  # failed, attempts used up
    world.order(7, "GENERATING", onboarding="missing")  # blocked
    world.order(8, steps=["OPERATOR_CANCEL"])  # held
    world.order(9, "GENERATING")  # duplicated
    world.publish(9)
    world.publish(9)
