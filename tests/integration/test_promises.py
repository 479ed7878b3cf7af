"""Due dates: read from any schema, counted, filtered and sorted alike in Python and SQL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from sitegenctl.domain.diagnosis.condition import Condition, Diagnosis
from sitegenctl.domain.diagnosis.listing import ListedOrder, OrderFilter, OrderQuery, SortBy, sort_key
from sitegenctl.domain.orders.order import Order, OrderStatus
from sitegenctl.domain.orders.promise import PromiseCounts
from sitegenctl.session import Session
from tests.support.world import Log, World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ZONES = pytest.mark.parametrize("zone", ["UTC", "America/Sao_Paulo", "Asia/Tokyo"])


def promise(world: World, order_id: int, expected: str | None = None, *, days: int | None = None, **times: str) -> None:
    """Set the due date of an order; ``expected`` and the other ``times`` are SQL, in which ``now`` is in UTC."""
    columns = {"expected_delivery_date": expected, **times}
    for name, moment in columns.items():
        if moment is not None:
            sql = moment.replace("now", "timezone('utc', now())")
            world.sql(f"UPDATE site_orders SET {name} = {sql} WHERE id = $1", order_id)  # noqa: S608 - constants of this module
    world.sql("UPDATE site_orders SET delivery_days = $2 WHERE id = $1", order_id, days)


def read(world: World) -> dict[int, Order]:
    ids = [row["id"] for row in world.sql("SELECT id FROM site_orders")]
    return world.with_session(lambda session: session.orders.read_orders(ids))


def run(world: World, *arguments: str) -> Any:
    ran = world.run("-o", "json", *arguments)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(ran.stdout)["data"]


# Each with the hours until it is due, None without a due date.
PROMISES: Mapping[str, tuple[Mapping[str, Any], float | None]] = {
    "expected": ({"expected": "now + interval '5 hours'"}, 5),
    "late": ({"expected": "now - interval '2 hours'"}, -2),
    "expected before days": ({"expected": "now + interval '5 hours'", "days": 9, "paid_at": "now"}, 5),
    "days after payment": ({"days": 2, "paid_at": "now - interval '1 hour'"}, 47),
    "days without payment": ({"days": 2}, None),
    "payment without days": ({"paid_at": "now"}, None),
    "nothing": ({}, None),
    "before creation": ({"expected": "now - interval '4 hours'"}, None),
    "before payment": (
        {"expected": "now - interval '2 hours'", "paid_at": "now - interval '1 hour'", "days": 1},
        23,
    ),
    "no days": ({"days": 0, "paid_at": "now"}, None),
    "days before payment": ({"days": -3, "paid_at": "now"}, None),
    "absurd days": ({"days": 2_147_483_647, "paid_at": "now"}, None),
    "infinity": ({"expected": "'infinity'"}, None),
    "minus infinity": ({"expected": "'-infinity'", "days": 1, "paid_at": "now"}, 24),
    "year 200000": ({"expected": "'200000-01-01'"}, None),
    "before Christ": ({"expected": "'0044-03-15 BC'"}, None),
    "infinite payment": ({"days": 1, "paid_at": "'infinity'"}, None),
    "last payment": ({"days": 3650, "paid_at": "'9998-12-30'"}, None),
    "delivered once": ({"expected": "now - interval '2 hours'", "delivered_at": "now"}, None),
    "actually delivered": ({"expected": "now - interval '2 hours'", "actual_delivery_date": "now"}, None),
}


@ZONES
def test_due_date_of_an_order(world: World, zone: str) -> None:
    world.sql(f"ALTER DATABASE {world.database_url.rpartition('/')[2]} SET timezone TO '{zone}'")
    for order_id, (columns, _) in enumerate(PROMISES.values(), 1):
        promise(world, world.order(order_id), **columns)
    orders = read(world)
    for order_id, (name, (_, hours)) in enumerate(PROMISES.items(), 1):
        order = orders[order_id]
        assert (order.due_at is None) == (order.due_in is None) == (hours is None), name
        if hours is not None and order.due_in is not None:
            assert abs(order.due_in - hours * HOUR) < timedelta(minutes=2), name


@pytest.mark.parametrize("status", [*OrderStatus, None])
def test_only_paid_and_undelivered_orders_have_due_dates(world: World, status: OrderStatus | None) -> None:
    promise(world, world.order(42, status, files=8), "now - interval '1 hour'")
    has_none = {OrderStatus.PENDING_PAYMENT, OrderStatus.DELIVERED, OrderStatus.CANCELLED}
    assert (read(world)[42].due_at is None) == (status in has_none)
    assert len(run(world, "inspect", "orders", "--late")["orders"]) == (status not in has_none)


@ZONES
def test_a_date_is_due_when_its_day_ends(world: World, zone: str) -> None:
    world.sql(f"ALTER DATABASE {world.database_url.rpartition('/')[2]} SET timezone TO '{zone}'")
    world.sql("ALTER TABLE site_orders ALTER expected_delivery_date TYPE date, ALTER paid_at TYPE timestamptz")
    world.order(42)
    world.sql("UPDATE site_orders SET expected_delivery_date = $1", date(2199, 2, 28))
    assert read(world)[42].due_at == datetime(2199, 3, 1)  # noqa: DTZ001 - naive UTC
    world.sql("UPDATE site_orders SET expected_delivery_date = 'infinity'")
    assert read(world)[42].due_at is None


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE site_orders DROP COLUMN {}",
        "ALTER TABLE site_orders ALTER {} TYPE text",
        None,
    ],
    ids=["missing", "other type", "not readable"],
)
def test_schema_without_due_dates_shows_nothing(
    world: World, change: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.order(42, age="2 days")
    promise(world, 42, "now - interval '1 hour'", days=1, paid_at="now - interval '2 days'")
    if change is None:
        role = f"{world.database_url.rpartition('/')[2]}_reader"
        world.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'reader'")
        world.sql(f"GRANT SELECT ON site_onboardings, site_generation_logs TO {role}")
        world.sql(
            "GRANT SELECT (id, customer_name, customer_email, status, site_url, admin_notes, created_at, updated_at,"
            f" onboarding_completed_at) ON site_orders TO {role}"
        )
        address = world.database_url.rpartition("@")[2]
        monkeypatch.setenv("DATABASE_URL", f"postgresql://{role}:reader@{address}")
    else:
        for column in ("expected_delivery_date", "delivery_days"):
            world.sql(change.format(column))
    assert run(world, "inspect")["promises"] is None
    assert "promises" not in world.run("inspect").stdout
    assert "due" not in world.run("inspect", "42").stdout + world.run("inspect", "orders").stdout
    (listed,) = run(world, "inspect", "orders", "--sort", "due")["orders"]
    assert (listed["due_at"], listed["promise"]) == (None, None)
    assert run(world, "inspect", "orders", "--due", "9d")["orders"] == []


@pytest.fixture
def promised(world: World) -> list[int]:
    """Orders in every status with the same due dates, some of them twice."""
    ids = []
    for number, status in enumerate([*OrderStatus, None] * 4, 1):
        ids.append(world.order(number, status, files=8))
        hours = [30, -2, None, 5, 30][number % 5]
        if hours is not None:
            promise(world, number, f"date_trunc('hour', now) + interval '{hours} hours'")
    return ids


def test_due_sort_agrees_in_python_and_sql(world: World, promised: list[int]) -> None:
    orders = read(world)
    verdict = Diagnosis(condition=Condition.DONE, evidence=("any",))
    settled = {number for number in promised if orders[number].status not in (None, *_OPEN)}

    async def ids(session: Session) -> list[tuple[OrderQuery, list[int]]]:
        queries = [
            OrderQuery(sort=SortBy.DUE, reverse=reverse, limit=limit, filter=only)
            for reverse in (False, True)
            for limit in (3, 100)
            for only in (OrderFilter(), OrderFilter(due_within=6 * HOUR), OrderFilter(search="ana"))
        ]
        read = session.orders.read_settled
        return [(each, [order.order_id for order in await read(each, excluding=())]) for each in queries]

    for query, by_database in world.with_session(ids):
        listed = [
            ListedOrder(order_id=number, order=orders[number], verdict=verdict)
            for number in settled
            if query.filter.matches(orders[number])
        ]
        assert by_database == [each.order_id for each in sorted(listed, key=sort_key(query))][: query.limit], query


_OPEN = (OrderStatus.BUILDING, OrderStatus.GENERATING)


def test_due_filter_agrees_in_python_and_sql(world: World, promised: list[int]) -> None:
    orders = read(world)

    async def check(session: Session) -> None:
        for only in (
            OrderFilter(due_within=timedelta(0)),
            OrderFilter(due_within=DAY),
            OrderFilter(due_after=DAY),
            OrderFilter(due_within=DAY, due_after=timedelta(0)),
            OrderFilter(due_within=timedelta(seconds=1e10)),
        ):
            expected = {number for number in promised if only.matches(orders[number])}
            opened = await session.orders.read_open((), only)
            settled = await session.orders.read_settled(OrderQuery(filter=only, limit=100), excluding=())
            assert {*opened, *(order.order_id for order in settled)} == expected, only
            assert await session.orders.count_settled(only, excluding=()) == len(settled)

    world.with_session(check)


def test_counts_match_the_lists(world: World, promised: list[int]) -> None:
    counts = world.with_session(lambda session: session.orders.count_promises(DAY))
    late, soon = (run(world, "inspect", "orders", *filtered)["total"] for filtered in (["--late"], ["--due", "1d"]))
    assert counts == PromiseCounts(late=late, due_soon=soon - late)
    assert run(world, "inspect")["promises"] == {"late": late, "will_be_late": 0, "due_soon": soon - late}
    assert f"promises   {late} late · {soon - late} due soon" in world.run("status").stdout
    metrics = world.run("metrics").stdout
    assert f"sitegenctl_orders_late {float(late)}" in metrics
    assert f"sitegenctl_orders_due_soon {float(soon - late)}" in metrics


def test_due_soon_is_a_setting(world: World, promised: list[int]) -> None:
    counts = [run_with(world, due_soon)["due_soon"] for due_soon in ("1s", "1d", "2d")]
    assert counts == sorted(counts)
    assert len(set(counts)) == 3


def run_with(world: World, due_soon: str) -> Any:
    return json.loads(world.run("-o", "json", "inspect", SITEGENCTL_DUE_SOON=due_soon).stdout)["data"]["promises"]


def test_condition_is_the_same_for_a_late_order(world: World) -> None:
    world.order(1)
    promise(world, world.order(2), "now - interval '1 hour'")
    on_time, late = run(world, "inspect", "orders", "--sort", "id")["orders"]
    assert (on_time["condition"], on_time["severity"]) == (late["condition"], late["severity"])
    assert (on_time["promise"], late["promise"]) == (None, "late")
    shown = world.run("inspect", "2").stdout
    assert "UTC, late 1h" in shown


@ZONES
def test_history_marks_sites_generated_after_the_due_date(world: World, log: Log, zone: str) -> None:
    world.sql(f"ALTER DATABASE {world.database_url.rpartition('/')[2]} SET timezone TO '{zone}'")
    due = {
        1: ("now - interval '3 hours'", {}, 2),
        2: ("now - interval '30 minutes'", {}, None),
        3: ("now - interval '3 hours'", {"delivered_at": "now - interval '4 hours'"}, None),  # generated once more
        4: ("now - interval '3 hours'", {"delivered_at": "now"}, 2),
        5: (None, {}, None),
    }
    for order_id, (expected, times, _) in due.items():
        promise(world, world.order(order_id, "REVIEW", age="9 hours", files=8), expected, **times)
        log.run(order_id, ago=3600)
    promise(world, world.order(6, "GENERATING", age="9 hours"), "now - interval '3 hours'")
    log.run(6, ago=3600, error="no space")
    runs = run(world, "history", "--since", "2h")["activity"]
    late = {each["order_id"]: each["late_seconds"] for each in runs}
    assert {order_id: round(seconds / 3600) if seconds else None for order_id, seconds in late.items()} == {
        **{order_id: hours for order_id, (_, _, hours) in due.items()},
        6: None,
    }
    assert world.run("history", "--since", "2h").stdout.count("2h after its due date") == 2


def test_counting_reads_undelivered_orders_only(world: World) -> None:
    world.sql(
        "INSERT INTO site_orders (customer_name, customer_email, status, total_price, expected_delivery_date)"
        " SELECT 'Ana', 'ana@example.com', CASE WHEN n % 1000 = 0 THEN 'REVIEW' ELSE 'DELIVERED' END::siteorderstatus,"
        " 1, timezone('utc', now()) FROM generate_series(1, 20000) n"
    )
    world.sql("ANALYZE site_orders")

    async def plans(session: Session) -> list[str]:
        from sitegenctl.adapters.postgres import queries

        access: Any = session.orders
        join = await access._promise()
        listed = OrderQuery(filter=OrderFilter(due_within=DAY), sort=SortBy.DUE)
        parameters = (*queries.restriction(listed.filter), [], 50)
        counted = await access._main.fetch(f"EXPLAIN {queries.count_due(join)}", DAY)
        sorted_by_due = await access._main.fetch(f"EXPLAIN {queries.settled(listed, join)}", *parameters)
        return ["\n".join(row[0] for row in rows) for rows in (counted, sorted_by_due)]

    for plan in world.with_session(plans):
        assert "Seq Scan on site_orders" not in plan, plan
