"""Reading orders and applying transitions in a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from sitegenctl.adapters.postgres.locks import LOCK_SPACE, RUN_LOCK_KEY, run_lock_key
from sitegenctl.adapters.postgres.orders import PostgresOrders
from sitegenctl.adapters.postgres.queries import log_age
from sitegenctl.domain.diagnosis.listing import OrderFilter, OrderQuery
from sitegenctl.domain.diagnosis.timeline import timeline
from sitegenctl.domain.orders.order import LogRow, Onboarding, Order, OrderStatus
from sitegenctl.domain.orders.run import RunOutcome
from sitegenctl.domain.orders.run_reader import RunRow, RunStream
from sitegenctl.domain.plans.plan import Action, Step
from sitegenctl.domain.ports import Actor
from sitegenctl.errors import SourceError, UsageProblem
from sitegenctl.session import Session
from tests.support.world import World

ACTOR = Actor(user="ana", host="crm", command="enqueue")
REASONS = {42: "Redis refused", 43: "Redis refused"}


def read(world: World, *order_ids: int) -> dict[int, Order]:
    return world.with_session(lambda session: session.orders.read_orders(order_ids))


def step(order: Order, task_id: str = "task-1") -> Step:
    return Step(
        order_id=order.order_id,
        action=Action.ENQUEUE,
        before=order.status,
        after=OrderStatus.GENERATING,
        last_log_id=order.last_log_id,
        publish=task_id,
        verb="enqueued",
    )


def test_order_with_log_and_onboarding(world: World) -> None:
    world.order(42, "GENERATING", steps=["START", "PHASE_1_ERROR", "ERROR"], name="Ana")
    order = read(world, 42, 43)[42]
    assert (order.status, order.customer_name, order.onboarding) == (
        OrderStatus.GENERATING,
        "Ana",
        Onboarding.COMPLETE,
    )
    assert order.history.last_run is not None
    assert order.history.last_run.outcome is RunOutcome.ERROR
    assert (order.history.attempts, order.last_error) == (1, "ERROR")
    assert order.last_log_id == world.log(42)[-1]["id"]


def begin_run(world: World, order_id: int, details: str | None, *, age: str = "5 minutes") -> None:
    world.sql(
        "INSERT INTO site_generation_logs (order_id, step, message, details, created_at)"
        " VALUES ($1, 'START', '', $2::text::json, localtimestamp - $3::text::interval)",
        order_id,
        details,
        age,
    )


@pytest.mark.parametrize("kind", ["json", "jsonb"])
@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ('{"task_id": "t-1", "run_lock": true}', ("t-1", True)),
        ('{"task_id": "t-1"}', ("t-1", False)),
        # Only a run that says so takes the lock; an odd value stops nothing.
        ('{"task_id": ["t-1"], "run_lock": "true"}', (None, False)),
        ('{"inner": {"task_id": "t-1", "run_lock": true}}', (None, False)),
        ('["task_id"]', (None, False)),
        ("[" * 2000 + "]" * 2000, (None, False)),
        (None, (None, False)),
    ],
)
def test_last_run_has_age_task_id_and_lock(
    world: World, kind: str, details: str | None, expected: tuple[str | None, bool]
) -> None:
    world.sql(f"ALTER TABLE site_generation_logs ALTER details TYPE {kind} USING details::text::{kind}")
    world.order(42, "GENERATING", steps=["START", "ERROR", "OPERATOR_ENQUEUE"])
    begin_run(world, 42, details)
    last_run = read(world, 42)[42].history.last_run
    assert last_run is not None
    assert last_run.began is not None
    assert timedelta(minutes=5) <= last_run.began < timedelta(minutes=6)
    assert (last_run.task_id, last_run.takes_lock) == expected


def test_held_run_lock_is_detected(world: World) -> None:
    world.order(42)
    world.order(43)

    async def scenario() -> list[dict[int, bool | None]]:
        store = PostgresOrders(world.database_url, timeout=5)
        worker = await asyncpg.connect(world.database_url)
        seen = []
        async with worker.transaction():
            await worker.fetchval("SELECT pg_try_advisory_xact_lock($1, $2)", LOCK_SPACE, run_lock_key(42))
            # Another program's lock on the same number is none of ours.
            await worker.fetchval("SELECT pg_try_advisory_xact_lock(1, 43), pg_try_advisory_xact_lock(43)")
            seen.append(await store.read_orders([42, 43]))
        seen.append(await store.read_orders([42, 43]))
        await worker.close()
        await store.close()
        return [{number: order.run_lock_held for number, order in orders.items()} for orders in seen]

    assert asyncio.run(scenario()) == [{42: True, 43: False}, {42: False, 43: False}]


@pytest.mark.parametrize("order_id", [1, 2**31 - 1, 2**31, 5_000_000_000, 2**32 + 1, 2**63 - 1])
def test_lock_keys_agree_in_python_and_sql(world: World, order_id: int) -> None:
    key = run_lock_key(order_id)
    assert -(2**31) <= key < 2**31
    (row,) = world.sql(f"SELECT {RUN_LOCK_KEY} AS key FROM (SELECT $1::bigint AS id) o", order_id)  # noqa: S608
    assert row["key"] == key % 2**32


def test_missing_order_onboarding_and_status(world: World) -> None:
    world.order(1, onboarding="missing")
    world.order(2, None, onboarding="partial")
    orders = read(world, 1, 2, 99)
    assert {number: (order.onboarding, order.status) for number, order in orders.items()} == {
        1: (Onboarding.MISSING, OrderStatus.BUILDING),
        2: (Onboarding.PARTIAL, None),
    }


def test_idle_time_uses_the_clock_of_each_column(world: World) -> None:
    """Order columns are naive UTC, log rows are in the zone of the session: 9 hours apart here."""
    name = world.database_url.rsplit("/", 1)[1]
    world.sql(f"ALTER DATABASE {name} SET timezone TO 'Asia/Tokyo'")
    world.order(1, age="3 hours")
    world.order(2, age="3 hours")
    world.sql("INSERT INTO site_generation_logs (order_id, step, message) VALUES (2, 'START', 'now')")
    orders = read(world, 1, 2)
    assert orders[1].idle is not None
    assert orders[2].idle is not None
    assert timedelta(hours=3) <= orders[1].idle < timedelta(hours=3, minutes=1)
    assert timedelta(0) <= orders[2].idle < timedelta(minutes=1)


def test_end_of_daylight_saving_time_reorders_nothing(world: World) -> None:
    """The hour from 1 to 2 comes twice: this run begins in the first and ends in the second."""
    name = world.database_url.rsplit("/", 1)[1]
    world.sql(f"ALTER DATABASE {name} SET timezone TO 'America/New_York'")
    world.order(42)
    steps = {"START": "01:50", "WRITE_FILES": "01:55", "FINALIZE": "01:05", "SUCCESS": "01:10"}
    for each, time in steps.items():
        world.sql(
            "INSERT INTO site_generation_logs (order_id, step, message, created_at)"
            " VALUES (42, $1, '', ($2::text)::timestamp)",
            each,
            f"2025-11-02 {time}",
        )

    async def asked(session: Session) -> tuple[list[LogRow], list[RunRow]]:
        rows = await session.orders.read_log([42])
        return rows, await session.orders.read_run_rows(0, rows[-1].log_id, limit=10)

    rows, run_rows = world.with_session(asked)
    assert [each.step for each in rows] == [*steps]
    assert [entry.step for entry in timeline(rows, [], now=datetime.now(UTC))] == [*steps]
    stream = RunStream()
    for each in run_rows:
        assert each.is_repeated
        assert stream.feed(each) is None
    (run,) = stream.close()
    assert run.duration == 20 * 60
    assert sum(run.stages.values()) == 20 * 60


@pytest.mark.parametrize(
    ("time", "now", "age"),
    [
        ("01:25", "01:30-04", "5 minutes"),
        ("01:50", "01:10-05", "20 minutes"),
        ("01:05", "01:10-05", "5 minutes"),
        ("00:50", "01:10-05", "80 minutes"),
        ("02:05", "01:10-05", None),
    ],
)
def test_log_row_of_the_hour_that_comes_twice_has_an_age(world: World, time: str, now: str, age: str | None) -> None:
    name = world.database_url.rsplit("/", 1)[1]
    world.sql(f"ALTER DATABASE {name} SET timezone TO 'America/New_York'")
    expression = log_age("row.at").replace("now()", f"timestamptz '2025-11-02 {now}'")
    (row,) = world.sql(
        f"SELECT {expression} AS age, ($1::text)::interval AS expected FROM (SELECT ($2::text)::timestamp AS at) row",  # noqa: S608
        age,
        f"2025-11-02 {time}",
    )
    assert row["age"] == row["expected"]


@pytest.mark.parametrize("kind", ["json", "jsonb"])
def test_apply_sets_status_and_journals_in_one_transaction(world: World, kind: str) -> None:
    world.sql(f"ALTER TABLE site_generation_logs ALTER details TYPE {kind} USING details::{kind}")
    world.order(42)
    order = read(world, 42)[42]
    assert order.journal is None
    result = world.with_session(lambda session: session.orders.apply([step(order)], ACTOR))
    assert result.changed == {}
    assert world.status(42) == "GENERATING"
    (row,) = world.log(42)
    assert result.journal_ids == {42: row["id"]}
    assert row["step"] == "OPERATOR_ENQUEUE"
    after = read(world, 42)[42]
    assert after.journal is not None
    assert (after.journal.task_id, after.journal.actor, after.journal.after) == ("task-1", "ana", "GENERATING")
    assert after.idle is not None
    assert after.idle < timedelta(minutes=1)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE site_orders SET status = 'CANCELLED' WHERE id = 42",
        "INSERT INTO site_generation_logs (order_id, step, message) VALUES (42, 'START', 's')",
        "DELETE FROM site_onboardings; DELETE FROM site_orders WHERE id = 42",
    ],
    ids=["status", "log", "gone"],
)
def test_order_changed_since_the_plan_is_left_alone(world: World, change: str) -> None:
    world.order(42)
    world.order(43)
    orders = read(world, 42, 43)
    for statement in change.split("; "):
        world.sql(statement)
    steps = [step(orders[42]), step(orders[43], "task-2")]
    result = world.with_session(lambda session: session.orders.apply(steps, ACTOR))
    assert set(result.changed) == {42}
    assert set(result.journal_ids) == {43}
    assert "OPERATOR_ENQUEUE" not in world.steps(42)


def test_of_concurrent_transitions_one_wins(world: World) -> None:
    """The second waits for the lock; it must see what the first has written, not what its statement began with."""
    world.order(42)
    order = read(world, 42)[42]

    async def both() -> list[int]:
        stores = [PostgresOrders(world.database_url, timeout=10) for _ in range(8)]
        results = await asyncio.gather(
            *(store.apply([step(order, f"task-{n}")], ACTOR) for n, store in enumerate(stores))
        )
        for store in stores:
            await store.close()
        return [len(result.journal_ids) for result in results]

    assert sorted(asyncio.run(both())) == [0] * 7 + [1]
    assert world.steps(42) == ["OPERATOR_ENQUEUE"]


def test_transition_does_not_block_a_worker_that_logs(world: World) -> None:
    world.order(42)

    async def scenario() -> None:
        operator = await asyncpg.connect(world.database_url)
        worker = await asyncpg.connect(world.database_url)
        try:
            async with operator.transaction():
                await operator.fetch("SELECT id FROM site_orders WHERE id = 42 FOR NO KEY UPDATE")
                insert = "INSERT INTO site_generation_logs (order_id, step, message) VALUES (42, 'START', 's')"
                await asyncio.wait_for(worker.execute(insert), timeout=5)
        finally:
            await operator.close()
            await worker.close()

    asyncio.run(scenario())


def test_roll_back_restores_only_unchanged_orders(world: World) -> None:
    world.order(42)
    world.order(43)
    orders = read(world, 42, 43)
    steps = [step(orders[42]), step(orders[43], "task-2")]
    result = world.with_session(lambda session: session.orders.apply(steps, ACTOR))
    world.sql("INSERT INTO site_generation_logs (order_id, step, message) VALUES (43, 'START', 's')")
    by_journal_id = {result.journal_ids[s.order_id]: s for s in steps}
    rolled_back = world.with_session(lambda session: session.orders.roll_back(by_journal_id, ACTOR, REASONS))
    assert set(rolled_back.journal_ids) == {42}
    assert "its log has new rows" in rolled_back.changed[43]
    assert (world.status(42), world.status(43)) == ("BUILDING", "GENERATING")
    assert world.steps(42) == ["OPERATOR_ENQUEUE", "OPERATOR_ENQUEUE_FAILED"]
    assert "Redis refused" in world.log(42)[-1]["message"]


def test_log_is_read_after_an_id_or_from_the_end(world: World) -> None:
    world.order(1, steps=["START", "AI_STRATEGY", "ERROR"])
    world.order(2, steps=["START", "SUCCESS"])
    first = world.log(1)[0]["id"]

    def steps_of(**options: int) -> list[str]:
        rows = world.with_session(lambda session: session.orders.read_log([1, 2], **options))
        return [f"{row.order_id}:{row.step}" for row in rows]

    assert steps_of(after_id=first) == ["1:AI_STRATEGY", "1:ERROR", "2:START", "2:SUCCESS"]
    assert steps_of(last=1) == ["1:ERROR", "2:SUCCESS"]


def test_url_of_another_database_is_refused() -> None:
    with pytest.raises(UsageProblem, match="not a PostgreSQL URL"):
        PostgresOrders("mysql://crm@localhost/crm", timeout=2)


def test_unreachable_server_is_reported_in_one_line() -> None:
    async def attempt() -> None:
        await PostgresOrders("postgresql://crm:pw@127.0.0.1:1/crm", timeout=2).read_orders([1])

    with pytest.raises(SourceError, match="can't be reached") as caught:
        asyncio.run(attempt())
    assert "\n" not in caught.value.message
    assert "pw" not in caught.value.message


def test_database_without_the_tables_is_reported(world: World) -> None:
    world.sql("DROP TABLE site_generation_logs")
    with pytest.raises(SourceError, match="not an orders database"):
        read(world, 1)


def test_reconnects_after_the_connection_was_cut(world: World) -> None:
    world.order(42)

    async def scenario() -> None:
        store = PostgresOrders(world.database_url, timeout=5)
        await store.read_orders([42])
        cutter = await asyncpg.connect(world.database_url)
        await cutter.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await cutter.close()
        with contextlib.suppress(SourceError):  # the cut may be noticed before the call, or by it
            await store.read_orders([42])
        assert 42 in await store.read_orders([42])
        await store.close()

    asyncio.run(scenario())


def recent(world: World, **options: int) -> list[RunRow]:
    return world.with_session(lambda session: session.orders.recent_steps(timedelta(minutes=30), **options))


def test_recent_steps_are_oldest_first(world: World) -> None:
    assert recent(world) == []
    world.order(1, steps=["START", "ERROR"], age="40 minutes")
    world.order(2, steps=["START", "SUCCESS"], age="20 minutes")
    world.order(3, steps=["RESUME"], age="1 minutes")
    marks = recent(world)
    assert [(mark.order_id, mark.step) for mark in marks] == [(2, "START"), (2, "SUCCESS"), (3, "RESUME")]
    assert [mark.log_id for mark in marks] == sorted(mark.log_id for mark in marks)
    assert marks[0].age is not None
    assert timedelta(minutes=20) <= marks[0].age < timedelta(minutes=21)
    assert [mark.step for mark in recent(world, after_id=marks[1].log_id)] == ["RESUME"]
    assert recent(world, after_id=marks[-1].log_id) == []


def test_recent_steps_limit_keeps_the_newest(world: World) -> None:
    world.order(1, steps=[f"STEP_{number}" for number in range(6)], age="1 minutes")
    assert [mark.step for mark in recent(world, limit=2)] == ["STEP_4", "STEP_5"]


def test_recent_steps_ignore_invalid_times(world: World) -> None:
    world.order(1, steps=["START"], age="1 minutes")
    for time in ("NULL", "'infinity'", "localtimestamp + interval '1 day'"):
        world.sql(
            f"INSERT INTO site_generation_logs (order_id, step, message, created_at) VALUES (1, 'A', '', {time})"  # noqa: S608 - a constant of this test
        )
    world.sql("INSERT INTO site_generation_logs (order_id, step, message) VALUES (1, 'SUCCESS', '')")
    assert [mark.step for mark in recent(world)] == ["START", "SUCCESS"]


FILTERS = [
    *(OrderFilter(search=words) for words in ("ana", "ANA souza", "bräu", "BRÄU", "padaria", "o'neil", "\\")),
    *(
        OrderFilter(search=words)
        for words in ("%", "_", "100%", "a_b", "a%b", "1", "2 padaria", "99", "0001", "x y z", "2147483647", "9" * 5000)
    ),
    *(OrderFilter(search=words) for words in ("ana@example.com", "ana nobody", "[red]x[/]", "'; --", "\u0663")),
    *(OrderFilter(since=timedelta(minutes=minutes)) for minutes in (0, 5, 61, 500)),
    *(OrderFilter(still_for=timedelta(minutes=minutes)) for minutes in (0, 5, 61, 500)),
    OrderFilter(since=timedelta(minutes=500), still_for=timedelta(minutes=5), search="ana"),
    OrderFilter(statuses=frozenset({OrderStatus.REVIEW}), search="padaria"),
    OrderFilter(),
]


@pytest.fixture
def many_names(world: World) -> list[int]:
    names = ["Ana Souza", "ana_b", "a%b", "100% Pão", "Bräu", "O'Neil", "back\\slash", "[red]x[/]", "Zoë \u0661", "x y"]
    ages = ["1 minutes", "10 minutes", "60 minutes", "3 hours"]
    return [
        world.order(
            2_147_483_647 if name == "x y" else number,
            ["REVIEW", "PAID", "DELIVERED"][number % 3],
            name=name,
            age=ages[number % len(ages)],
            onboarding="missing" if number % 4 == 0 else "complete",
        )
        for number, name in enumerate(names, 1)
    ]


def test_filter_agrees_in_python_and_sql(world: World, many_names: list[int]) -> None:
    """Open orders are filtered in memory and all others by the database: one list is made of both."""
    orders = read(world, *many_names)

    async def asked(session: Session) -> list[set[int]]:
        answers = []
        for only in FILTERS:
            settled = await session.orders.read_settled(OrderQuery(filter=only, limit=100), excluding=())
            assert await session.orders.count_settled(only, excluding=()) == len(settled)
            answers.append({order.order_id for order in settled})
        return answers

    for only, marks in zip(FILTERS, world.with_session(asked), strict=True):
        assert marks == {number for number in many_names if only.matches(orders[number])}, only
