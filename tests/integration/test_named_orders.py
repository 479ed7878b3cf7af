"""Commands that select their own orders, restricted by number, by file or by condition."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from sitegenctl.domain.diagnosis.condition import Condition
from tests.support.commands import Run
from tests.support.world import World

OTHER = 7  # an order that is fine
MISSING = 99


def two_of(world: World, command: str) -> None:
    """Two orders that the command takes, and one that it doesn't."""
    world.order(OTHER, "REVIEW", steps=["START", "SUCCESS"], files=8)
    for order_id in (1, 2):
        match command:
            case "retry-failed":
                world.order(order_id, "GENERATING", steps=["START", "ERROR"], age="3 hours")
            case "reset-empty":
                world.order(order_id, "GENERATING", steps=["START", "PHASE_1_START"], age="3 hours")
            case "start-stuck":
                world.order(order_id)
            case "repair":
                world.order(order_id, "GENERATING", age="3 hours")


@pytest.mark.parametrize("command", ["retry-failed", "reset-empty", "start-stuck", "repair"])
def test_only_selected_orders_are_changed(world: World, run: Run, tmp_path: Path, command: str) -> None:
    two_of(world, command)
    code, report = run(command, str(MISSING), "2", str(OTHER))
    outcomes = {order_id: (row["outcome"], row["reason"]) for order_id, row in report["outcomes"].items()}
    assert list(outcomes) == [MISSING, 2, OTHER]  # as they were named
    assert (code, outcomes[MISSING]) == (4, ("refused", "no such order"))
    assert outcomes[2][0] == "done"
    other = "nothing to repair: REVIEW" if command == "repair" else f"{command} does not apply to it"
    assert outcomes[OTHER] == ("skipped", other)
    (message,) = world.queued()
    assert message["headers"]["argsrepr"].startswith("[2")
    listed = tmp_path / "orders"
    listed.write_text("2\n1\n")
    code, report = run(command, "--from", str(listed), "--dry-run")
    assert {order_id: row["outcome"] for order_id, row in report["outcomes"].items()} == {2: "skipped", 1: "done"}
    # A filter names no orders, so the others are not reported.
    status = "building" if command == "start-stuck" else "generating"
    assert list(run(command, "--status", status, "--dry-run")[1]["outcomes"]) == [1]
    assert run(command, "--status", "delivered")[1]["outcomes"] == {}


@pytest.mark.parametrize("backend", ["celery", "rq"])
def test_refusal_is_an_error_only_for_a_named_order(world: World, run: Run) -> None:
    world.order(1, "GENERATING", onboarding="missing")
    for command in ("enqueue", "reset"):
        for selection, expected in (("1", 4), ("--status=generating", 0), ("--search=Ana", 0)):
            for dry_run in ([], ["--dry-run"]):
                code, report = run(command, selection, *dry_run)
                assert (code, report["outcomes"][1]["outcome"]) == (expected, "refused"), (command, selection)


def test_refusal_of_a_delivered_task_is_an_error_only_by_number(world: World, run: Run) -> None:
    world.order(1, "GENERATING")
    world.publish(1)
    world.deliver(ago=60)
    world.publish(1)
    for command, expected in (("cancel 1", 4), ("cancel --status generating", 0), ("queue purge", 0)):
        code, report = run(*command.split())
        assert (code, report["outcomes"][1]["outcome"]) == (expected, "refused"), command


def put_into(world: World, order_id: int, condition: Condition) -> None:
    """Insert an order in this condition, which an operator must fix."""
    match condition:
        case Condition.DUPLICATED | Condition.GHOST | Condition.ORPHANED:
            finished = condition is Condition.GHOST
            world.order(order_id, "REVIEW" if finished else "GENERATING", files=8 if finished else None)
            world.publish(order_id)
            if condition is Condition.DUPLICATED:
                world.publish(order_id)
            elif condition is Condition.ORPHANED:
                world.deliver()
        case Condition.FAILED:
            world.order(order_id, "GENERATING", steps=["START", "ERROR"])
        case Condition.INTERRUPTED:
            world.order(order_id, "GENERATING")
        case Condition.EMPTY:
            world.order(order_id, "GENERATING", steps=["START", "PHASE_1_START"])
        case Condition.HELD:
            world.order(order_id, steps=["OPERATOR_CANCEL"])
        case Condition.UNSTARTED:
            world.order(order_id)
        case Condition.HOLLOW:
            world.order(order_id, "REVIEW", steps=["START", "SUCCESS"])


@pytest.mark.parametrize("condition", [condition for condition in Condition if condition.command is not None])
def test_remedy_of_one_order_fixes_that_order_only(world: World, run: Run, condition: Condition) -> None:
    world.order(OTHER, "REVIEW", steps=["START", "SUCCESS"], files=8)
    for order_id in (1, 2):
        put_into(world, order_id, condition)
    seen = run("inspect", "1")[1]["data"]
    assert seen["condition"] == condition
    _, *words = shlex.split(seen["remedy"])
    code, report = run(*words)
    assert (code, {order_id: row["outcome"] for order_id, row in report["outcomes"].items()}) == (0, {1: "done"})
    conditions = [run("inspect", str(order_id))[1]["data"]["condition"] for order_id in (1, 2)]
    assert conditions == [conditions[0], condition]
    assert conditions[0] in ("queued", "done")


def test_ghost_of_a_missing_order_is_fixed_by_number(world: World, run: Run) -> None:
    world.publish(MISSING)
    seen = run("inspect", str(MISSING))[1]["data"]
    # Its message has no date: the order may not be committed yet. Named by a person, it goes after a second reading.
    assert (seen["condition"], seen["remedy"]) == ("unknown", f"sitegenctl repair {MISSING}")
    assert run("repair")[1]["outcomes"] == {}
    assert run("repair", str(MISSING))[1]["outcomes"][MISSING]["outcome"] == "done"
    assert world.queued() == []
