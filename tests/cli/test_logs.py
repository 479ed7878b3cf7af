from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from rich.cells import cell_len

from sitegenctl.adapters.postgres import log as postgres_log
from sitegenctl.cli.commands.logs import make_query
from sitegenctl.domain.orders.log import LogLevel
from sitegenctl.domain.orders.order import LogRow
from sitegenctl.operations import follow as operation
from sitegenctl.render.log import log_data
from sitegenctl.session import Session
from tests.support.commands import streaming
from tests.support.terminal import on_terminal
from tests.support.world import World

HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202eevil[bold]\nforged " + "🍞" * 3000


CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1::text AND application_name = 'sitegenctl'
"""


def database(world: World) -> str:
    return urlsplit(world.database_url).path.strip("/")


def write(world: World, order_id: int, step: str, message: str = "m", status: str = "info", age: str = "0s") -> int:
    """Write a log row so long ago by the database's own clock; returns its id."""
    (row,) = world.sql(
        "INSERT INTO site_generation_logs (order_id, step, message, status, created_at)"
        " VALUES ($1, $2, $3, $4, localtimestamp - $5::text::interval) RETURNING id",
        order_id,
        step,
        message,
        status,
        age,
    )
    return int(row["id"])


def rows(
    world: World, *order_ids: int, since: str | None = None, level: str = "info", last: int | None = None
) -> list[LogRow]:
    """What the command shows, without the cost of a process."""

    async def work(session: Session) -> list[LogRow]:
        query = make_query(since, LogLevel(level), last)
        return [row async for row in operation.read(session.orders, order_ids, query)]

    return world.with_session(work)


def steps(world: World, *order_ids: int, **options: Any) -> list[str]:
    return [row.step for row in rows(world, *order_ids, **options)]


def test_several_orders_are_merged_as_they_were_written(world: World) -> None:
    world.order(7)
    world.order(42)
    for number, order_id in enumerate([42, 7, 42, 7]):
        write(world, order_id, f"STEP_{number}", status="error" if number == 3 else "info")
    process = world.run("logs", "42", "7")
    lines = process.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["42", "7", "42", "7"]
    assert [line.split()[-2] for line in lines] == [f"STEP_{n}" for n in range(4)]
    assert lines[0].startswith("42  ")
    assert lines[1].startswith(" 7  ")
    assert "✗" in lines[3]


def test_one_order_has_no_prefix_and_only_other_days_a_date(world: World) -> None:
    world.order(42)
    write(world, 42, "START", age="3 days")
    write(world, 42, "SUCCESS")
    then, now = (row["created_at"] for row in world.log(42))
    lines = world.run("logs", "42").stdout.splitlines()
    assert lines[0].startswith(f"{then:%Y-%m-%d %H:%M:%S} ")
    assert lines[1].startswith(f"{now:%H:%M:%S} ")


def test_level_includes_higher_rows_and_last_is_per_order(world: World) -> None:
    for order_id in (1, 2):
        world.order(order_id)
        for status in ("info", "error", "success", "warning"):
            write(world, order_id, f"{status.upper()}_{order_id}", status=status)
    assert steps(world, 1, level="warning") == ["ERROR_1", "WARNING_1"]
    assert steps(world, 1, level="success") == ["ERROR_1", "SUCCESS_1", "WARNING_1"]
    assert steps(world, 1, 2, last=1) == ["WARNING_1", "WARNING_2"]
    assert steps(world, 1, 2, level="error", last=1) == ["ERROR_1", "ERROR_2"]


@pytest.mark.parametrize("zone", ["America/Sao_Paulo", "Asia/Tokyo"])
def test_since_is_measured_by_the_clock_of_the_rows(world: World, zone: str) -> None:
    world.sql(f"DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET timezone TO ''{zone}'''; END $$")
    world.order(42)
    for age in ("3 hours", "30 minutes"):
        write(world, 42, age.split()[1].upper(), age=age)
    world.sql("INSERT INTO site_generation_logs (order_id, step, message) VALUES (42, 'NOW', 'by now()')")
    assert steps(world, 42, since="1h") == ["MINUTES", "NOW"]
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    assert steps(world, 42, since=an_hour_ago.isoformat()) == ["MINUTES", "NOW"]
    as_shown = str(log_data(rows(world, 42)[1])["at"])
    assert steps(world, 42, since=as_shown) == ["MINUTES", "NOW"]


def test_the_newest_hundred_rows_are_the_default(world: World) -> None:
    world.order(42)
    world.sql(
        "INSERT INTO site_generation_logs (order_id, step, message)"
        " SELECT 42, 'S' || n, 'm' FROM generate_series(1, 12000) n"
    )
    assert steps(world, 42) == [f"S{n}" for n in range(11901, 12001)]
    # More than one page of them.
    assert steps(world, 42, last=0) == [f"S{n}" for n in range(1, 12001)]
    assert steps(world, 42, last=2) == ["S11999", "S12000"]


def test_reading_one_order_never_walks_the_whole_table(world: World) -> None:
    for order_id in (1, 2):
        world.order(order_id)
    world.sql(
        "INSERT INTO site_generation_logs (order_id, step, message)"
        " SELECT 1 + (n % 5000 = 0)::int, 'S', 'm' FROM generate_series(1, 50000) n"
    )
    world.sql("ANALYZE site_generation_logs")

    async def plans() -> list[str]:
        connection = await asyncpg.connect(world.database_url)
        try:
            result = []
            for statement in (postgres_log.OLDEST, postgres_log.NEWEST):
                rows = await connection.fetch(f"EXPLAIN {statement}", [2], 0, None, None, None, None, 100)
                result.append("\n".join(row[0] for row in rows))
            return result
        finally:
            await connection.close()

    for plan in asyncio.run(plans()):
        assert "ix_site_generation_logs_order_id" in plan, plan
        assert "Seq Scan" not in plan


def test_a_missing_order_is_reported_and_the_others_are_shown(world: World) -> None:
    world.order(42, steps=["START"])
    process = world.run("logs", "41-43")
    assert (process.returncode, process.stderr) == (4, "error: there are no orders 41, 43\n")
    assert "START" in process.stdout
    result = json.loads(world.run("logs", "42", "43", "-o", "json").stdout)
    assert (result["exit_code"], result["errors"][0]["message"]) == (4, "there is no order 43")
    assert [row["step"] for row in result["data"]["rows"]] == ["START"]
    process = world.run("logs", "43", "-f")
    assert (process.returncode, process.stderr) == (4, "error: there is no order 43\n")


def test_an_order_without_rows_is_no_failure(world: World) -> None:
    world.order(42)
    process = world.run("logs", "42")
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "note: no rows\n")


def test_hostile_text_is_one_line_on_a_screen_and_exact_in_json(world: World) -> None:
    world.order(42)
    write(world, 42, "ERROR\x1b[2J", HOSTILE, "error\x1b[2J")
    (line,) = world.run("logs", "42").stdout.splitlines()
    assert line.isprintable()
    assert "[bold]" in line
    for form in ("ndjson", "json"):
        result = json.loads(world.run("logs", "42", "-o", form).stdout)
        row = result if form == "ndjson" else result["data"]["rows"][0]
        assert (row["message"], row["step"], row["status"]) == (HOSTILE, "ERROR\x1b[2J", "error\x1b[2J")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_terminal_wraps_long_messages_without_loss(world: World, columns: int) -> None:
    world.order(42)
    message = "Generation failed: " + " ".join(f"日本{number}" for number in range(100)) + " \x1b[2Jthe end"
    write(world, 42, "START", "Began")
    write(world, 42, "ERROR", message, "error")
    shown = on_terminal("logs", "42", columns=columns)
    assert shown.returncode == 0
    first, *rest = shown.stdout.splitlines()
    assert first.split()[-2:] == ["START", "Began"]
    assert "✗ ERROR" in rest[0]
    below = 2 if columns == 40 else rest[0].index("Generation")
    assert {len(line) - len(line.lstrip()) for line in rest[1:]} == {below}
    assert all(cell_len(line) <= columns and line.isprintable() for line in shown.stdout.splitlines())
    words = " ".join(rest).split()
    assert words[words.index("Generation") :] == message.replace("\x1b", "\\x1b").split()
    piped = world.run("logs", "42", COLUMNS=str(columns))
    assert len(piped.stdout.splitlines()) == 2
    assert "日本99 \\x1b[2Jthe end" in piped.stdout.splitlines()[1]


def test_logs_need_redis_only_to_follow_a_run_to_its_end(world: World) -> None:
    world.order(42, steps=["START", "SUCCESS"])
    assert world.run("logs", "42", REDIS_URL="").stdout.split()[-1] == "SUCCESS"
    with streaming(world, "logs", "42", "-f", REDIS_URL="") as stream:
        write(world, 42, "LATER")
        stream.shows("LATER")
    process = world.run("logs", "42", "--until-done", REDIS_URL="")
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("error: no Redis is configured\nhint: ")
    assert world.run("logs", "42", DATABASE_URL="").stderr.startswith("error: no database is configured")


def test_an_unreachable_database_is_one_line(world: World) -> None:
    process = world.run("logs", "42", "-f", DATABASE_URL="postgresql://crm:s3cret@127.0.0.1:1/crm")
    assert process.returncode == 3
    assert process.stderr.startswith("error: the database can't be reached")
    assert "s3cret" not in process.stderr


def test_following_goes_on_until_ctrl_c(world: World) -> None:
    world.order(42, steps=["OLD"])
    world.order(43)
    with streaming(world, "logs", "42", "43", "-f", "--level", "warning") as stream:
        write(world, 42, "MILD", status="info")
        write(world, 43, "BAD", status="error")
        stream.shows("BAD")
        write(world, 42, "WORSE", status="warning")
        stream.shows("WORSE")
        assert stream.interrupt() == 130
        assert [line.split()[3] for line in stream.lines] == ["BAD", "WORSE"]
        assert "Traceback" not in stream.notes


def test_following_since_omits_older_rows(world: World) -> None:
    world.order(42, steps=["OLD"])
    with streaming(world, "logs", "42", "-f", "--since", "1m") as stream:
        write(world, 42, "NEW")
        stream.shows("NEW")
        assert "OLD" not in stream.out.read_text()


def test_no_row_is_lost_or_repeated_after_a_disconnect(world: World) -> None:
    world.order(42)
    write(world, 42, "FIRST")
    with streaming(world, "logs", "42", "-f", "-o", "ndjson") as stream:
        stream.shows("FIRST")
        expected = ["FIRST"]
        for round_ in range(3):
            assert world.sql(CUT, database(world))
            for number in range(10):
                write(world, 42, f"S{round_}_{number}")
                expected.append(f"S{round_}_{number}")
            stream.shows(f"S{round_}_9")
        assert [row["step"] for row in stream.rows] == expected
        assert "Traceback" not in stream.notes


def test_a_lost_database_is_reported_once_and_awaited(world: World) -> None:
    name = database(world)
    world.order(42)
    write(world, 42, "FIRST")
    elsewhere = World(
        database_url=urlsplit(world.database_url)._replace(path="/postgres").geturl(),
        redis_url=world.redis_url,
        sites_dir=world.sites_dir,
    )
    with streaming(world, "logs", "42", "-f", "-o", "ndjson") as stream:
        stream.shows("FIRST")
        elsewhere.sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        assert elsewhere.sql(CUT, name)
        stream.notes_that("note: ")
        elsewhere.sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        write(world, 42, "SECOND")
        stream.shows("SECOND")
        assert [row["step"] for row in stream.rows] == ["FIRST", "SECOND"]
        lost, regained = stream.notes.splitlines()
        assert lost.startswith("note: the database")
        assert regained == "note: connected again"


def test_a_row_committed_late_is_shown(world: World) -> None:
    world.order(42)
    world.order(43)
    insert = "INSERT INTO site_generation_logs (order_id, step, message) VALUES ($1, $2, 'm')"

    async def late() -> None:
        slow = await asyncpg.connect(world.database_url)
        quick = await asyncpg.connect(world.database_url)
        try:
            transaction = slow.transaction()
            await transaction.start()
            await slow.execute(insert, 42, "LATE")
            await quick.execute(insert, 43, "EARLY")
            await asyncio.to_thread(stream.shows, "EARLY")
            await transaction.commit()
            await asyncio.to_thread(stream.shows, "LATE")
        finally:
            await slow.close()
            await quick.close()

    with streaming(world, "logs", "42", "43", "-f") as stream:
        asyncio.run(late())


def test_until_done_reports_an_earlier_end_at_once(world: World) -> None:
    world.order(1, "REVIEW", steps=["START", "SUCCESS"])
    world.order(2, "GENERATING", steps=["START", "ERROR"])
    world.order(3, "GENERATING", steps=["START", "AI_STRATEGY"])
    world.order(4, "REVIEW", steps=["START", "SUCCESS", "OPERATOR_RESET", "OPERATOR_ENQUEUE"])
    done = world.run("logs", "1", "--until-done")
    assert (done.returncode, done.stderr) == (0, "note: order 1 ended in SUCCESS: its last run ended in SUCCESS\n")
    both = world.run("logs", "1-4", "-f", "--until-done")
    assert both.returncode == 1
    assert "order 2 ended in ERROR" in both.stderr
    assert "order 3 ended in GONE" in both.stderr
    assert "order 4 ended in GONE" in both.stderr
    assert world.run("logs", "1", "5", "--until-done").returncode == 4


def test_until_done_needs_the_queue(world: World) -> None:
    world.order(42, steps=["START", "SUCCESS"])
    process = world.run("logs", "42", "--until-done", REDIS_URL="redis://127.0.0.1:1/0")
    assert process.returncode == 3
    assert process.stderr.startswith("error: Redis can't be reached")


def test_until_done_follows_a_run_and_filters_levels(world: World) -> None:
    world.order(42)
    world.worker()
    world.enqueue(42)
    with streaming(world, "logs", "42", "--until-done", "--level", "success") as stream:
        assert stream.ends() == 0
        assert "SUCCESS" in stream.lines[-1]
        assert not any("START" in line for line in stream.lines)
        assert "order 42 ended in SUCCESS" in stream.notes


def test_until_done_waits_for_the_last_retry(world: World) -> None:
    world.order(42)
    world.worker(generator="broken", environ={"SITEGENCTL_RETRY_BASE": "0.2s"})
    world.enqueue(42)
    with streaming(world, "logs", "42", "-f", "--until-done", "-o", "ndjson") as stream:
        assert stream.ends() == 1
        assert [row["step"] for row in stream.rows].count("ERROR") == 4
        assert "oven is cold" in stream.notes
