"""Orders whose worker is dead run again: after the limit by cron, at once on an operator's word or on proof."""

from __future__ import annotations

import time

import pytest

from tests.support.living_system import PATIENCE, System
from tests.support.world import eventually

pytestmark = pytest.mark.timeout(300)

#: What a worker may still do after its hard limit, in seconds.
MARGIN = 30


@pytest.mark.parametrize("source", ["the setting", "the message", "workers that respond"])
def test_killed_worker_recovered_by_maintain_after_the_limit(living: System, source: str) -> None:
    limit = 10
    living.options["SITEGENCTL_HARD_TIME_LIMIT"] = f"{limit if source == 'the setting' else 600}s"
    living.enqueue_as_backend(41, 42, **({"time_limit": limit} if source == "the message" else {}))
    # One order runs, one is reserved.
    worker = living.deployed("first", concurrency=1, worker_prefetch_multiplier=2)
    living.wait_running(41)
    eventually(lambda: len(living.delivered(41, 42)) == 2)
    delivered = living.delivered(41, 42)
    living.kill(worker)
    killed_at = time.monotonic()
    living.finish(41, 42)
    if source == "workers that respond":
        living.deployed("second", task_time_limit=limit, task_soft_time_limit=None)
    with living.operators("maintain"):
        if source != "workers that respond":
            living.deployed("second", worker_enable_remote_control=False)
        eventually(lambda: len(living.runs.all()) == 3, patience=PATIENCE)
        living.wait_generated(41, 42)
    (first, second), (only,) = living.runs.of(41), living.runs.of(42)
    for run, order_id in ((second, 41), (only, 42)):
        assert run.wall >= delivered[order_id][1] + limit + MARGIN
    living.recovery = max(second.begin, only.begin) - killed_at
    assert not living.runs.overlaps()
    assert not first.is_going_on


def test_killed_worker_recovered_at_once_on_an_operator_s_word(living: System) -> None:
    living.enqueue_as_backend(41, 42)
    # One order runs, one is reserved.
    worker = living.deployed("first", concurrency=1, worker_prefetch_multiplier=2)
    living.wait_running(41)
    eventually(lambda: len(living.delivered(41, 42)) == 2)
    with living.operators() as operators:
        living.kill(worker)
        living.deployed("second")
        operators.try_to_repair(41, 42, among=frozenset({"unknown"}))
        asked_at = time.monotonic()
        process = living.command("repair", "41", "42", "--worker-dead", "--yes")
        assert process.returncode == 0, process.stdout + process.stderr
        living.finish(41, 42)
        eventually(lambda: len(living.runs.all()) == 3, patience=PATIENCE)
        living.wait_generated(41, 42)
        operators.rounds()
    living.recovery = max(run.begin for run in living.runs.all()) - asked_at
    assert len(living.runs.all()) == 3
    assert not living.runs.overlaps()


def test_a_free_lock_proves_the_reference_worker_dead(living: System) -> None:
    living.order(42)
    worker = living.reference()
    assert living.command("enqueue", "42").returncode == 0
    eventually(lambda: living.is_running(42), patience=PATIENCE)
    with living.operators() as operators:
        operators.try_to_repair(42, among=frozenset({"running"}))
        living.kill(worker)
        killed_at = time.monotonic()
        living.reference()
        living.finish(42)
        eventually(lambda: len(living.runs.of(42)) == 2, patience=PATIENCE)
        living.wait_generated(42)
        operators.rounds()
    living.recovery = living.runs.of(42)[1].begin - killed_at
    assert len(living.runs.all()) == 2
    assert not living.runs.overlaps()
