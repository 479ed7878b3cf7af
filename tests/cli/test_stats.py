"""``stats`` on a real database: its results in every format, and its cost."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from sitegenctl.adapters.postgres.log import bisection
from sitegenctl.operations import overview as stats
from sitegenctl.operations.overview import statistics
from sitegenctl.session import Session
from tests.support.terminal import on_terminal
from tests.support.world import Log, World

HOUR, DAY = 3600, 86400


def busy_week(world: World, log: Log) -> None:
    """Four generated, three failed for two reasons, one skipped, one cut short; and one long ago."""
    for order_id in (1, 2, 3, 4):
        world.order(order_id, "REVIEW")
    log.run(1, ago=30 * DAY)
    log.run(1, ago=6 * DAY, seconds=30)
    log.run(2, ago=3 * DAY, seconds=50)
    log.run(3, ago=2 * DAY, error="Generation failed: AI provider answered 429, retry after 60 s")
    log.run(4, ago=2 * DAY - 600, error="Generation failed: AI provider answered 429, retry after 45 s")
    log.rows(2, [("SKIP", DAY)])
    log.rows(3, [("START", 9000), ("FETCH_DATA", 8990)])
    log.run(3, ago=2 * HOUR, seconds=70)
    log.run(3, ago=HOUR, seconds=90)
    log.run(4, ago=600, error="[Errno 28] No space left on device")


def data(world: World, *arguments: str) -> dict[str, Any]:
    process = world.run("stats", *arguments, "-o", "json")
    assert (process.returncode, process.stderr) == (0, "")
    found: dict[str, Any] = json.loads(process.stdout)["data"]
    return found


def test_a_week_is_summed_up(world: World, log: Log) -> None:
    busy_week(world, log)
    report = data(world)
    assert report["seconds"] == 7 * DAY
    assert report["runs"] == {
        "succeeded": 4,
        "failed": 3,
        "skipped": 1,
        "success_rate": pytest.approx(4 / 7),
        "cut_short": 1,
        "untimed": 0,
    }
    assert report["orders"] == 4
    assert report["throughput"]["per_day"] == pytest.approx(4 / 7)
    generated = report["durations"]["succeeded"]
    assert (generated["count"], generated["longest"], generated["mean"]) == (4, 90, 60)
    assert [generated[each] for each in ("p50", "p95", "p99")] == [50, 90, 90]
    assert report["durations"]["stages"]["starting"]["p99"] == pytest.approx(1)
    assert [(each["reason"], each["count"], each["orders"]) for each in report["reasons"]] == [
        ("AI provider answered N, retry after N s", 2, 2),
        ("[Errno N] No space left on device", 1, 1),
    ]
    assert report["reasons"][0]["example_order"] == 4
    assert report["failed_in"] == {"reading": 3}
    assert sum(day["succeeded"] for day in report["by_day"]) == 4
    assert sum(hour["failed"] for hour in report["by_hour_of_day"]) == 3
    assert len(report["by_hour_of_day"]) == 24


def test_the_window_is_an_age_or_a_moment(world: World, log: Log) -> None:
    busy_week(world, log)
    assert data(world, "--since", "90d")["runs"]["succeeded"] == 5
    assert data(world, "--since", "30m")["runs"]["failed"] == 1
    (now,) = world.sql("SELECT localtimestamp AS at")
    assert data(world, "--since", f"{now['at']:%Y-%m-%d}T00:00:00")["until"][:10] == f"{now['at']:%Y-%m-%d}"
    assert data(world, "--since", "9000-01-01")["runs"]["succeeded"] == 0


@pytest.mark.parametrize("since", ["soon", "-1d", "999999d", "2026-13-01", "0001-01-01"])
def test_a_bad_window_is_one_clear_line(world: World, since: str) -> None:
    process = world.run("stats", f"--since={since}")
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("error: --since ")
    assert len(process.stderr.splitlines()) == 1


def test_a_run_begun_before_the_window_has_its_full_duration(world: World, log: Log) -> None:
    world.order(1, "REVIEW")
    log.run(1, ago=60, seconds=600)
    report = data(world, "--since", "2m")
    assert report["durations"]["succeeded"]["longest"] == 600
    assert report["runs"]["untimed"] == 0


def test_runs_are_read_in_pieces_of_any_size(world: World, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    busy_week(world, log)
    whole = world.with_session(lambda session: statistics(session.orders, stats.timedelta(days=7)))
    monkeypatch.setattr(stats, "_BATCH_SIZE", 3)
    pieces = world.with_session(lambda session: statistics(session.orders, stats.timedelta(days=7)))
    assert (pieces.runs, pieces.generated, pieces.stages) == (whole.runs, whole.generated, whole.stages)
    assert [reason.text for reason in pieces.reasons] == [reason.text for reason in whole.reasons]


def test_only_the_window_and_its_lead_is_read(world: World, log: Log) -> None:
    world.order(1, "REVIEW")
    for age in range(9, 0, -1):
        log.run(1, ago=age * DAY)
    log.run(1, ago=600)

    async def ids(session: Session) -> tuple[int, int]:
        window = await session.orders.log_window(stats.timedelta(hours=2), lead=stats.LEAD)
        return window.first_id, window.last_id

    first, last = world.with_session(ids)
    assert last - first == 5
    assert "site_generation_logs" in bisection("now()")


def test_nothing_in_the_log_is_no_failure(world: World) -> None:
    process = world.run("stats")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.splitlines()[-1] == "runs        none ended"
    assert world.run("stats", "-o", "csv").stdout == "hour,succeeded,failed,skipped,success_rate\n"


def test_rows_are_hours(world: World, log: Log) -> None:
    busy_week(world, log)
    rows = list(csv.DictReader(io.StringIO(world.run("stats", "-o", "csv").stdout)))
    assert sum(int(row["succeeded"]) for row in rows) == 4
    lines = [json.loads(line) for line in world.run("stats", "-o", "ndjson").stdout.splitlines()]
    assert [line["hour"] for line in lines] == [row["hour"] for row in rows]
    assert [line["hour"] for line in lines] == sorted(line["hour"] for line in lines)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_on_a_terminal_every_line_fits(world: World, log: Log, columns: int) -> None:
    busy_week(world, log)
    log.run(4, ago=60, error="\x1b[31mred\u202e " + "wide 日本 " * 40)
    shown = on_terminal("stats", columns=columns)
    assert shown.returncode == 0
    assert all(len(line) <= columns for line in shown.stdout.splitlines())
    assert "4 generated, 4 failed (50% success)" in " ".join(shown.stdout.split())
    assert "\x1b" not in shown.stdout
    assert "\u202e" not in shown.stdout
    assert "AI provider" in shown.stdout


def test_an_unreachable_database_is_a_source_error(world: World) -> None:
    process = world.run("stats", "-o", "json", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert process.returncode == 3
    assert json.loads(process.stdout)["errors"][0]["source"] == "database"


def test_redis_is_not_needed(world: World) -> None:
    assert world.run("stats", REDIS_URL="redis://127.0.0.1:1/0").returncode == 0


def test_a_page_is_written_whole_or_not_at_all(world: World, log: Log, tmp_path: Path) -> None:
    busy_week(world, log)
    page = tmp_path / "week.html"
    page.write_text("the old one")
    denied = world.run("stats", "--html", str(tmp_path / "nowhere" / "week.html"))
    assert (denied.returncode, denied.stdout) == (2, "")
    assert denied.stderr.startswith(f"error: {tmp_path}/nowhere/week.html can't be written: ")
    process = world.run("stats", "--html", str(page))
    assert (process.returncode, process.stdout) == (0, f"wrote {page}\n")
    assert page.read_text().startswith("<!doctype html>")
    assert "sitegenctl history --kind run --outcome failed --since 7d" in page.read_text()
    assert page.stat().st_mode & 0o777 == 0o644
    assert {path.name for path in tmp_path.iterdir()} == {"week.html", "sites"}
    assert data(world, "--html", str(page))["html"] == str(page)
    mailed = world.run("stats", "--html", "-")
    assert mailed.returncode == 0
    assert mailed.stdout.startswith("<!doctype html>")
    assert not Path("-").exists()
    both = world.run("stats", "--html", "-", "-o", "json")
    assert (both.returncode, json.loads(both.stdout)["errors"][0]["hint"]) == (2, "write one of them to a file")
