"""Tasks that other clients push twice, redeliver or revoke: one copy stays, and no further run begins."""

from __future__ import annotations

import json

import pytest
from celery import Celery

from tests.support.living_system import ALIVE, PATIENCE, System
from tests.support.world import QUEUE, eventually

pytestmark = pytest.mark.timeout(300)


def test_running_task_redelivered_to_another_worker(living: System) -> None:
    living.enqueue_as_backend(42)
    living.deployed("first", concurrency=1)
    living.wait_running(42)
    living.deployed("second", concurrency=1)
    # Move the delivery back to the queue, as kombu does after the visibility timeout.
    tag, _ = living.delivered(42)[42]
    with living.redis() as client:
        message = json.loads(client.hget("unacked", tag))[0]
        client.hdel("unacked", tag)
        client.zrem("unacked_index", tag)
        client.rpush(QUEUE, json.dumps(message))
    eventually(lambda: len(living.runs(42)) == 2, patience=PATIENCE)
    with living.operators() as operators:
        living.wait_condition(42, "duplicated")
        operators.rounds()
        # Nothing is killed unless an operator asks for it.
        assert living.condition(42) == "duplicated"
        assert [run.is_going_on for run in living.runs(42)] == [True, True]
        process = living.command("repair", "42", "--terminate", "--yes")
        assert process.returncode == 0, process.stdout + process.stderr
        eventually(lambda: [run.is_going_on for run in living.runs(42)].count(True) == 1)
        # The two share a task id, for which there is a final result now.
        living.wait_condition(42, *ALIVE)
        operators.rounds()
        living.finish(42)
        living.wait_generated(42)
        operators.rounds()
    assert len(living.runs(42)) == 2


def test_celery_restores_a_task_when_its_worker_reconnects(living: System) -> None:
    """No worker reports the first run any more, so it cannot be stopped; but no third run begins."""
    living.enqueue_as_backend(42)
    living.deployed("first", concurrency=1, proxied=True)
    living.wait_running(42)
    living.deployed("second", concurrency=1)
    with living.operators() as operators:
        living.proxy.cut()
        operators.try_to_repair(42)
        assert len(living.runs(42)) == 1
        living.proxy.heal()
        living.wait_log("first", "Restoring 1 unacknowledged message")
        operators.try_to_repair(42, among=ALIVE | {"duplicated", "queued"})
        living.finish(42)
        living.wait_generated(42)
        operators.rounds()
    assert len({run.task_id for run in living.runs(42)}) == 1
    assert len(living.runs(42)) <= 2


def test_one_message_pushed_twice_runs_twice(living: System) -> None:
    """Both run at one worker, which stops tasks by their id: neither can be stopped alone."""
    living.deployed("first", concurrency=2)
    living.enqueue_as_backend(42)
    living.wait_running(42)
    tag, _ = living.delivered(42)[42]
    with living.redis() as client:
        message = json.loads(client.hget("unacked", tag))[0]
        client.lpush(QUEUE, json.dumps(message))
    eventually(lambda: len(living.runs(42)) == 2, patience=PATIENCE)
    with living.operators() as operators:
        living.wait_condition(42, "duplicated")
        process = living.command("repair", "42", "--terminate", "--yes")
        assert "cannot be stopped safely" in process.stdout
        operators.rounds()
        assert living.condition(42) == "duplicated"
        assert [run.is_going_on for run in living.runs(42)] == [True, True]
        living.finish(42)
        living.wait_generated(42)
        operators.rounds()
    assert len(living.runs(42)) == 2


def test_one_message_pushed_twice_waits_twice(living: System) -> None:
    living.enqueue_as_backend(42)
    with living.redis() as client:
        client.lpush(QUEUE, client.lindex(QUEUE, 0))
    assert living.condition(42) == "duplicated"
    with living.operators() as operators:
        living.wait_condition(42, "queued")
        living.deployed("first", concurrency=2)
        living.wait_running(42)
        operators.try_to_repair(42, among=frozenset({"running"}))
        living.finish(42)
        living.wait_generated(42)
        operators.rounds()
    assert len(living.runs()) == 1


def test_queued_task_revoked_by_another_client(living: System) -> None:
    living.enqueue_as_backend(41)
    living.deployed("first", concurrency=1)
    living.wait_running(41)
    revoked = living.enqueue_as_backend(42, 43)
    with Celery(broker=living.redis_url, set_as_current=False) as app:
        app.control.revoke(revoked)
    eventually(lambda: all(task_id in living.worker_log("first") for task_id in revoked))
    with living.operators() as operators:
        operators.rounds()
        living.finish(41, 42, 43)
        living.wait_generated(41, 42, 43)
        operators.rounds()
    assert len(living.runs()) == 3
    assert not living.overlaps()
    assert not {run.task_id for run in living.runs()} & {*revoked}
