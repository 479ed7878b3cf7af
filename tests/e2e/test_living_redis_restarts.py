"""Redis restarts under workers that generate; without persistence it has forgotten every task afterwards."""

from __future__ import annotations

import pytest

from tests.support.living_system import PATIENCE, System
from tests.support.world import eventually

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("persistence", [False, True], ids=["without persistence", "with persistence"])
def test_redis_restart(living: System, persistence: bool) -> None:
    """One order ends while Redis is down, one runs on, two wait; Celery's worker lists ended tasks for ever after."""
    living.enqueue_as_backend(41, 42, 43, 44)
    living.deployed("first", heartbeat=False)  # see stop_redis
    living.wait_running(41, 42)
    for order_id in (41, 42):
        living.wait_condition(order_id, "running")
    living.stop_redis()
    with living.operators() as operators:
        operators.redis_goes_away()
        # A worker that finds Redis up again at once gives its running tasks back to the queue.
        living.wait_log("first", "Trying again in")
        living.finish(41)
        eventually(lambda: living.status(41) == "REVIEW", patience=PATIENCE)
        living.start_redis()
        operators.try_to_repair(42)
        living.wait_log("first", "Connected to redis", after="Connection to broker lost")
        operators.try_to_repair(42)
        living.finish(42, 43, 44)
        eventually(lambda: all(living.status(each) == "REVIEW" for each in (41, 42, 43, 44)), patience=PATIENCE)
        # A delivery that could not be acknowledged is left until its limit has passed.
        ended = {"done", "unknown"} if persistence else {"done"}
        for order_id in (41, 42):
            living.wait_condition(order_id, *ended)
        living.wait_generated(43, 44)
        operators.rounds()
        for order_id in (41, 42, 43, 44):
            assert living.condition(order_id) in (ended if order_id in (41, 42) else {"done"})
    assert not living.runs.overlaps(), living.journal()
    assert len(living.runs.all()) == 4
