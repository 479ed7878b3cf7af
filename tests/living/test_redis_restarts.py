"""Redis restarts under workers that generate; without persistence it has forgotten every task afterwards."""

from __future__ import annotations

import pytest

from tests.living.system import ALIVE, System
from tests.world import eventually

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("persistence", [False, True], ids=["without persistence", "with persistence"])
def test_redis_restart(living: System, persistence: bool) -> None:
    living.enqueue_as_backend(41, 42)
    living.deployed("first")
    living.wait_running(41, 42)
    living.enqueue_as_backend(43, 44, 45)  # two reserved, one queued
    eventually(lambda: len(living.delivered(41, 42, 43, 44)) == 4)
    with living.operators() as operators:
        operators.redis_goes_away()
        with living.redis_restarts():
            living.finish(41)
            eventually(lambda: living.status(41) == "REVIEW")
        operators.try_to_repair(42, among=ALIVE | {"duplicated"})
        eventually(lambda: "Connected to redis" in living.worker_log("first").partition("Connection to broker lost")[2])
        operators.try_to_repair(42, among=ALIVE | {"duplicated"})
        living.finish(42, 43, 44, 45)
        living.wait_generated(41, 42, 43, 44, 45)
        operators.rounds()
        for order_id in (41, 42, 43, 44, 45):
            assert living.condition(order_id) == "done"
    assert not living.runs.overlaps()
    assert len(living.runs.all()) == 5
