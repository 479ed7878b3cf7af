"""Workers that generate an order while remote control does not reach them: nothing may be started a second time."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.living_system import ALIVE, PATIENCE, System
from tests.support.world import QUEUE, eventually

pytestmark = pytest.mark.timeout(300)

UNKNOWN = frozenset({"unknown"})


def test_warm_shutdown(living: System) -> None:
    living.enqueue_as_backend(41, 42)
    worker = living.deployed("first")
    living.wait_running(41, 42)
    with living.operators() as operators:
        worker.terminate()
        eventually(lambda: not living.receivers())
        operators.try_to_repair(41, 42, among=UNKNOWN)
        living.deployed("second")  # a task requeued by mistake would run now
        operators.try_to_repair(41, 42, among=UNKNOWN)
        living.finish(41, 42)
        living.wait_generated(41, 42)
        worker.wait(60)
        operators.rounds()
    assert len(living.runs()) == 2
    assert not living.overlaps()


@pytest.mark.parametrize("company", [False, True], ids=["alone", "beside another"])
def test_pause_and_resume(living: System, company: bool) -> None:
    living.enqueue_as_backend(42)
    worker = living.deployed("first", concurrency=1)
    living.wait_running(42)
    if company:
        living.deployed("second")
    with living.operators() as operators:
        os.killpg(worker.pid, signal.SIGSTOP)
        try:
            operators.try_to_repair(42, among=UNKNOWN)
        finally:
            os.killpg(worker.pid, signal.SIGCONT)
        living.wait_condition(42, "running")
        operators.rounds()
        living.finish(42)
        living.wait_generated(42)
        operators.rounds()
    assert len(living.runs()) == 1
    assert not living.overlaps()


def test_subscription_forgotten_by_a_nat(living: System) -> None:
    living.enqueue_as_backend(42)
    living.deployed("first", proxied=True)
    living.wait_running(42)
    living.proxy.forget_subscriptions()
    eventually(lambda: not living.receivers())
    with living.operators() as operators:
        operators.try_to_repair(42)
        living.enqueue_as_backend(43)  # the worker goes on consuming
        living.wait_running(43)
        operators.try_to_repair(42, 43)
        living.finish(42, 43)
        living.wait_generated(42, 43)
        operators.rounds()
    assert len(living.runs()) == 2
    assert not living.overlaps()


def test_subscription_killed_at_redis(living: System) -> None:
    """Celery reconnects, requeues the task that it runs and takes it again as a reserved one."""
    living.enqueue_as_backend(42)
    living.deployed("first", concurrency=1)
    living.wait_running(42)
    with living.operators() as operators:
        with living.redis() as client:
            assert client.execute_command("CLIENT KILL TYPE pubsub")
        living.wait_log("first", "Restoring 1 unacknowledged message")
        operators.rounds()
        living.wait_condition(42, *ALIVE)
        operators.try_to_repair(42)
        living.finish(42)
        living.wait_generated(42)
        operators.rounds()
    assert len(living.runs()) == 1


@pytest.mark.parametrize("ending", ["it heals", "the worker finishes in it"])
@pytest.mark.parametrize("kind", ["frozen", "cut"])
def test_partition(living: System, kind: str, ending: str) -> None:
    living.enqueue_as_backend(42)
    living.deployed("first", concurrency=1, proxied=True)
    living.wait_running(42)
    with living.operators() as operators:
        if kind == "frozen":
            living.proxy.freeze()
        else:
            living.proxy.cut()
            eventually(lambda: not living.receivers())
        operators.try_to_repair(42, among=UNKNOWN)
        # A task requeued by mistake would run now.
        second = living.deployed("second", concurrency=1)
        operators.try_to_repair(42, among=UNKNOWN)
        # It would take the task that Celery itself restores when the first worker reconnects.
        second.terminate()
        second.wait(PATIENCE)
        if ending == "it heals":
            living.proxy.heal()
            operators.rounds()
            # The task that Celery has requeued waits until the run has ended, and is then skipped.
            operators.try_to_repair(42, among=ALIVE | {"queued"})
            living.finish(42)
        else:
            living.finish(42)
            eventually(lambda: living.status(42) == "REVIEW")
            operators.rounds()
            living.proxy.heal()
        living.wait_generated(42)
        operators.rounds()
    assert len(living.runs()) == 1


@pytest.mark.parametrize(
    "conf",
    [{"worker_enable_remote_control": False}, {"control_exchange": "other"}],
    ids=["remote control off", "a control exchange of its own"],
)
def test_remote_control_elsewhere(living: System, conf: dict[str, object]) -> None:
    living.enqueue_as_backend(41, 42)
    living.deployed("first", **conf)
    living.wait_running(41, 42)
    with living.operators() as operators:
        operators.try_to_repair(41, 42)
        living.finish(41)
        living.wait_generated(41)
        living.enqueue_as_backend(43)
        living.wait_running(43)
        operators.try_to_repair(42, 43)
        living.finish(42, 43)
        living.wait_generated(42, 43)
        operators.rounds()
    assert len(living.runs()) == 3
    assert not living.overlaps()


def test_reserved_for_longer_than_the_limit_before_it_began(living: System) -> None:
    living.enqueue_as_backend(41, 42)
    living.deployed("first", concurrency=1, worker_enable_remote_control=False, worker_prefetch_multiplier=2)
    living.wait_running(41)
    eventually(lambda: 42 in living.delivered(42))
    living.finish(41)
    living.wait_generated(41)
    living.wait_running(42)
    # As if the first order had taken long: delivered more than the limit of 600 s ago, and begun just now.
    tag, delivered_at = living.delivered(42)[42]
    with living.redis() as client:
        client.zadd("unacked_index", {tag: delivered_at - 700})
    with living.operators() as operators:
        living.deployed("second", concurrency=1, worker_enable_remote_control=False)
        operators.try_to_repair(42)
        living.finish(42)
        living.wait_generated(42)
        operators.rounds()
    assert len(living.runs()) == 2
    assert not living.overlaps()


def test_scheduled_for_longer_than_the_limit(living: System) -> None:
    """A retry waits at its worker until its time has come, and only then begins."""
    living.enqueue_as_backend(42, countdown=3600)
    living.deployed("first", worker_enable_remote_control=False)
    eventually(lambda: living.delivered(42), patience=PATIENCE)
    tag, delivered_at = living.delivered(42)[42]
    with living.redis() as client:
        client.zadd("unacked_index", {tag: delivered_at - 700})
    with living.operators() as operators:
        operators.try_to_repair(42, among=UNKNOWN | {"scheduled", "retrying"})
    assert living.delivered(42)[42] == (tag, delivered_at - 700)
    with living.redis() as client:
        assert not client.llen(QUEUE)
    assert not living.runs()
