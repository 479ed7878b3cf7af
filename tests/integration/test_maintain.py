"""``maintain``: all steps in one run, one run at a time, quiet, and only with certain facts."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sitegenctl.adapters.postgres.orders import PostgresOrders
from sitegenctl.cli import app as main
from tests.support.commands import Run
from tests.support.faults import faulty_orders, held
from tests.support.world import World

LOCK = int.from_bytes(b"sitegen")


def attention(report: dict[str, Any]) -> dict[int, tuple[str, bool, bool]]:
    """By order: what keeps it from being fixed, whether an operator can fix it, and whether that is new."""
    return {left["order_id"]: (left["obstacle"], left["operator"], left["new"]) for left in report["data"]["attention"]}


def done(report: dict[str, Any]) -> dict[str, list[int]]:
    return {
        step["step"]: [row["order_id"] for row in step["outcomes"] if row["outcome"] == "done"]
        for step in report["data"]["steps"]
        if step["outcomes"]
    }


def test_one_run_fixes_everything_and_the_next_is_quiet(world: World, run: Run) -> None:
    faulty_orders(world)
    code, report = run("maintain")
    assert code == 4  # order 6 needs an operator
    assert done(report) == {"repair": [2, 9], "start-stuck": [3], "retry-failed": [4], "reset-empty": [5]}
    assert attention(report) == {6: ("attempts-exhausted", True, True), 7: ("onboarding", False, True)}
    orders = sorted(json.loads(message["headers"]["argsrepr"])[0] for message in world.queued())
    assert orders == [2, 3, 4, 5, 9]
    assert (world.status(8), len(world.site_files(1)), len(world.site_files(4))) == ("BUILDING", 8, 6)
    again = world.run("maintain")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    # It is still in the report for machines, but no longer new.
    assert attention(run("maintain")[1]) == {6: ("attempts-exhausted", True, False), 7: ("onboarding", False, False)}


def _killed_while_it_ran(world: World, steps: list[str]) -> None:
    """Take the order's task as a worker does that it kills, an hour ago."""
    with world.redis() as client:
        client.flushdb()
    for step in steps:
        world.sql("INSERT INTO site_generation_logs (order_id, step, message) VALUES (42, $1, '')", step)
    world.sql("UPDATE site_generation_logs SET created_at = created_at - interval '1 hour'")
    world.sql("UPDATE site_orders SET updated_at = updated_at - interval '1 hour'")


@pytest.mark.parametrize(("files", "step"), [(0, "reset-empty"), (8, "repair")])
def test_order_that_kills_its_workers_is_given_up(world: World, run: Run, files: int, step: str) -> None:
    world.order(42, "GENERATING", steps=["START"], files=files)
    for _ in range(2):
        assert done(run("maintain")[1]) == {step: [42]}
        _killed_while_it_ran(world, ["START"])
        world.files(42, files)
    (left,) = [each for each in run("maintain")[1]["data"]["steps"] if each["outcomes"]]
    (outcome,) = left["outcomes"]
    assert (left["step"], outcome["outcome"]) == (step, "skipped")
    assert outcome["reason"] == "attempts exhausted (3 of 3)"
    assert world.queued() == []
    assert run("inspect", "42")[1]["data"]["remedy"] == "fix the cause, then: sitegenctl reset 42"
    assert run("reset", "42")[0] == 0
    _killed_while_it_ran(world, ["START"])
    world.files(42, files)
    assert done(run("maintain")[1]) == {step: [42]}


def test_dry_run_reports_the_same_and_changes_nothing(world: World, run: Run) -> None:
    faulty_orders(world)
    code, report = run("maintain", "--dry-run")
    assert (code, report["data"]["dry_run"]) == (4, True)
    assert done(report) == {"repair": [2, 9], "start-stuck": [3], "retry-failed": [4], "reset-empty": [5]}
    assert (len(world.queued()), world.status(3)) == (2, "BUILDING")


def test_each_step_is_limited_and_reports_the_rest(world: World, run: Run) -> None:
    for order_id in range(1, 6):
        world.order(order_id)
    _, report = run("maintain", "--max-actions", "2")
    (step,) = [step for step in report["data"]["steps"] if step["step"] == "start-stuck"]
    assert ([row["order_id"] for row in step["outcomes"]], step["beyond_limit"]) == ([1, 2], 3)
    assert len(world.queued()) == 2


def test_second_maintenance_run_does_nothing(world: World) -> None:
    faulty_orders(world)
    with held(world, f"SELECT pg_advisory_lock({LOCK})"):
        process = world.run("maintain")
    assert (process.returncode, process.stdout) == (6, "")
    assert process.stderr == "error: another maintenance run is active; nothing was done\n"
    assert len(world.queued()) == 2


def test_without_redis_its_steps_are_left_out(world: World, run: Run) -> None:
    faulty_orders(world)
    old = world.sites_dir / ".trash" / f"project_1.{time.time_ns() - 8 * 86400 * 10**9}"
    old.mkdir(parents=True)
    code, report = run("maintain", REDIS_URL="redis://127.0.0.1:1/0")
    left_out = {step["step"]: step["source"] for step in report["data"]["steps"] if step["left_out"]}
    assert code == 3
    assert left_out == dict.fromkeys(
        ("repair", "start-stuck", "retry-failed", "reset-empty", "prune-replies"), "broker"
    )
    assert not old.exists()  # what doesn't need Redis was done
    # Prune-replies would have a hint of its own: it was not asked again, which could take the whole timeout.
    (error,) = report["errors"]
    assert error["message"].startswith("repair, start-stuck, retry-failed, reset-empty, prune-replies left out: Redis ")


def in_a_context(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **instead: str) -> None:
    """Have the system configured as the context "shop"."""
    values = {
        "database_url": world.database_url,
        "redis_url": world.redis_url,
        "sites_dir": str(world.sites_dir),
        **instead,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    config = tmp_path / "shop.toml"
    config.write_text("\n".join(['[contexts."shop"]', *lines, ""]))
    config.chmod(0o600)
    monkeypatch.setenv("SITEGENCTL_CONFIG", str(config))
    for name in world.environ:
        monkeypatch.delenv(name, raising=False)


def test_left_out_steps_have_hints_with_the_context(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_a_context(world, monkeypatch, tmp_path, sites_dir="/nowhere")
    process = world.run("maintain", "--context", "shop")
    assert process.returncode == 3
    hint = (
        "hint: check that its volume is mounted and that SITES_BASE_DIR is right: sitegenctl --context shop config show"
    )
    error, report = process.stderr.splitlines()
    assert error.startswith("error: reset-empty, prune-trash left out: ")
    assert report == hint


def test_hints_name_the_context(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world.order(41, "DELIVERED")
    world.order(42, "GENERATING", steps=["START"] * 3)
    in_a_context(world, monkeypatch, tmp_path)
    hint = "to generate its site again: sitegenctl --context shop reset 41"
    process = world.run("--context", "shop", "enqueue", "41", "-o", "json")
    assert json.loads(process.stdout)["errors"][0]["hint"] == hint
    assert f"hint: {hint}\n" in world.run("--context", "shop", "enqueue", "41").stdout
    used_up = "  hint: fix the cause, then: sitegenctl --context shop reset 42\n"
    (world.site(41)).mkdir()
    world.files(41, 8)
    assert used_up in world.run("--context", "shop", "maintain", "-v").stdout
    in_a_context(world, monkeypatch, tmp_path, redis_url="redis://127.0.0.1:1/0")
    for command in (["inspect", "queue"], ["inspect"]):
        assert "sitegenctl --context shop" in world.run("--context", "shop", *command).stderr


def test_without_the_database_its_steps_are_left_out(world: World, run: Run) -> None:
    code, report = run("maintain", DATABASE_URL="postgresql://x:y@127.0.0.1:1/z")
    left_out = {step["step"]: step["source"] for step in report["data"]["steps"] if step["left_out"]}
    assert code == 3
    assert left_out == dict.fromkeys(
        ("repair", "start-stuck", "retry-failed", "reset-empty", "prune-trash"), "database"
    )


def test_missing_sites_directory_stops_no_other_step(world: World, run: Run, tmp_path: Path) -> None:
    faulty_orders(world)
    code, report = run("maintain", SITES_BASE_DIR=str(tmp_path / "nowhere"))
    left_out = {step["step"]: step["source"] for step in report["data"]["steps"] if step["left_out"]}
    assert (code, left_out) == (3, {"reset-empty": "files", "prune-trash": "files"})
    assert done(report) == {"repair": [2, 9], "start-stuck": [3], "retry-failed": [4]}


def test_old_sites_leave_the_trash_and_young_ones_stay(world: World) -> None:
    trash = world.sites_dir / ".trash"
    for age_days, order_id in ((8, 1), (6, 2)):
        folder = trash / f"project_{order_id}.{time.time_ns() - age_days * 86400 * 10**9}"
        folder.mkdir(parents=True)
        (folder / "index.html").write_text("x")
    (trash / "something else").mkdir()
    process = world.run("maintain")
    assert (process.returncode, process.stdout) == (0, "prune-trash: 1 old site deleted from the trash\n")
    assert sorted(path.name.partition(".")[0] for path in trash.iterdir()) == ["project_2", "something else"]


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]], ids=["real", "dry run"])
@pytest.mark.parametrize(("offset", "way"), [(timedelta(days=8), "behind"), (-timedelta(minutes=2), "ahead of")])
def test_clock_difference_keeps_the_trash(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch, offset: timedelta, way: str, dry_run: list[str]
) -> None:
    """One of the two is wrong, and the trash may hold the only copy of a site."""
    world.order(3)
    old = world.sites_dir / ".trash" / "project_1.1"
    old.mkdir(parents=True)

    async def utc_now(_: PostgresOrders) -> datetime:
        return datetime.now(UTC) + offset

    monkeypatch.setattr(PostgresOrders, "utc_now", utc_now)
    code, report = run("maintain", *dry_run)
    (error,) = report["errors"]
    assert (code, old.exists()) == (3, True)
    assert "prune-trash left out: this machine's clock is " in error["message"]
    assert f"{way} the database's" in error["message"]
    assert error["hint"]
    assert done(report) == {"start-stuck": [3]}


def test_undeletable_site_stops_no_other(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    trash = world.sites_dir / ".trash"
    for order_id in (1, 2, 3):
        (trash / f"project_{order_id}.{order_id}").mkdir(parents=True)
    rmtree = shutil.rmtree

    def refused(path: Path) -> None:
        if path.name.endswith("project_1.1"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", refused)
    code, report = run("maintain", "--max-actions", "2")
    (step,) = [step for step in report["data"]["steps"] if step["step"] == "prune-trash"]
    assert (code, step["pruned"], step["not_pruned"]) == (1, 2, {"project_1.1": "Permission denied"})
    assert [path.name for path in trash.iterdir()] == [".deleted.project_1.1"]
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout):
        assert main.run(["maintain"]) == 1
    assert stdout.getvalue() == (
        "prune-trash: 0 old sites deleted from the trash, 1 could not be\n  project_1.1  Permission denied\n"
    )


def test_dry_run_counts_prunable_entries(world: World) -> None:
    old = world.sites_dir / ".trash" / "project_1.1"
    old.mkdir(parents=True)
    dead = "0" * 8 + ".reply.celery.pidbox"
    with world.redis() as client:
        client.rpush(dead, "x")
        client.execute_command("RESTORE", f"1{dead}", 0, client.dump(dead), "IDLETIME", 3600)
    process = world.run("maintain", "--dry-run")
    assert process.stdout.splitlines() == [
        "prune-trash: 1 old site would be deleted from the trash",
        "prune-replies: 1 leftover reply list would be removed",
    ]
    assert old.exists()
    with world.redis() as client:
        assert client.exists(f"1{dead}") == 1


def test_bad_options_are_reported_before_any_change(world: World) -> None:
    world.order(3)
    for options in (
        ["--notify", "ftp://x"],
        ["--notify", "nonsense"],
        ["--notify-format", "xml"],
        ["--jitter", "x"],
        ["--jitter", "5"],
        ["--keep-trash", "-1d"],
        ["--keep-trash", "7"],
        ["--keep-trash", "59m"],
    ):
        process = world.run("maintain", *options)
        assert (process.returncode, process.stdout) == (2, ""), options
    assert world.queued() == []


def test_jitter_waits_at_most_its_value(world: World) -> None:
    world.order(3)
    assert world.run("maintain", "--jitter", "10ms").returncode == 0
    assert world.status(3) == "GENERATING"


def test_read_only_refuses_it(world: World) -> None:
    world.order(3)
    process = world.run("maintain", "--read-only")
    assert (process.returncode, world.status(3)) == (4, "BUILDING")
    assert world.run("maintain", "--read-only", "--dry-run").stdout.splitlines()[0] == "start-stuck: 1 would be started"
