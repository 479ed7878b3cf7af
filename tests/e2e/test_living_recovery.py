"""Orders whose worker is dead run again: after the limit by cron, at once on an operator's word or on proof."""

from __future__ import annotations

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
    living.finish(41, 42)
    if source == "workers that respond":
        living.deployed("second", task_time_limit=limit, task_soft_time_limit=None)
    with living.operators("maintain"):
        if source != "workers that respond":
            living.deployed("second", worker_enable_remote_control=False)
        eventually(lambda: len(living.runs()) == 3, patience=PATIENCE)
        living.wait_generated(41, 42)
    (first, second), (only,) = living.runs(41), living.runs(42)
    for run, order_id in ((second, 41), (only, 42)):
        assert run.wall >= delivered[order_id][1] + limit + MARGIN
    assert not living.overlaps()
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
        process = living.command("repair", "41", "42", "--worker-dead", "--yes")
        assert process.returncode == 0, process.stdout + process.stderr
        living.finish(41, 42)
        eventually(lambda: len(living.runs()) == 3, patience=PATIENCE)
        living.wait_generated(41, 42)
        operators.rounds()
    assert len(living.runs()) == 3
    assert not living.overlaps()


def test_a_free_lock_proves_the_reference_worker_dead(living: System) -> None:
    living.order(42)
    environ = {**living.environ, "LIVING_FOLDER": str(living.folder)}
    worker = living.worker("-c", "1", generator="recording", environ=environ)
    assert living.command("enqueue", "42").returncode == 0
    eventually(lambda: living.is_running(42), patience=PATIENCE)
    with living.operators() as operators:
        operators.try_to_repair(42, among=frozenset({"running"}))
        living.kill(worker)
        living.worker("-c", "1", generator="recording", environ=environ)
        living.finish(42)
        eventually(lambda: len(living.runs(42)) == 2, patience=PATIENCE)
        living.wait_generated(42)
        operators.rounds()
    assert len(living.runs()) == 2
    assert not living.overlaps()
