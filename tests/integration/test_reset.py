"""``reset`` and ``reset-empty``: trashed files, refused orders, and no data loss."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from sitegenctl.domain.plans.plan import OperationResult
from sitegenctl.domain.ports import PublishFailure
from sitegenctl.domain.queue.task import Publication
from sitegenctl.operations import planner as planning
from sitegenctl.operations.execute import execute_plan
from sitegenctl.operations.planner import Selection
from sitegenctl.operations.reset_planner import ResetPlanner
from sitegenctl.session import Session
from tests.support.commands import Run
from tests.support.faults import refusing_redis
from tests.support.terminal import on_terminal
from tests.support.world import World


def trash(world: World) -> list[str]:
    folder = world.sites_dir / ".trash"
    return sorted(path.name.partition(".")[0] for path in folder.iterdir()) if folder.exists() else []


def finished(world: World, order_id: int = 42, files: int = 8) -> None:
    world.order(order_id, "REVIEW", steps=["START", "SUCCESS"], files=files)


def journal(world: World, order_id: int = 42) -> dict[str, object]:
    row = world.log(order_id)[-1]
    return {"step": row["step"], **json.loads(row["details"])}


def test_reset_starts_a_finished_order_from_the_beginning(world: World, run: Run) -> None:
    finished(world)
    code, report = run("reset", "42")
    outcome = report["outcomes"][42]
    assert (code, outcome["outcome"], outcome["before"], outcome["after"]) == (0, "done", "REVIEW", "GENERATING")
    assert "8 files to the trash" in outcome["reason"]
    assert (world.status(), world.site().exists(), trash(world)) == ("GENERATING", False, ["project_42"])
    (message,) = world.queued()
    assert (message["headers"]["id"], message["headers"]["kwargsrepr"]) == (outcome["task_id"], "{'resume': False}")
    entry = journal(world)
    assert (entry["step"], entry["task_id"], entry["resume"]) == ("OPERATOR_RESET", outcome["task_id"], False)
    assert (entry["before"], entry["command"]) == ("REVIEW", "reset")
    (trashed,) = (world.sites_dir / ".trash").iterdir()
    assert trashed.name.split(".")[2] == entry["operation"]


def test_no_enqueue_leaves_the_order_in_building(world: World, run: Run) -> None:
    finished(world)
    code, _ = run("reset", "42", "--no-enqueue")
    assert (code, world.status(), world.queued(), trash(world)) == (0, "BUILDING", [], ["project_42"])
    assert world.steps()[-1] == "OPERATOR_RESET"


def test_files_can_be_kept(world: World, run: Run) -> None:
    finished(world)
    run("reset", "42", "--keep-files")
    assert (world.status(), len(world.site_files()), trash(world)) == ("GENERATING", 8, [])


def test_reset_replaces_a_queued_task(world: World, run: Run) -> None:
    world.order(42, "GENERATING", files=2)
    old = world.publish(42)
    code, report = run("reset", "42")
    assert code == 0
    assert f"task {old[:8]} revoked" in report["outcomes"][42]["reason"]
    assert world.queued_ids() == [report["outcomes"][42]["task_id"]] != [old]
    assert journal(world)["withdrawn"] == [old]


def test_without_a_terminal_and_without_yes_nothing_is_done(world: World) -> None:
    finished(world)
    process = world.run("reset", "42")
    assert (process.returncode, process.stdout) == (2, "")
    assert "--yes" in process.stderr
    assert (world.status(), world.steps(), len(world.site_files())) == ("REVIEW", ["START", "SUCCESS"], 8)


#: Options that select orders by their properties.
CHOSEN = (("--condition", "done"), ("--status", "review"), ("--search", "Ana"), ("--condition", "failed", "-C", "done"))


def seven_finished(world: World) -> None:
    for order_id in range(1, 8):
        finished(world, order_id)
    world.order(8, "GENERATING", steps=["START", "ERROR"])


@pytest.mark.parametrize("chosen", CHOSEN, ids=" ".join)
def test_yes_does_not_confirm_unnamed_finished_orders(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch, chosen: tuple[str, ...]
) -> None:
    monkeypatch.setattr(planning, "BATCH_SIZE", 2)  # counted over the whole plan
    seven_finished(world)
    code, report = run("reset", *chosen)
    assert (code, report["outcomes"], world.queued(), trash(world)) == (4, {}, [], [])
    assert report["errors"][0]["message"].startswith("7 finished orders would be reset")
    assert report["errors"][0]["hint"].startswith("name the orders")
    assert {world.status(order_id) for order_id in range(1, 8)} == {"REVIEW"}


@pytest.mark.parametrize("source", ["arguments", "file"])
def test_yes_confirms_named_orders(world: World, run: Run, source: str, tmp_path: Path) -> None:
    seven_finished(world)
    file = tmp_path / "orders"
    file.write_text("1-7\n")
    arguments = ["1-7"] if source == "arguments" else ["--from", str(file)]
    code, report = run("reset", *arguments)
    assert (code, len(report["outcomes"]), len(world.queued()), len(trash(world))) == (0, 7, 7, 7)


@pytest.mark.parametrize("chosen", [("--condition", "failed"), ("--search", "1"), ("--condition", "done")])
def test_yes_confirms_up_to_five_finished_orders(world: World, run: Run, chosen: tuple[str, ...]) -> None:
    for order_id in range(1, 6):
        finished(world, order_id)
    world.order(8, "GENERATING", steps=["START", "ERROR"])
    code, report = run("reset", *chosen)
    assert (code, len(report["outcomes"])) == (0, 5 if "done" in chosen else 1)


def test_dry_run_needs_no_number(world: World, run: Run) -> None:
    seven_finished(world)
    code, report = run("reset", "--condition", "done", "--dry-run")
    assert (code, len(report["outcomes"]), world.queued()) == (0, 7, [])


@pytest.mark.parametrize("arguments", [("1-8",), ("--status", "review"), ("--status", "review", "--yes")], ids=" ".join)
@pytest.mark.parametrize(("answer", "is_right"), [("7", True), ("8", False), ("y", False), ("yes", False), ("", False)])
def test_resetting_many_finished_orders_asks_for_their_number(
    world: World, arguments: tuple[str, ...], answer: str, is_right: bool
) -> None:
    seven_finished(world)
    process = on_terminal(
        "reset", *arguments, answers=[("7 finished orders would be reset. Type 7 to continue: ", answer)]
    )
    assert process.returncode == 0
    assert ("nothing was changed" in process.stdout) != is_right
    in_all = 8 if "1-8" in arguments else 7
    assert (len(world.queued()), len(trash(world))) == ((in_all, 7) if is_right else (0, 0))


def test_dry_run_shows_the_plan_and_changes_nothing(world: World, run: Run) -> None:
    finished(world)
    code, report = run("reset", "42", "--dry-run")
    assert (code, report["data"]["dry_run"], report["outcomes"][42]["outcome"]) == (0, True, "done")
    assert report["outcomes"][42]["reason"] == "would be reset; 8 files to the trash"
    assert (world.status(), world.queued(), trash(world)) == ("REVIEW", [], [])


def test_refused_publish_restores_the_site(world: World) -> None:
    finished(world)

    async def refused(publications: Sequence[Publication]) -> Mapping[str, PublishFailure]:
        return {p.task_id: PublishFailure(reason="Redis refused: OOM", certain=True) for p in publications}

    async def work(session: Session) -> OperationResult:
        plan = await ResetPlanner().plan_all(session, Selection(order_ids=[42]))
        session.queue.publish = refused  # type: ignore[method-assign]
        return await execute_plan(session, plan)

    (outcome,) = world.with_session(work).outcomes
    assert (outcome.outcome, outcome.reason) == ("failed", "publishing failed: Redis refused: OOM; REVIEW again")
    assert (world.status(), len(world.site_files()), trash(world)) == ("REVIEW", 8, [])
    assert world.steps()[-2:] == ["OPERATOR_RESET", "OPERATOR_RESET_FAILED"]


def test_full_redis_starts_nothing(world: World, run: Run) -> None:
    finished(world)
    with refusing_redis(world):
        code, report = run("reset", "42")
    assert (code, report["errors"][0]["source"]) == (3, "workers")
    assert (world.status(), len(world.site_files()), world.steps()) == ("REVIEW", 8, ["START", "SUCCESS"])


def test_refused_orders_do_not_stop_a_reset(world: World, run: Run) -> None:
    world.order(1, "CANCELLED")
    world.order(2, "PAID")
    world.order(3, "GENERATING", onboarding="missing")
    world.order(4, None)
    finished(world, 42)
    code, report = run("reset", "1-5", "42")
    kinds = {order_id: outcome["outcome"] for order_id, outcome in report["outcomes"].items()}
    assert (code, kinds) == (4, dict.fromkeys(range(1, 6), "refused") | {42: "done"})


def test_recently_changed_order_is_skipped_unless_forced(world: World, run: Run) -> None:
    world.order(42, "GENERATING", age="5 seconds")
    assert run("reset", "42")[1]["outcomes"][42]["outcome"] == "skipped"
    assert run("reset", "42", "--force")[1]["outcomes"][42]["outcome"] == "done"


@pytest.mark.parametrize(("command", "expected"), [(("reset", "42"), 4), (("reset-empty",), 0)])
def test_link_instead_of_a_site_is_not_touched(
    world: World, run: Run, command: tuple[str, ...], expected: int, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    finished(world, 7)
    world.order(42, "GENERATING", steps=["START"])
    world.site(42).symlink_to(elsewhere)
    code, report = run(*command)
    assert (code, report["outcomes"][42]["outcome"]) == (expected, "refused")
    assert "link" in report["outcomes"][42]["reason"]
    assert world.site(42).is_symlink()
    assert (elsewhere / "precious").exists()
    assert (world.status(42), world.queued()) == ("GENERATING", [])


def test_link_created_after_planning_is_not_touched(world: World, tmp_path: Path) -> None:
    finished(world)

    async def work(session: Session) -> OperationResult:
        plan = await ResetPlanner().plan_all(session, Selection(order_ids=[42]))
        world.site().rename(tmp_path / "moved")
        world.site().symlink_to(tmp_path / "moved")
        return await execute_plan(session, plan)

    (outcome,) = world.with_session(work).outcomes
    assert outcome.outcome == "failed"
    assert "symbolic link" in outcome.reason
    assert (world.status(), world.queued()) == ("REVIEW", [])
    assert len(list((tmp_path / "moved").iterdir())) == 8


def test_unwritable_sites_directory_leaves_the_order_unchanged(world: World, run: Run) -> None:
    finished(world)
    (world.sites_dir / ".trash").write_text("not a folder: nothing can be moved into it")
    code, report = run("reset", "42")
    assert (code, report["outcomes"][42]["outcome"]) == (1, "failed")
    assert "project_42 can't be moved" in report["outcomes"][42]["reason"]
    assert (world.status(), len(world.site_files()), world.queued()) == ("REVIEW", 8, [])


# --- reset-empty ----------------------------------------------------------------------------------------------


def empties(world: World) -> None:
    finished(world, 1)
    world.order(2, "GENERATING", steps=["START", "PHASE_1_START"], files=2)
    world.order(3, "GENERATING", steps=["START", "ERROR"])  # failed, and empty: empty is what counts
    world.order(4, "GENERATING", steps=["START"], files=6)
    world.order(5, "GENERATING", steps=["START"], age="3 minutes")
    world.order(6, "GENERATING", onboarding="missing")
    world.order(7, "GENERATING", steps=["START"])
    world.publish(7)
    world.order(8, "BUILDING")


def test_only_empty_orders_are_reset(world: World, run: Run) -> None:
    empties(world)
    code, report = run("reset-empty")
    kinds = {order_id: outcome["outcome"] for order_id, outcome in report["outcomes"].items()}
    assert (code, kinds) == (0, {2: "done", 3: "done", 5: "skipped", 6: "refused"})
    assert [world.status(n) for n in (2, 3, 4, 8)] == ["GENERATING", "GENERATING", "GENERATING", "BUILDING"]
    assert len(world.queued()) == 3
    assert (trash(world), len(world.site_files(1)), len(world.site_files(4))) == (["project_2"], 8, 6)


def test_limit_min_files_and_older_than(world: World, run: Run) -> None:
    empties(world)
    _, report = run("reset-empty", "--older-than", "2m", "--min-files", "7", "--limit", "2", "--dry-run")
    done = [order_id for order_id, outcome in report["outcomes"].items() if outcome["outcome"] == "done"]
    # Order 5 began three minutes ago and has no outcome: it may still be running.
    assert (done, report["data"]["beyond_limit"]) == ([2, 3], 1)


@pytest.mark.parametrize("how", ["missing", "bare", "another", "a file"])
def test_wrong_sites_directory_stops_reset_empty(world: World, run: Run, how: str, tmp_path: Path) -> None:
    finished(world, 1)
    world.order(2, "GENERATING", steps=["START"])
    wrong = tmp_path / "wrong"
    if how == "bare":
        wrong.mkdir()
    elif how == "another":
        (wrong / "project_999").mkdir(parents=True)
        (wrong / "project_999" / "index.html").write_text("x")
    elif how == "a file":
        wrong.write_text("x")
    code, report = run("reset-empty", SITES_BASE_DIR=str(wrong))
    assert (code, report["errors"][0]["source"]) == (3, "files")
    assert (world.status(2), world.queued(), world.steps(2)) == ("GENERATING", [], ["START"])


def test_uncountable_files_are_refused(world: World, run: Run) -> None:
    finished(world, 1)
    world.order(2, "GENERATING", steps=["START"])
    world.site(2).write_text("a file where a folder should be")
    code, report = run("reset-empty")
    assert (code, report["outcomes"][2]["outcome"]) == (0, "refused")
    assert world.site(2).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folder_is_refused(world: World, run: Run) -> None:
    finished(world, 1)
    world.order(2, "GENERATING", steps=["START"], files=1)
    world.site(2).chmod(0)
    try:
        assert run("reset-empty")[1]["outcomes"][2]["outcome"] == "refused"
    finally:
        world.site(2).chmod(0o755)
