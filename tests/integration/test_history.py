"""Operations and runs read from the log of a real PostgreSQL."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from sitegenctl.adapters.postgres import log
from sitegenctl.domain.orders.operation import new_operation_id
from tests.support.world import World

NOISE = """
INSERT INTO site_generation_logs (order_id, step, message, created_at)
SELECT $1, 'WRITE_PROGRESS', 'x', localtimestamp - $3::interval + n * interval '1 millisecond'
  FROM generate_series(1, $2) AS n
"""


def journal(world: World, order_id: int, operation: str, *, actor: str = "ana", age: str = "0s") -> None:
    details = {"operation": operation, "actor": actor, "host": "crm", "command": "enqueue", "before": "BUILDING"}
    world.sql(
        "INSERT INTO site_generation_logs (order_id, step, message, details, created_at)"
        " VALUES ($1, 'OPERATOR_ENQUEUE', 'Enqueued', $2, localtimestamp - $3::text::interval)",
        *(order_id, json.dumps(details), age),
    )


@pytest.mark.parametrize("clock", [timedelta(0), timedelta(minutes=5), timedelta(hours=-9), timedelta(hours=20)])
def test_operation_is_found_by_its_id_whatever_the_clocks(clock: timedelta, world: World) -> None:
    for order_id in (1, 2, 3):
        world.order(order_id)
    began = datetime.now(UTC) - timedelta(hours=2)
    operation, other = new_operation_id(began + clock), new_operation_id(began + clock)
    world.sql(NOISE, 1, 300, timedelta(hours=50))
    journal(world, 1, operation, age="2 hours")
    journal(world, 2, other, age="2 hours")
    world.sql(NOISE, 1, 300, timedelta(minutes=90))
    # A long operation goes on after the window in which it is looked for.
    journal(world, 3, operation, age="1 hour")
    found = world.with_session(lambda session: session.orders.read_operation(operation))
    assert found is not None
    assert [entry.order_id for entry in found.entries] == [1, 3]
    assert world.with_session(lambda session: session.orders.read_operation(new_operation_id(began))) is None


def test_newest_operations_of_an_actor_come_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sitegenctl.adapters.postgres.orders._JOURNAL_WINDOW", 7)
    world.order(1)
    ids = [f"000000{number}-000" for number in range(6)]
    for number, operation in enumerate(ids):
        world.sql(NOISE, 1, 10, timedelta(hours=1))
        journal(world, 1, operation, actor="ana" if number % 2 else "bob")
    newest = world.with_session(lambda session: session.orders.newest_operations("ana", limit=2))
    assert [operation.operation_id for operation in newest] == [ids[5], ids[3]]
    everyone = world.with_session(lambda session: session.orders.newest_operations())
    assert [operation.operation_id for operation in everyone] == ids[::-1]


def test_window_is_found_without_reading_the_log(world: World) -> None:
    world.order(1)
    world.sql(NOISE, 1, 20_000, timedelta(hours=1))
    world.sql("ANALYZE site_generation_logs")
    plan = world.sql(f"EXPLAIN {log.IDS}", datetime.now(UTC).replace(tzinfo=None))
    assert [line for (line,) in plan if "Seq Scan" in line] == []
