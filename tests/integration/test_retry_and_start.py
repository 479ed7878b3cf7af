"""``retry-failed`` and ``start-stuck``."""

from __future__ import annotations

import json

import pytest

from tests.support.commands import Run, kinds
from tests.support.world import World


def failed(world: World, order_id: int, times: int = 1, *, age: str = "3 hours", **facts: str) -> None:
    world.order(order_id, "GENERATING", steps=["START", "ERROR"] * times, age=age, **facts)


def test_failed_orders_with_attempts_left_are_retried(world: World, run: Run) -> None:
    failed(world, 1)
    failed(world, 2, times=2)
    failed(world, 3, times=3)
    failed(world, 4, onboarding="missing")
    failed(world, 5)
    world.publish(5)
    world.order(6, "GENERATING", steps=["START"])
    failed(world, 7, onboarding="partial")
    code, report = run("retry-failed")
    assert (code, kinds(report)) == (0, {1: "done", 2: "done", 3: "skipped", 4: "refused", 7: "done"})
    assert "its onboarding is not complete" in report["outcomes"][7]["reason"]
    assert "attempts exhausted (3 of 3)" in report["outcomes"][3]["reason"]
    orders = sorted(json.loads(message["headers"]["argsrepr"])[0] for message in world.queued())
    assert orders == [1, 2, 5, 7]
    assert world.steps(1)[-1] == "OPERATOR_ENQUEUE"
    assert kinds(run("retry-failed", "--max-attempts", "4")[1])[3] == "done"


def test_delay_before_an_attempt_grows(world: World, run: Run) -> None:
    failed(world, 1, age="3 minutes")
    failed(world, 2, times=2, age="3 minutes")
    _, report = run("retry-failed")
    assert kinds(report) == {1: "done", 2: "skipped"}
    assert "attempt 2 failed 3m" in report["outcomes"][2]["reason"]
    assert kinds(run("retry-failed", "--force")[1]) == {2: "done"}


def test_retry_filters_by_error_and_age(world: World, run: Run) -> None:
    failed(world, 1, age="1 hour")
    failed(world, 2)
    world.sql("UPDATE site_generation_logs SET message = 'GitHub answered 503' WHERE order_id = 1 AND step = 'ERROR'")
    assert kinds(run("retry-failed", "--match", "GitHub.*50\\d", "--dry-run")[1]) == {1: "done"}
    assert kinds(run("retry-failed", "--older-than", "2h", "--dry-run")[1]) == {2: "done"}
    code, report = run("retry-failed", "--match", "(")
    assert (code, "not a regular expression" in report["errors"][0]["message"]) == (2, True)


def test_reset_gives_new_attempts(world: World, run: Run) -> None:
    world.order(1, "GENERATING", steps=["START", "ERROR"] * 3 + ["OPERATOR_RESET", "START", "ERROR"])
    assert kinds(run("retry-failed")[1]) == {1: "done"}


def test_stuck_orders_are_started_unless_on_hold(world: World, run: Run) -> None:
    world.order(1)
    world.order(2, steps=["OPERATOR_CANCEL"])
    world.order(3, age="10 seconds")
    world.order(4, onboarding="partial")
    world.order(5)
    world.publish(5)
    code, report = run("start-stuck")
    assert (code, kinds(report)) == (0, {1: "done", 2: "skipped", 3: "skipped"})
    assert (world.status(1), world.status(2), len(world.queued())) == ("GENERATING", "BUILDING", 2)
    assert run("enqueue", "2")[1]["outcomes"][2]["outcome"] == "done"


def test_limit_takes_the_first_and_counts_the_rest(world: World, run: Run) -> None:
    for order_id in range(1, 6):
        world.order(order_id)
    _, report = run("start-stuck", "--limit", "2")
    assert (kinds(report), report["data"]["beyond_limit"]) == ({1: "done", 2: "done"}, 3)


def test_orders_are_selected_by_condition(world: World, run: Run) -> None:
    failed(world, 1)
    world.order(2)
    world.order(3, name="Bia Lima")
    assert kinds(run("enqueue", "--condition", "failed", "--dry-run")[1]) == {1: "done"}
    assert kinds(run("enqueue", "--status", "building", "--search", "bia", "--dry-run")[1]) == {3: "done"}
    code, report = run("enqueue", "1", "--condition", "failed")
    assert (code, "cannot be combined" in report["errors"][0]["message"]) == (2, True)


def test_orders_selected_by_condition_need_confirmation(world: World) -> None:
    failed(world, 1)
    process = world.run("enqueue", "--condition", "failed")
    assert (process.returncode, world.queued()) == (2, [])
    assert "--yes" in process.stderr


@pytest.mark.parametrize("command", ["retry-failed", "start-stuck", "reset-empty", "repair", "maintain"])
def test_nothing_to_do_is_success(world: World, command: str) -> None:
    process = world.run(command)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == ("" if command == "maintain" else "nothing to do\n")
