"""Revoking tasks on real Redis servers, with real workers and with misbehaving ones."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from sitegenctl.adapters.broker import revocation
from sitegenctl.adapters.celery.messages import RawMessages
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.redis.connection import open_connection
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.queue.task import Publication, TaskState
from sitegenctl.operations import execute as applying
from sitegenctl.operations.observe import observe
from sitegenctl.operations.repair_planner import RepairPlanner
from sitegenctl.session import Session
from tests.support.celery_tasks import (
    DEPLOYED,
    Meddled,
    as_orphans,
    bare_message,
    deliveries,
    held,
    live,
    revoke,
    revoked,
    start,
)
from tests.support.fake_worker import FakeWorker, request
from tests.support.world import QUEUE, World, eventually

# --- the broker alone -----------------------------------------------------------------------------------------


def test_revoking_keeps_other_priorities_in_order(world: World) -> None:
    ids = [world.publish(number, priority=priority) for number in range(1, 5) for priority in (0, 3, 9)]
    tasks = world.read_queue().tasks
    gone = tasks[::2]
    assert len(gone) == 6
    assert revoke(world, gone) == {}
    assert [task.task_id for task in world.read_queue().tasks] == [task.task_id for task in tasks if task not in gone]
    assert {task.task_id for task in tasks} == set(ids)


def test_every_copy_of_a_task_is_removed(world: World) -> None:
    world.publish(1, task_id="T")
    world.publish(2)
    world.publish(1, task_id="T", priority=3)
    first, other, second = world.read_queue().tasks
    assert (first.task_id, second.task_id) == ("T", "T")
    assert revoke(world, [first]) == {}
    assert world.read_queue().tasks == (replace(other, position=0),)


def test_orphaned_delivery_is_dropped(world: World) -> None:
    task_id, other = world.publish(1), world.publish(2)
    world.deliver()
    world.deliver()
    assert revoke(world, [live(task_id, TaskState.ORPHANED)]) == {}
    assert [task.task_id for task in world.read_queue().tasks] == [other]
    assert held(world) == (1, 1)


def test_message_requeued_meanwhile_is_removed(world: World) -> None:
    """The plan saw it delivered, and a worker that stopped has given it back since."""
    task_id = world.publish(1)
    assert revoke(world, [live(task_id)]) == {}
    assert world.read_queue().tasks == ()


@pytest.mark.usefixtures("_other_keys")
def test_revoking_uses_transport_options(world: World) -> None:
    world.with_session(lambda session: session.queue.publish([publication(1), publication(2)]))
    with world.redis() as client:
        delivered = client.rpop("crm:sites" if client.exists("crm:sites") else f"crm:{QUEUE}")
        client.hset("crm:in-work", "tag", json.dumps([json.loads(delivered), "", QUEUE]))
        client.zadd("crm:in-work-since", {"tag": time.time()})
        assert revoke(world, as_orphans(world.read_queue().tasks)) == {}
        assert client.keys() == []


def publication(order_id: int) -> Publication:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Publication(task_id=f"task-{order_id}", order_id=order_id, resume=True, actor="ana", enqueued_at=at)


@pytest.mark.parametrize("how", ["taken", "published", "restored"])
async def test_messages_are_found_while_the_list_moves(world: World, how: str) -> None:
    numbers = range(3000)
    with world.redis() as client:
        client.lpush(QUEUE, *(bare_message(f"t{number}") for number in numbers))
        spare = iter(range(10**6))

        def meddle() -> None:
            for _ in range(37):
                message = bare_message(f"new{next(spare)}")
                if how == "taken":
                    client.rpop(QUEUE)
                else:
                    (client.lpush if how == "published" else client.rpush)(QUEUE, message)

        async with open_connection(world.redis_url, QueueOptions(), timeout=5) as connection:
            messages = RawMessages(Meddled(connection, "LRANGE", meddle), QueueOptions())
            found = await messages.find({f"t{number}" for number in range(500, 3000)} | {"never"})
    assert {message.task_id for message in found} >= {f"t{number}" for number in range(1000, 3000)}


def test_revoking_without_memory_changes_nothing(world: World) -> None:
    delivered, queued = world.publish(1), world.publish(2)
    world.deliver()
    with world.redis() as client:
        client.config_set("maxmemory", "1")
        try:
            left = revoke(world, [live(queued, TaskState.QUEUED, 0), live(delivered)])
        finally:
            client.config_set("maxmemory", "0")
    assert left.keys() == {delivered, queued}
    assert "maxmemory" in left[queued]
    assert (world.queued_ids(), held(world)) == ([queued], (1, 1))


# --- workers that behave as none should -----------------------------------------------------------------------


def test_task_between_queue_and_unacked_is_waited_for(world: World) -> None:
    """A worker has taken it from the list, and not entered it in ``unacked`` yet."""
    task_id = world.publish(1)
    with world.redis() as client:
        raw = client.rpop(QUEUE)

    def scheduled(client: Redis, _: Mapping[str, Any]) -> list[Any]:
        if worker.asked.count("scheduled") < 2:
            return []
        if worker.asked.count("scheduled") == 2:
            client.lpush(QUEUE, raw)
            world.deliver()
        return [{"eta": None, "request": request(task_id)}]

    with FakeWorker(world, {"scheduled": scheduled}) as worker:
        assert revoke(world, [live(task_id, TaskState.QUEUED, 0)]) == {}
    assert (world.read_queue().tasks, held(world)) == ((), (0, 0))


@pytest.mark.parametrize("change", ["redelivered", "acknowledged", "claimed"])
@pytest.mark.parametrize("reading", [1, 2])
def test_changed_orphan_is_left(world: World, change: str, reading: int) -> None:
    """It was given back and delivered once more (the same tag, another time), or its worker responds again."""
    task_id = world.publish(1)
    (orphan,) = deliveries(world, world.deliver)

    def reserved(client: Redis, _: Mapping[str, Any]) -> list[Any]:
        if worker.asked.count("reserved") < reading:
            return []
        if change == "redelivered":
            client.zadd("unacked_index", {orphan.delivery: 1})
        if change == "acknowledged":
            client.hdel("unacked", orphan.delivery)
            client.zrem("unacked_index", orphan.delivery)
        return [request(task_id)] if change == "claimed" else []

    with FakeWorker(world, {"reserved": reserved, "active": [request("another")]}) as worker:
        left = revoke(world, [orphan])
    words = "its worker responds again" if change == "claimed" else "is no longer delivered as it was"
    assert words in left[task_id]
    assert held(world) == ((0, 0) if change == "acknowledged" else (1, 1))


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (
            {"state": TaskState.UNACCOUNTED},
            "no worker that responds has it: one that is shutting down, paused or cut off",
        ),
        ({"state": TaskState.UNACKED}, "no worker that responds has it: one that is shutting down, paused or cut off"),
        ({"state": TaskState.SCHEDULED, "part_of": "chain"}, "is part of a chain, and cannot be removed by itself"),
    ],
)
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("terminate", [False, True])
def test_unaccounted_and_carried_tasks_are_left(
    world: World, place: dict[str, Any], reason: str, keep: bool, terminate: bool
) -> None:
    world.publish(1, task_id="T")
    world.deliver()
    (delivered,) = world.read_queue().tasks
    with FakeWorker(world, {}) as worker:
        left = revoke(world, [replace(delivered, **place)], terminate=terminate, keep={"T"} if keep else ())
        assert "revoke" not in worker.asked
    assert reason in left["T"]
    assert held(world) == (1, 1)


@pytest.mark.parametrize(
    ("answers", "terminate", "reason"),
    [
        ({"revoke": None}, False, "is at fake@box, which did not confirm that it revoked the task"),
        ({"scheduled": None}, False, "a living worker did not respond and may have task T"),
        ({"revoke": {"error": "no"}}, False, "is at fake@box, which did not confirm that it revoked the task"),
        ({"active": [request("T")]}, False, "started at fake@box meanwhile"),
        (
            {"active": [request("T")], "revoke": lambda _, how: {"error": "no"} if "signal" in how else {"ok": ""}},
            True,
            "fake@box cannot stop task T: no",
        ),
        ({"active": [request("T")]}, True, "fake@box did not stop task T within 1 s"),
        ({"reserved": [request("T")]}, False, "is about to start at fake@box"),
    ],
)
def test_uncertain_revocation_is_reported(
    world: World, answers: dict[str, Any], terminate: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation, "REVOKE_TIMEOUT", 1.0)
    world.publish(1, task_id="T")
    world.deliver()
    given = {"scheduled": [{"eta": None, "request": request("T")}], **answers} if "revoke" in answers else answers
    if "active" in answers:
        given.pop("scheduled", None)
    with FakeWorker(world, given):
        left = revoke(world, [live("T")], terminate=terminate, timeout="1s")
    assert reason in left["T"]
    assert held(world) == (1, 1)


def test_missing_task_may_be_at_an_unresponsive_worker(world: World) -> None:
    with FakeWorker(world, {"active": None}):
        left = revoke(world, [live("T")], timeout="600ms")
    assert left == {"T": "a living worker did not respond and may have task T"}


def test_queued_task_is_revoked_despite_unresponsive_worker(world: World) -> None:
    task_id = world.publish(1)
    with FakeWorker(world, {"active": None, "revoke": None}):
        assert revoke(world, world.read_queue().tasks, timeout="600ms") == {}
    assert task_id not in world.queued_ids()


def test_task_behind_busy_processes_is_revoked(world: World) -> None:
    world.publish(1, task_id="T")
    world.deliver()
    busy = {"active": [request("another")], "reserved": [request("T")]}
    with FakeWorker(world, busy):
        assert revoke(world, [live("T")]) == {}
    assert held(world) == (0, 0)


def test_unresponsive_worker_is_waited_for_once(world: World) -> None:
    ids = [f"T{number}" for number in range(4000)]
    with FakeWorker(world, {"revoke": None}) as worker:
        began = time.monotonic()
        assert revoke(world, [live(task_id) for task_id in ids], timeout="600ms") == {}
        took = time.monotonic() - began
    questions = worker.asked.count("revoke")
    assert questions == 20
    assert took < questions * 0.3  # the time for which it is given to answer


# --- real workers ---------------------------------------------------------------------------------------------


@pytest.fixture
def gate(world: World) -> Iterator[Path]:
    """What a generation waits for that takes no heed of being stopped."""
    folder = world.folder
    yield folder / "gate"
    (folder / "gate").touch()


def run_one(world: World, order_id: int = 1) -> str:
    """Publish an order's task, and wait until its generation runs."""
    started = world.folder / "started"
    started.unlink(missing_ok=True)
    task_id = world.publish(order_id)
    eventually(started.exists)
    eventually(lambda: world.claims().get(task_id) is TaskState.RUNNING)
    return task_id


def child(world: World) -> int:
    """The process that runs the task."""
    from sitegenctl.adapters.celery.workers import CeleryWorkers

    async def ask(session: Session) -> int:
        replies = await CeleryWorkers(world.redis_url, QueueOptions(), timeout=5).ask(["active"])
        ((active,),) = (given["active"] for given in replies.answers.values())
        return int(active["worker_pid"])

    return world.with_session(ask)


@pytest.mark.parametrize("python", [None, DEPLOYED], ids=["this", "deployed"])
def test_revoking_tasks_at_a_real_worker(world: World, gate: Path, python: Path | None) -> None:
    for order_id in (1, 2, 3, 4, 5):
        world.order(order_id, "GENERATING")
    worker = start(world, python)
    later = world.publish(2, countdown=3600)
    soon = world.publish(3, countdown=1)
    eventually(lambda: held(world) == (2, 2))
    # The one with an ETA comes due while the only process is busy, and is held behind it.
    running = world.publish(1)
    eventually(lambda: TaskState.RUNNING in (world.claims().get(running), world.claims().get(soon)))
    if world.claims().get(soon) is TaskState.RUNNING:  # it was first, on a slow machine
        soon, running = running, soon
    eventually(lambda: world.claims().get(soon) is TaskState.RESERVED or soon in world.queued_ids())
    queued = world.publish(4)
    process = child(world)
    live_ids = [running, later, soon, queued]
    tasks = [live(task_id, TaskState.QUEUED, 0 if task_id in world.queued_ids() else None) for task_id in live_ids]

    left = revoke(world, tasks)
    assert left.keys() == {running}
    assert f"task {running} started at " in left[running]
    assert held(world) == (1, 1)
    assert world.queued() == []
    # The worker still lists them: until their turn comes, when it drops them. They are not live.
    assert world.claims() == {running: TaskState.RUNNING}
    assert revoked(world) == {later, soon, queued}
    roster = world.with_session(lambda session: session.queue.worker_details())
    assert [(len(each.active), each.reserved, each.scheduled) for each in roster.workers] == [(1, (), ())]

    assert revoke(world, [live(running, TaskState.RUNNING)], terminate=True) == {}
    assert not Path(f"/proc/{process}").exists()
    assert (held(world), world.queued(), world.claims()) == ((0, 0), [], {})
    # What it was to do next is dropped, what comes then is done, and the one that was stopped stays so.
    gate.touch()
    world.publish(5)
    eventually(lambda: world.status(5) == "REVIEW")
    assert sum(world.steps(order_id).count("START") for order_id in (1, 2, 3, 4)) == 1
    worker.send_signal(signal.SIGTERM)
    worker.wait(20)
    assert (held(world), world.queued()) == ((0, 0), [])


def test_tasks_of_a_stopped_worker_are_left(world: World, gate: Path) -> None:
    worker = start(world)
    task_id = world.publish(1, countdown=3600)
    eventually(lambda: held(world) == (1, 1))
    os.kill(worker.pid, signal.SIGSTOP)
    left = revoke(world, [live(task_id)], timeout="1s")
    assert left == {task_id: f"a living worker did not respond and may have task {task_id}"}
    assert held(world) == (1, 1)
    os.kill(worker.pid, signal.SIGCONT)
    eventually(lambda: world.claims() == {task_id: TaskState.SCHEDULED})
    assert revoked(world) == set()  # it would be dropped, and was to stay
    assert revoke(world, [live(task_id)]) == {}
    assert held(world) == (0, 0)


def test_repair_revokes_the_copy_of_a_running_task(world: World, gate: Path) -> None:
    world.order(1, "GENERATING")
    start(world)
    running = run_one(world)
    world.publish(1, task_id=running)

    async def look(session: Session) -> Condition:
        return (await observe(session, [1], files=False)).diagnose(1).condition

    async def fix(session: Session) -> list[str]:
        plan = await RepairPlanner().plan_all(session)
        result = await applying.execute_plan(session, plan)
        return [outcome.outcome for outcome in result.outcomes]

    assert world.with_session(look) is Condition.DUPLICATED
    assert world.with_session(fix) == ["done"]
    assert world.queued() == []
    assert world.with_session(look) is Condition.RUNNING
    assert revoked(world) == set()
    gate.touch()
    eventually(lambda: world.status(1) == "REVIEW")
    assert world.steps(1).count("START") == 1
    # The second time there is no copy any more.
    copy = replace(live(running), state=TaskState.QUEUED, position=0)
    assert "no longer in the queue" in revoke(world, [copy], keep={running})[running]
