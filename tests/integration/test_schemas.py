"""The main commands on the schemas of real installations: other types for ids, times and statuses."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from sitegenctl.domain.diagnosis.listing import OrderFilter, SortBy
from sitegenctl.domain.queue.defaults import MAX_ORDER_ID
from tests.support.world import World

BIGINT = (
    "ALTER TABLE site_orders ALTER id TYPE bigint",
    "ALTER TABLE site_onboardings ALTER order_id TYPE bigint",
    "ALTER TABLE site_generation_logs ALTER id TYPE bigint, ALTER order_id TYPE bigint",
)
TIME_ZONES = (
    "ALTER TABLE site_orders"
    + ",".join(
        f" ALTER {column} TYPE timestamptz USING {column} AT TIME ZONE 'utc'"
        for column in ("created_at", "updated_at", "onboarding_completed_at")
    ),
    "ALTER TABLE site_generation_logs ALTER created_at TYPE timestamptz",
)
VARCHAR = ("ALTER TABLE site_orders ALTER status TYPE varchar USING status::text", "DROP TYPE siteorderstatus")
TEXT = ("ALTER TABLE site_orders ALTER status TYPE text", "DROP TYPE siteorderstatus")
OTHER_NAME = ("ALTER TYPE siteorderstatus RENAME TO order_state",)

SCHEMAS = {
    "contract": (),
    "bigint": BIGINT,
    "timestamptz": TIME_ZONES,
    "varchar": VARCHAR,
    "text": TEXT,
    "other enum": OTHER_NAME,
    "all": (*BIGINT, *TIME_ZONES, *VARCHAR),
}
HUGE = 5_000_000_000


# Time zones of the database's sessions behind UTC and ahead of it: where times have no zone, and where they have one.
IN_ZONES = pytest.mark.parametrize(
    ("schema", "zone"),
    [
        *((schema, "America/Sao_Paulo") for schema in SCHEMAS),
        *((schema, "Asia/Tokyo") for schema in ("contract", "timestamptz")),
    ],
)


def alter_zone(world: World, zone: str) -> None:
    name = world.database_url.rpartition("/")[2]
    world.sql(f"ALTER DATABASE {name} SET timezone TO '{zone}'")


def alter(world: World, statements: tuple[str, ...]) -> None:
    for statement in statements:
        world.sql(statement)


def run(world: World, *arguments: str, code: int = 0) -> Any:
    ran = world.run("-o", "json", *arguments)
    assert ran.returncode == code, ran.stdout + ran.stderr
    return json.loads(ran.stdout)["data"]


def condition(world: World, order_id: int) -> str:
    return str(run(world, "inspect", str(order_id))["condition"])


def written_ago(world: World, order_id: int) -> float:
    """Seconds since the order was written, its time without a zone taken for UTC."""
    (row,) = world.sql(
        "SELECT date_part('epoch', now()) - date_part('epoch', updated_at) AS ago FROM site_orders WHERE id = $1",
        order_id,
    )
    return float(row["ago"])


@IN_ZONES
def test_main_commands_on_each_schema(world: World, schema: str, zone: str) -> None:
    alter_zone(world, zone)
    world.order(1)
    world.order(2, "REVIEW", files=8)
    world.order(3, "GENERATING")
    world.order(4)
    world.order(5, "GENERATING", steps=["START", "ERROR"])
    alter(world, SCHEMAS[schema])
    conditions = {order["order_id"]: order["condition"] for order in run(world, "inspect", "orders")["orders"]}
    assert conditions == {1: "unstarted", 2: "done", 3: "interrupted", 4: "unstarted", 5: "failed"}

    run(world, "enqueue", "1")
    assert (world.status(1), condition(world, 1)) == ("GENERATING", "queued")
    run(world, "reset", "2", "--yes")
    assert (world.status(2), world.site_files(2)) == ("GENERATING", [])
    run(world, "repair", "3", "--yes")
    assert (world.status(3), condition(world, 3)) == ("GENERATING", "queued")
    run(world, "maintain")
    assert (world.status(4), condition(world, 4), condition(world, 5)) == ("GENERATING", "queued", "queued")
    for order_id in (1, 2, 4):
        assert -60 < written_ago(world, order_id) < 600
    assert len(world.queued()) == 5

    # Just enqueued, its message lost: not taken for one that was left behind hours ago.
    with world.redis() as client:
        client.flushdb()
    assert condition(world, 1) == "settling"
    health = json.loads(world.run("-o", "json", "doctor").stdout)["data"]
    checks = {check["name"]: check["status"] for check in health["checks"]}
    assert (checks["postgresql"], checks["schema"]) == ("ok", "ok")


@IN_ZONES
def test_lists_on_each_schema(world: World, schema: str, zone: str) -> None:
    alter_zone(world, zone)
    world.order(1, "GENERATING", age="3 hours")
    world.order(2, "REVIEW", age="2 hours", files=8)
    world.order(3, "DELIVERED", age="5 hours", files=8)
    alter(world, SCHEMAS[schema])
    for sort in SortBy:
        listed = run(world, "inspect", "orders", "--sort", sort.value)["orders"]
        assert {order["order_id"] for order in listed} == {1, 2, 3}
    assert {order["order_id"] for order in run(world, "inspect", "orders", "--since", "150m")["orders"]} == {2}
    still = OrderFilter(still_for=timedelta(minutes=150))
    assert world.with_session(lambda session: session.orders.count_settled(still, excluding=[])) == 1
    assert [row["order_id"] for row in run(world, "inspect", "orders", "--status", "REVIEW")["orders"]] == [2]


@pytest.mark.parametrize("statements", [BIGINT, (*BIGINT, *TIME_ZONES, *TEXT)], ids=["bigint", "all"])
@pytest.mark.parametrize("order_id", [HUGE, 2**63 - 1])
def test_large_order_id(world: World, statements: tuple[str, ...], order_id: int) -> None:
    world.order(1)
    alter(world, statements)
    world.sql("ALTER TABLE site_onboardings DROP CONSTRAINT site_onboardings_order_id_fkey")
    world.sql("UPDATE site_orders SET id = $1", order_id)
    world.sql("UPDATE site_onboardings SET order_id = $1", order_id)
    run(world, "enqueue", str(order_id))
    assert condition(world, order_id) == "queued"
    assert world.steps(order_id) == ["OPERATOR_ENQUEUE"]
    run(world, "maintain")
    assert world.status(order_id) == "GENERATING"


@pytest.mark.parametrize("order_id", [2**31, HUGE, 2**63 - 1, 2**63])
def test_order_id_beyond_the_column_type_is_handled(world: World, order_id: int) -> None:
    world.order(4)
    world.order(5, "GENERATING", steps=["START", "ERROR"])
    world.publish(order_id)
    # An order of that number may still be created, and the message has no date: an operator must decide.
    run(world, "maintain", code=4 if order_id <= MAX_ORDER_ID else 0)
    assert (condition(world, 4), condition(world, 5)) == ("queued", "queued")


ODD_ROWS = {
    "details without end": "UPDATE site_generation_logs SET details = (repeat('[', 2000) || repeat(']', 2000))::json",
    "number without end": "UPDATE site_generation_logs SET details = ('[' || repeat('9', 9000) || ']')::json",
    "odd details": 'UPDATE site_generation_logs SET details = \'{"task_id": [1], "actor": {}, "after": 7}\'',
    "time without end": "UPDATE site_generation_logs SET created_at = 'infinity'",
    "last time there is": "UPDATE site_generation_logs SET created_at = '294276-12-31 23:59:59'",
    "first time there is": "UPDATE site_generation_logs SET created_at = '4713-01-01 00:00:00 BC'",
    "order of the last time": "UPDATE site_orders SET updated_at = '294276-12-31 23:59:59' WHERE id = 3",
    "order of the first time": "UPDATE site_orders SET updated_at = '4713-01-01 00:00:00 BC' WHERE id = 3",
}


@pytest.mark.parametrize("zone", ["America/Sao_Paulo", "Asia/Tokyo"])
@pytest.mark.parametrize("statement", ODD_ROWS.values(), ids=ODD_ROWS)
def test_invalid_row_is_handled(world: World, statement: str, zone: str) -> None:
    alter_zone(world, zone)
    world.order(3, "GENERATING", steps=["START", "OPERATOR_ENQUEUE"])
    world.sql(statement)
    world.order(4)
    run(world, "maintain")
    assert condition(world, 4) == "queued"
    assert run(world, "inspect", "orders")["orders"]
