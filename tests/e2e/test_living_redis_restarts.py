"""Redis restarts under workers that generate; without persistence it has forgotten every task afterwards."""

from __future__ import annotations

import pytest
from celery import Celery

from sitegenctl.demo.servers.redis import PrivateRedis
from tests.support.living_system import ALIVE, PATIENCE, System
from tests.support.world import eventually

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("persistence", [False, True], ids=["without persistence", "with persistence"])
def test_redis_restart(living: System, persistence: bool) -> None:
    """One order ends while Redis is down, one runs on, two wait; Celery's worker then lists ended tasks for ever."""
    living.enqueue_as_backend(41, 42, 43, 44)
    living.deployed("first", heartbeat=False)
    living.wait_running(41, 42)
    for order_id in (41, 42):
        living.wait_condition(order_id, "running")
    # Stop Redis only when the worker has nothing to send. A worker that cannot send an answer to remote control or a
    # heartbeat tries again until Redis is back, logs nothing, and does not notice that its other connections are gone.
    # Requests are answered in turn, so a reply to the last one means that nothing is left.
    with Celery(broker=living.redis_url, set_as_current=False) as app:
        assert app.control.ping(timeout=PATIENCE, limit=1)
    assert PrivateRedis(living.folder / "redis").stop()
    with living.operators(redis_stops=True) as operators:
        # A worker that finds Redis up again at once requeues its running tasks.
        living.wait_log("first", "Trying again in")
        living.finish(41)
        eventually(lambda: living.status(41) == "REVIEW", patience=PATIENCE)
        assert PrivateRedis(living.folder / "redis", persistence=persistence).start().url == living.redis_url
        # All this can take less time than the grace period.
        operators.try_to_repair(42, among=ALIVE | {"settling"})
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
    assert not living.overlaps()
    assert len(living.runs()) == 4
