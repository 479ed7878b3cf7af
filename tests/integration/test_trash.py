"""``trash list|restore|prune`` on the real directory: what is there, what comes back, and what never happens."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sitegenctl.operations.execute import execute_plan
from sitegenctl.operations.planner import Selection
from sitegenctl.operations.restore_planner import RestorePlanner
from tests.support.commands import Run
from tests.support.terminal import on_terminal
from tests.support.world import World

HOUR = 3600 * 10**9


def entry(world: World, order_id: int = 42, *, files: int = 8, hours: int = 1, operation: str | None = None) -> str:
    """Put a site in the trash; returns its name there."""
    name = f"project_{order_id}.{time.time_ns() - hours * HOUR}" + (f".{operation}" if operation else "")
    folder = world.sites_dir / ".trash" / name
    folder.mkdir(parents=True)
    for number in range(files):
        (folder / f"page{number}.html").write_text("<p>trash</p>")
    return name


def trashed(world: World) -> list[str]:
    return sorted(path.name for path in (world.sites_dir / ".trash").iterdir())


def hollow(world: World, order_id: int = 42, status: str = "REVIEW") -> None:
    """A finished order without a site."""
    world.order(order_id, status, steps=["START", "SUCCESS"])


def listed(world: World, *arguments: str) -> dict[str, Any]:
    process = world.run("trash", "list", *arguments, "-o", "json")
    assert process.returncode == 0, process.stderr
    data: dict[str, Any] = json.loads(process.stdout)["data"]
    return data


# --- list ---------------------------------------------------------------------------------------------------


def test_list_is_by_order_newest_first(world: World) -> None:
    old = entry(world, 42, files=3, hours=30)
    new = entry(world, 42, operation="1v3k8q2-x7m")
    other = entry(world, 7, files=0, hours=200)
    data = listed(world)
    assert [row["name"] for row in data["entries"]] == [other, new, old]
    row = data["entries"][1]
    assert (row["order_id"], row["operation"], row["files"], row["size"]) == (42, "1v3k8q2-x7m", 8, 8 * 12)
    assert 3600 <= row["age_seconds"] < 7200
    assert (data["entries"][2]["operation"], data["beyond_limit"], data["foreign"]) == (None, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "shown", "beyond"),
    [
        (("--order", "42"), [42, 42], 0),
        (("--order", "7", "--order", "8"), [7], 0),
        (("--older-than", "1d"), [7, 42], 0),
        (("--older-than", "1d", "--order", "42"), [42], 0),
        (("--limit", "2"), [7, 42], 1),
    ],
)
def test_list_filters(world: World, arguments: tuple[str, ...], shown: list[int], beyond: int) -> None:
    entry(world, 42, hours=30)
    entry(world, 42)
    entry(world, 7, hours=200)
    data = listed(world, *arguments)
    assert ([row["order_id"] for row in data["entries"]], data["beyond_limit"]) == (shown, beyond)


def test_list_needs_no_database_and_no_queue(world: World) -> None:
    entry(world)
    process = world.run("trash", "list", DATABASE_URL="", REDIS_URL="")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.split()[:3] == ["order", "in", "the"]


def test_foreign_names_and_unreadable_sites_stop_nothing(world: World, tmp_path: Path) -> None:
    name = entry(world, 1)
    trash = world.sites_dir / ".trash"
    (trash / "notes.txt").write_text("x")
    (trash / "project_9.yesterday").mkdir()
    (trash / "project_9.999999999999999999999").mkdir()  # after the end of the calendar
    (trash / "project_2.1").write_text("a file where a folder should be")
    (trash / "project_3.1").symlink_to(tmp_path)
    data = listed(world)
    assert {row["name"]: row["files"] for row in data["entries"]} == {name: 8, "project_2.1": None, "project_3.1": None}
    assert data["foreign"] == 3
    text = world.run("trash", "list").stdout
    assert "unreadable" in text
    assert "(3 other files in the trash: not of sitegenctl, never touched)" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("where", ["entry", "trash"])
def test_unreadable_folder_is_reported(world: World, where: str) -> None:
    folder = world.sites_dir / ".trash" / entry(world)
    folder = folder if where == "entry" else folder.parent
    folder.chmod(0)
    try:
        process = world.run("trash", "list")
    finally:
        folder.chmod(0o755)
    if where == "entry":
        assert (process.returncode, "unreadable" in process.stdout) == (0, True)
    else:
        assert (process.returncode, "Permission denied" in process.stderr) == (3, True)


@pytest.mark.parametrize("arguments", [("list",), ("restore", "42", "--yes"), ("prune", "--yes")])
@pytest.mark.parametrize("problem", ["a link", "missing directory", "not configured"])
def test_trash_that_cannot_be_used(world: World, tmp_path: Path, arguments: tuple[str, ...], problem: str) -> None:
    hollow(world)
    (tmp_path / "elsewhere" / "project_42.1").mkdir(parents=True)
    directory = {"a link": str(world.sites_dir), "missing directory": str(tmp_path / "no"), "not configured": ""}
    if problem == "a link":
        (world.sites_dir / ".trash").symlink_to(tmp_path / "elsewhere")
    process = world.run("trash", *arguments, SITES_BASE_DIR=directory[problem])
    assert process.returncode == 3, process.stderr
    assert process.stderr.startswith("error: ")
    assert (tmp_path / "elsewhere" / "project_42.1").exists()


def test_missing_trash_is_empty(world: World) -> None:
    assert world.run("trash", "list").stdout == "no sites in the trash\n"


# --- restore ------------------------------------------------------------------------------------------------


def test_restore_brings_the_newest_site_back(world: World, run: Run) -> None:
    hollow(world)
    old = entry(world, files=5, hours=9)
    name = entry(world, operation="1v3k8q2-x7m")
    code, report = run("trash", "restore", "42")
    outcome = report["outcomes"][42]
    assert (code, outcome["outcome"], outcome["before"], outcome["after"]) == (0, "done", "REVIEW", "REVIEW")
    assert outcome["reason"] == (
        "restored; 8 files, moved to the trash 1h ago by operation 1v3k8q2-x7m; REVIEW, counts as done"
    )
    assert (world.status(), len(world.site_files()), trashed(world)) == ("REVIEW", 8, [old])
    row = world.log()[-1]
    details = json.loads(row["details"])
    assert (row["step"], details["entry"], details["before"]) == ("OPERATOR_RESTORE", name, "REVIEW")
    assert "after" not in details


@pytest.mark.parametrize("by", ["operation", "name"])
def test_an_older_entry_can_be_chosen(world: World, run: Run, by: str) -> None:
    hollow(world)
    old = entry(world, files=5, hours=9, operation="1v3k8q2-x7m")
    newest = entry(world)
    code, _ = run("trash", "restore", "42", "--entry", old if by == "name" else "1v3k8q2-x7m")
    assert (code, len(world.site_files()), trashed(world)) == (0, 5, [newest])


@pytest.mark.parametrize(
    ("status", "steps", "files", "condition"),
    [
        ("REVIEW", ["START", "SUCCESS"], 8, "done"),
        ("REVIEW", ["START", "SUCCESS"], 3, "hollow"),
        ("GENERATING", ["START"], 8, "interrupted"),
        ("GENERATING", ["START"], 3, "empty"),
        ("GENERATING", ["START", "ERROR"], 8, "failed"),
        ("BUILDING", [], 8, "unstarted"),
        ("CANCELLED", [], 8, "cancelled"),
    ],
)
def test_plan_says_what_the_order_counts_as(
    world: World, run: Run, status: str, steps: list[str], files: int, condition: str
) -> None:
    world.order(42, status, steps=steps)
    entry(world, files=files)
    code, report = run("trash", "restore", "42", "--dry-run")
    assert (code, world.site().exists(), len(world.steps())) == (0, False, len(steps))
    assert report["outcomes"][42]["reason"].endswith(f"{status}, counts as {condition}")
    run("trash", "restore", "42")
    assert world.status() == status
    code, report = run("inspect", "42", SITEGENCTL_GRACE="0s")
    assert report["data"]["condition"] == condition


def test_newer_site_is_kept_unless_forced(world: World, run: Run) -> None:
    world.order(42, "REVIEW", steps=["START", "SUCCESS"], files=6)
    name = entry(world)
    code, report = run("trash", "restore", "42")
    outcome = report["outcomes"][42]
    assert (code, outcome["outcome"], outcome["reason"]) == (4, "refused", "it has a newer site (6 files)")
    assert (len(world.site_files()), trashed(world)) == (6, [name])
    code, report = run("trash", "restore", "42", "--force")
    assert (code, "6 files in place go to the trash" in report["outcomes"][42]["reason"]) == (0, True)
    assert len(world.site_files()) == 8
    (row,) = listed(world)["entries"]
    assert (row["files"], row["name"] != name, row["operation"]) == (6, True, report["data"]["operation"])


def test_empty_folder_is_no_newer_site(world: World, run: Run) -> None:
    hollow(world)
    world.site().mkdir()
    entry(world)
    assert run("trash", "restore", "42")[0] == 0
    assert len(world.site_files()) == 8


def _queued(world: World) -> None:
    world.order(42, "GENERATING")
    world.publish(42)


def _other_entry(world: World) -> None:
    entry(world, 7)
    hollow(world)


REFUSED: dict[str, tuple[Callable[[World], object], str]] = {
    "no entry": (_other_entry, "no such site"),
    "no order": (entry, "no such order"),
    "task": (lambda world: (_queued(world), entry(world)), "queued"),
    "ghost": (lambda world: (hollow(world), world.publish(42), entry(world)), "queued"),
    "running": (lambda world: (_queued(world), world.deliver(ago=10), entry(world)), "unaccounted"),
    "recent": (lambda world: (world.order(42, "GENERATING", age="5 seconds"), entry(world)), "may be on its way"),
    "link": (lambda world: (hollow(world), world.site().symlink_to(world.sites_dir), entry(world)), "link"),
    "entry is a link": (lambda world: (hollow(world), linked_entry(world)), "a link or can't be read"),
    "no status": (lambda world: (world.order(42, None), entry(world)), "status"),
}


def linked_entry(world: World) -> None:
    name = entry(world)
    trash = world.sites_dir / ".trash"
    (trash / name).rename(world.folder / "elsewhere")
    (trash / name).symlink_to(world.folder / "elsewhere")


@pytest.mark.parametrize("case", REFUSED)
def test_refused_order_is_not_touched(world: World, run: Run, case: str) -> None:
    prepare, reason = REFUSED[case]
    prepare(world)
    before = (trashed(world), world.site().exists(), world.steps() if case != "no order" else [])
    code, report = run("trash", "restore", "42", "--force")
    outcome = report["outcomes"][42]
    assert (code, outcome["outcome"]) == (4, "refused"), outcome
    assert reason in outcome["reason"]
    assert "--force" not in str(report["errors"])
    assert (trashed(world), world.site().exists(), world.steps() if case != "no order" else []) == before


@pytest.mark.parametrize("meanwhile", ["a new site", "a row", "a task"])
def test_order_that_changed_since_the_plan_is_left_alone(world: World, meanwhile: str) -> None:
    hollow(world)
    name = entry(world)

    plan = world.with_session(lambda session: RestorePlanner().plan_all(session, Selection(order_ids=[42])))
    if meanwhile == "a new site":
        world.files(42, 6)
    elif meanwhile == "a row":
        world.sql("INSERT INTO site_generation_logs (order_id, step, message) VALUES (42, 'START', 'x')")
    else:
        world.publish(42)
    (outcome,) = world.with_session(lambda session: execute_plan(session, plan)).outcomes
    assert outcome.outcome == ("failed" if meanwhile == "a new site" else "skipped"), outcome
    assert (world.status(), trashed(world)) == ("REVIEW", [name])
    assert world.site_files() == [f"page{number}.html" for number in range(6 if meanwhile == "a new site" else 0)]


def test_failed_restore_puts_the_newer_site_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.order(42, "REVIEW", steps=["START", "SUCCESS"], files=6)
    name = entry(world)
    rename = os.rename

    def refused(source: Any, target: Any) -> None:
        if str(source).endswith(name):
            raise PermissionError(13, "Permission denied", str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refused)
    process = world.run("trash", "restore", "42", "--force", "--yes", "-o", "json")
    (outcome,) = json.loads(process.stdout)["data"]["outcomes"]
    assert (process.returncode, outcome["outcome"]) == (1, "failed")
    assert outcome["reason"] == "project_42 can't be moved: Permission denied"
    assert (len(world.site_files()), trashed(world)) == (6, [name])
    assert world.steps()[-2:] == ["OPERATOR_RESTORE", "OPERATOR_RESTORE_FAILED"]


def test_restore_says_nothing_about_tasks(world: World, run: Run) -> None:
    """An order on hold stays on hold, and attempts stay used up."""
    world.order(42, "GENERATING", steps=["START", "ERROR"])
    run("cancel", "42")
    entry(world)
    run("trash", "restore", "42")
    assert run("inspect", "42")[1]["data"]["condition"] == "held"
    world.order(43, "GENERATING", steps=["START", "ERROR"] * 3)
    entry(world, 43)
    run("trash", "restore", "43")
    assert run("retry-failed", "43")[1]["outcomes"][43]["reason"] == "attempts exhausted (3 of 3)"


def test_restore_after_a_reset_and_its_cancellation(world: World, run: Run) -> None:
    world.order(42, "REVIEW", steps=["START", "SUCCESS"], files=8)
    run("reset", "42")
    assert run("trash", "restore", "42")[0] == 4
    run("cancel", "42")
    assert run("trash", "restore", "42")[0] == 0
    assert (world.status(), len(world.site_files()), trashed(world)) == ("BUILDING", 8, [])


def test_reset_is_undone_after_its_site_was_restored(world: World, run: Run) -> None:
    world.order(42, "REVIEW", steps=["START", "SUCCESS"], files=8)
    run("reset", "42", "--no-enqueue")
    operation = run("trash", "restore", "42")[1]["data"]["operation"]
    code, report = run("undo", operation)
    assert (code, report["outcomes"][42]["reason"]) == (4, "trash restore is not undone")
    code, report = run("undo")
    assert (code, report["outcomes"][42]["outcome"]) == (0, "done")
    assert (world.status(), len(world.site_files())) == ("REVIEW", 8)


def test_restore_asks_and_needs_a_writable_system(world: World) -> None:
    hollow(world)
    name = entry(world)
    assert world.run("trash", "restore", "42").returncode == 2
    assert world.run("trash", "restore", "42", "--yes", "--read-only").returncode == 4
    process = on_terminal("trash", "restore", "42", answers=[("1 order would be restored. Continue? [y/N] ", "n")])
    assert "moved to the trash 1h ago" in process.stdout
    assert trashed(world) == [name]


# --- prune --------------------------------------------------------------------------------------------------


def test_prune_deletes_what_is_old(world: World, run: Run) -> None:
    old, young = entry(world, hours=24 * 8, operation="1v3k8q2-x7m"), entry(world, hours=24 * 6)
    (world.sites_dir / ".trash" / "notes.txt").write_text("x")
    code, report = run("trash", "prune", "--older-than", "7d", "--dry-run")
    assert (code, report["data"]["pruned"], trashed(world)) == (0, 1, sorted(["notes.txt", old, young]))
    code, report = run("trash", "prune")
    assert (code, report["data"], trashed(world)) == (
        0,
        {"dry_run": False, "pruned": 1, "not_pruned": {}},
        ["notes.txt", young],
    )


def test_prune_finishes_what_a_killed_one_began(world: World, run: Run) -> None:
    """An entry is renamed before it is deleted, so that nothing restores half of it."""
    trash = world.sites_dir / ".trash"
    (trash / entry(world, files=2)).rename(trash / ".deleted.project_42.1")
    data = listed(world)
    assert (data["entries"], data["foreign"]) == ([], 0)
    assert run("trash", "prune")[1]["data"]["pruned"] == 1
    assert trashed(world) == []


@pytest.mark.parametrize("age", ["59m", "0s"])
def test_prune_keeps_sites_for_an_hour(world: World, age: str) -> None:
    entry(world)
    process = world.run("trash", "prune", "--yes", "--older-than", age)
    assert (process.returncode, "the only copy of a site" in process.stderr) == (2, True)
    assert len(trashed(world)) == 1


def test_prune_asks(world: World) -> None:
    entry(world, hours=24 * 8)
    assert world.run("trash", "prune").returncode == 2
    question = "They cannot be restored afterwards. Continue? [y/N] "
    process = on_terminal("trash", "prune", answers=[(question, "n")])
    assert "1 old site would be deleted from the trash" in process.stdout
    assert len(trashed(world)) == 1
    on_terminal("trash", "prune", answers=[(question, "y")])
    assert trashed(world) == []
