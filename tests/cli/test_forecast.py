"""Forecasts in the commands that show them, with real workers and a log of recent runs."""

from __future__ import annotations

import json

import pytest

from tests.support.world import Log, World, eventually

both = pytest.mark.parametrize("backend", ["celery", "rq"])

#: Seconds of every run in the log.
USUAL = 600


def with_recent_runs(world: World, count: int = 20) -> None:
    log = Log(world)
    world.order(100, "DELIVERED")
    for number in range(count):
        log.run(100, ago=(count - number) * (USUAL + 60), seconds=USUAL)


def with_running_order(world: World) -> None:
    """Order 1 is running until its worker is killed; 2 and 3 can be enqueued."""
    for order_id in (1, 2, 3):
        world.order(order_id, "GENERATING")
    world.start_gated_worker()
    world.run_one(1)


def queue_rows(world: World) -> dict[int, dict]:
    rows = json.loads(world.run("inspect", "queue", "-o", "json").stdout)["data"]["tasks"]
    return {row["order_id"]: row for row in rows}


@both
def test_waiting_tasks_start_when_a_slot_is_free(world: World) -> None:
    with_recent_runs(world)
    with_running_order(world)
    world.enqueue(2, 3, force=True)
    rows = queue_rows(world)
    assert rows[1]["starts_in_seconds"] is None
    assert rows[2]["starts_in_seconds"]["p50"] == pytest.approx(USUAL, rel=0.2)
    assert rows[3]["starts_in_seconds"]["p50"] == pytest.approx(2 * USUAL, rel=0.2)
    assert rows[3]["ends_in_seconds"]["p10"] < rows[3]["ends_in_seconds"]["p50"] < rows[3]["ends_in_seconds"]["p90"]

    overview = json.loads(world.run("status", "-o", "json").stdout)["data"]
    assert overview["forecast"]["empty_in_seconds"]["p50"] == pytest.approx(3 * USUAL, rel=0.2)
    assert "empty in about " in world.run("status").stdout
    assert "empty in about " in world.run("inspect", "queue").stdout
    assert "starts in " in world.run("inspect", "2").stdout
    samples = json.loads(world.run("metrics", "-o", "json").stdout)["data"]["metrics"]
    drain = {
        each["labels"]["quantile"]: each["value"]
        for each in samples
        if each["metric"] == "sitegenctl_queue_drain_seconds"
    }
    assert drain["0.1"] < drain["0.5"] < drain["0.9"]


@both
def test_nothing_starts_while_the_queue_is_paused(world: World) -> None:
    with_recent_runs(world)
    with_running_order(world)
    world.run("queue", "pause")
    world.enqueue(2, force=True)
    expected = "not before a worker consumes the queue"
    eventually(lambda: f"starts {expected}" in world.run("inspect", "2").stdout)
    assert f"empty {expected}" in world.run("status").stdout
    assert queue_rows(world)[2]["starts_in_seconds"] is None
    assert "sitegenctl_queue_drain_seconds{" not in world.run("metrics").stdout


@both
def test_nothing_starts_without_a_worker(world: World) -> None:
    with_recent_runs(world)
    world.order(2)
    world.enqueue(2)
    assert "not before a worker consumes the queue" in world.run("inspect", "queue").stdout


def test_nothing_is_shown_with_fewer_than_20_runs(world: World) -> None:
    with_recent_runs(world, count=19)
    with_running_order(world)
    assert "empty in" not in world.run("status").stdout
    assert queue_rows(world)[1]["ends_in_seconds"] is None


def test_wait_shows_when_the_order_is_ready(world: World) -> None:
    with_recent_runs(world)
    world.order(5)
    world.worker("-c", "1", generator="small")
    shown = world.run("enqueue", "5", "--wait").stdout
    assert " ends in " in shown.splitlines()[1]
