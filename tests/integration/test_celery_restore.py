"""Requeueing orphaned tasks: as kombu does, and never a task of a live worker."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Exchange, Queue
from kombu.transport.redis import Channel
from redis import Redis

from sitegenctl.adapters.broker import restore
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.restore import CeleryRestorer
from sitegenctl.adapters.celery.workers import CeleryWorkers
from sitegenctl.adapters.redis.connection import open_connection
from sitegenctl.domain.queue.task import LiveTask, TaskState
from tests.support.celery_tasks import DEPLOYED, Meddled, as_orphans, deliveries, held, lists
from tests.support.fake_worker import FakeWorker, request
from tests.support.world import QUEUE, TASK, World, eventually


def requeue(world: World, *task_ids: str, timeout: str = "3s") -> Mapping[str, str]:
    tasks = [LiveTask(task_id=each, name=TASK, order_id=1, state=TaskState.ORPHANED) for each in task_ids]
    return world.with_session(lambda session: session.queue.requeue(tasks), timeout=timeout)


def requeue_places(
    world: World, *places: LiveTask, worker_dead: bool = False, timeout: str = "3s"
) -> Mapping[str, str]:
    return world.with_session(lambda session: session.queue.requeue(places, worker_dead=worker_dead), timeout=timeout)


def message(task_id: str) -> dict[str, Any]:
    return {
        "body": "W1sxXSwge30sIHt9XQ==",
        "content-type": "application/json",
        "headers": {"id": task_id, "task": TASK},
        "properties": {"body_encoding": "base64", "delivery_tag": f"tag-{task_id}", "priority": 0},
    }


def put_into_unacked(world: World, *values: str | bytes) -> None:
    with world.redis() as client:
        for number, value in enumerate(values):
            client.hset("unacked", f"tag{number}", value)
            client.zadd("unacked_index", {f"tag{number}": 1767225600 + number})


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker reconnects in these tests: no delay is needed."""
    monkeypatch.setattr(restore, "RECHECK_DELAY", 0)


def deliver(world: World, key: str = QUEUE, *, exchange: str = "", routing_key: str = QUEUE) -> str:
    """Deliver the list's next message to a worker that dies; returns its tag."""
    with world.redis() as client:
        raw = client.rpop(key)
        assert raw is not None
        message = json.loads(raw)
        tag = str(message["properties"]["delivery_tag"])
        client.hset("unacked", tag, json.dumps([message, exchange, routing_key]))
        client.zadd("unacked_index", {tag: 1767225600.123456})
    return tag


def restored_by_kombu(world: World, tag: str) -> dict[bytes, Sequence[bytes]]:
    """What kombu makes of the delivery, list by list; everything is then as it was."""
    with world.redis() as client:
        before = {key: client.dump(key) for key in client.scan_iter()}
        with Celery(broker=world.redis_url, set_as_current=False) as app, app.connection_for_read() as connection:
            channel = connection.default_channel
            # Workers declare their queues: kombu routes by the declarations of its own process.
            Queue(QUEUE, Exchange(QUEUE), routing_key=QUEUE)(channel).declare()
            channel.qos.restore_by_tag(tag)
            found = lists(world)
            channel.close()
        client.flushdb()
        for key, dumped in before.items():
            client.restore(key, 0, dumped)
    return found


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("exchange", ["", QUEUE])
@pytest.mark.parametrize("priority", [0, 2, 3, 8, 9])
def test_task_is_requeued_as_kombu_does(world: World, priority: int, exchange: str) -> None:
    orphan = world.publish(1, priority=priority, headers={"who": "ação"})
    world.publish(2, priority=priority)
    ((key, _),) = lists(world).items()
    tag = deliver(world, key.decode(), exchange=exchange)
    expected = restored_by_kombu(world, tag)
    assert requeue(world, orphan) == {}
    if "priority" not in inspect.getsource(Channel._do_restore_message) and key != QUEUE.encode():
        # An old kombu forgets the priority when it restores: the message is the same, and goes where it belongs.
        expected = {key: [*expected[key], *expected[QUEUE.encode()]]}
    assert lists(world) == expected
    assert held(world) == (0, 0)
    assert world.read_queue().tasks[0].task_id == orphan  # it is next


@pytest.mark.usefixtures("_soon")
def test_task_returns_to_its_own_queue(world: World) -> None:
    with Celery(broker=world.redis_url, set_as_current=False) as app:
        task_id = app.send_task(TASK, args=[1], queue="urgent").id
    deliver(world, "urgent", routing_key="urgent")
    assert requeue(world, task_id) == {}
    assert [key for key, messages in lists(world).items() if messages] == [b"urgent"]


@pytest.mark.usefixtures("_soon", "_other_keys")
def test_requeueing_uses_transport_options(world: World) -> None:
    task_id = world.publish(1, priority=7)
    with world.redis() as client:
        (key,) = (key for key in client.scan_iter() if client.type(key) == b"list")
        message = json.loads(client.rpop(key))
        client.flushdb()
        # Without its time: whatever wrote that, the message is there.
        client.hset("crm:in-work", "tag", json.dumps([message, "", QUEUE]))
        assert requeue(world, task_id) == {}
        assert client.keys() == [f"crm:{QUEUE}::5".encode()]


def test_entry_that_vanishes_before_the_move_is_left(world: World) -> None:
    task_id = world.publish(1)
    tag = deliver(world)

    def acknowledge(client: Redis, _: Mapping[str, Any]) -> list[Any]:
        client.hdel("unacked", tag)
        client.zrem("unacked_index", tag)
        return []

    with FakeWorker(world, {"active": acknowledge}):
        left = requeue(world, task_id)
    assert left == {task_id: f"task {task_id} was finished or requeued meanwhile"}
    assert (lists(world), held(world)) == ({}, (0, 0))
    assert "no longer in unacked" in requeue(world, task_id)[task_id]


def test_redelivered_task_is_not_requeued(world: World) -> None:
    """It appears unchanged, but a worker may have taken it after its reply."""
    task_id = world.publish(1)
    tag = deliver(world)

    def deliver_again(client: Redis, _: Mapping[str, Any]) -> list[Any]:
        client.zadd("unacked_index", {tag: 1})
        return []

    with FakeWorker(world, {"scheduled": deliver_again}):
        assert task_id in requeue(world, task_id)
    assert (lists(world), held(world)) == ({}, (1, 1))


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"reserved": [request("T")]}, "its worker responds again: task T is reserved at fake@box"),
        ({"reserved": None}, "a living worker did not respond and may be running task T"),
        ({"reserved": {"error": "broken"}}, "a living worker did not respond and may be running task T"),
    ],
)
def test_task_that_may_have_a_worker_is_not_requeued(world: World, answers: dict[str, Any], reason: str) -> None:
    world.publish(1, task_id="T")
    deliver(world)
    with FakeWorker(world, answers):
        assert requeue(world, "T", timeout="600ms") == {"T": reason}
    assert (lists(world), held(world)) == ({}, (1, 1))


@pytest.mark.usefixtures("_soon")
def test_delivery_before_a_redis_restart_is_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITEGENCTL_RECONNECT_TIME", "30000d")
    before, since = world.publish(1), world.publish(2)
    deliver(world)
    tag = deliver(world)
    with world.redis() as client:
        client.zadd("unacked_index", {tag: time.time()})
    left = requeue(world, before, since)
    assert left.keys() == {before}
    assert re.fullmatch(
        r"Redis has only just started \(\d+s ago\), and the worker of task .*: try again .*", left[before]
    )
    assert (world.queued_ids(), held(world)) == ([since], (1, 1))


def test_requeue_is_undone_for_a_worker_that_reappears(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "RECHECK_DELAY", 2)  # time enough to come back in, also on a slow machine
    task_id, other = world.publish(1), world.publish(2)
    deliver(world)
    deliver(world)
    with world.redis() as client:
        before = client.hgetall("unacked"), client.zrange("unacked_index", 0, -1, withscores=True)
    left: dict[str, str] = {}
    requeueing = threading.Thread(target=lambda: left.update(requeue(world, task_id, other)))
    requeueing.start()
    eventually(lambda: len(world.queued()) == 2)
    with world.redis() as client:
        client.lrem(QUEUE, 1, client.lrange(QUEUE, 0, 0)[0])  # one of them was taken by another worker at once
    taken, waiting = (other, task_id) if world.queued_ids() == [task_id] else (task_id, other)
    with FakeWorker(world, {"active": [request(taken), request(waiting)]}):
        requeueing.join()
    assert left.keys() == {waiting}
    assert left[waiting].startswith("its worker responds again: task")
    assert left[waiting].endswith("it was requeued, and removed from the queue again")
    assert (world.queued(), held(world)) == ([], (1, 1))
    with world.redis() as client:
        ((tag, value),) = client.hgetall("unacked").items()
        assert before[0][tag] == value
        assert client.zrange("unacked_index", 0, -1, withscores=True)[0] in before[1]


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("number", [0, 1])
def test_only_the_given_delivery_is_requeued(world: World, number: int) -> None:
    world.publish(1, task_id="T")
    world.publish(1, task_id="T", headers={"copy": 2})
    both = deliveries(world, world.deliver, world.deliver)
    assert "was delivered 2 times" in requeue(world, "T")["T"]
    assert requeue_places(world, both[number]) == {}
    assert [message["properties"]["delivery_tag"] for message in world.queued()] == [both[number].delivery]
    assert held(world) == (1, 1)


def test_delivery_with_another_time_is_not_requeued(world: World) -> None:
    world.publish(1, task_id="T")
    (orphan,) = deliveries(world, world.deliver)
    with world.redis() as client:
        client.zadd("unacked_index", {orphan.delivery: time.time() + 60})
    assert "is no longer in unacked as it was" in requeue_places(world, orphan)["T"]
    assert held(world) == (1, 1)


# --- the operator confirms that the worker is dead ---


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("state", [TaskState.ORPHANED, TaskState.UNACCOUNTED])
def test_worker_dead_ignores_unresponsive_workers(
    world: World, state: TaskState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITEGENCTL_RECONNECT_TIME", "30000d")  # Redis has only just started, too
    world.publish(1, task_id="T")
    deliver(world)
    place = LiveTask(task_id="T", name=TASK, order_id=1, state=state)
    with FakeWorker(world, {"active": None}):
        assert "did not respond" in requeue_places(world, place, timeout="600ms")["T"]
        assert held(world) == (1, 1)
        assert requeue_places(world, place, timeout="600ms", worker_dead=True) == {}
    assert (world.queued_ids(), held(world)) == (["T"], (0, 0))


@pytest.mark.parametrize("method", ["active", "reserved"])
def test_worker_dead_does_not_override_a_claim(world: World, method: str) -> None:
    world.publish(1, task_id="T")
    deliver(world)
    orphan = LiveTask(task_id="T", name=TASK, order_id=1, state=TaskState.ORPHANED)
    with FakeWorker(world, {method: [request("T")]}):
        assert "its worker responds again" in requeue_places(world, orphan, worker_dead=True)["T"]
    assert held(world) == (1, 1)


def test_unaccounted_task_needs_worker_dead(world: World) -> None:
    world.publish(1, task_id="T")
    (orphan,) = deliveries(world, world.deliver)
    left = requeue_places(world, replace(orphan, state=TaskState.UNACCOUNTED))
    assert "no worker that responds has it" in left["T"]
    assert held(world) == (1, 1)


# --- odd messages ---

INFINITE, NOT_A_NUMBER = float("inf"), float("nan")


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize(
    ("priority", "expected"),
    [
        *[(INFINITE, 0), (-INFINITE, 0), (NOT_A_NUMBER, 0), (3.7, 3), (-5, 0), (10**40, 9), (True, 1)],
        *[("6", 6), ("high", 0), ("9" * 5000, 0), (None, 0), ([], 0), ([9], 0), ({}, 0)],
    ],
    ids=lambda value: repr(value)[:12],
)
def test_odd_priorities_become_valid_ones(world: World, priority: Any, expected: int) -> None:
    odd, plain = message("odd"), message("plain")
    odd["properties"]["priority"] = priority
    put_into_unacked(world, json.dumps([odd, "", QUEUE]), json.dumps([plain, "", QUEUE]))
    assert requeue(world, "odd", "plain") == {}
    (raw,) = [raw for messages in lists(world).values() for raw in messages if b'"odd"' in raw]
    key = QUEUE if expected < 3 else f"{QUEUE}\x06\x16{expected // 3 * 3}"
    assert raw in lists(world)[key.encode()]
    # As the worker reads it, and as other programs do.
    written = json.loads(raw, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert written["headers"] == {**odd["headers"], "redelivered": True}
    assert isinstance(written["properties"]["priority"], int)
    assert held(world) == (0, 0)


@pytest.mark.usefixtures("_soon")
def test_infinite_numbers_survive_requeueing(world: World) -> None:
    odd = message("odd")
    odd["headers"]["rate"] = INFINITE
    odd["headers"]["note"] = "\ud800"
    put_into_unacked(world, json.dumps([odd, "", QUEUE]))
    assert requeue(world, "odd") == {}
    assert world.queued()[0]["headers"] == {**odd["headers"], "redelivered": True}


ODD = [None, True, -1, INFINITE, "", "text", "\ud800", "\0", [], [1], {}, {"a": 1}]


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("where", ["properties", "delivery_info", "exchange", "routing_key", "body"])
def test_odd_message_does_not_stop_the_others(world: World, where: str, odd: Any) -> None:
    strange, plain = message("odd"), message("plain")
    route = {"exchange": "", "routing_key": QUEUE}
    if where in route:
        route[where] = odd
    elif where == "delivery_info":
        strange["properties"][where] = odd
    else:
        strange[where] = odd
    put_into_unacked(world, json.dumps([strange, *route.values()]), json.dumps([plain, "", QUEUE]))
    left = requeue(world, "odd", "plain")
    assert left == {}
    assert held(world) == (0, 0)
    assert sum(map(len, lists(world).values())) == 2


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize(
    "raw",
    [
        f'[{{"headers": {{"id": "odd"}}, "n": {"9" * 5000}}}, "", "q"]',
        f'[{{"headers": {{"id": "odd"}}, "n": {"[" * 5000}{"]" * 5000}}}, "", "q"]',
    ],
    ids=["a number that is too long", "too deep"],
)
def test_unreadable_message_is_reported(world: World, raw: str) -> None:
    put_into_unacked(world, raw, json.dumps([message("plain"), "", QUEUE]))
    left = requeue(world, "odd", "plain")
    assert left.keys() == {"odd"}
    assert world.queued_ids() == ["plain"]
    assert held(world) == (1, 1)


def test_queue_of_another_type_is_reported(world: World) -> None:
    put_into_unacked(world, json.dumps([message("odd"), "", "text"]), json.dumps([message("bound"), "x", "k"]))
    with world.redis() as client:
        client.set("text", "no list")
        client.set("_kombu.binding.x", "no set")
    left = requeue(world, "odd", "bound")
    assert all("wrong kind of value" in reason for reason in left.values())
    assert (left.keys(), held(world)) == ({"odd", "bound"}, (2, 2))


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize(
    "value",
    [
        *["", "null", "7", "[]", "{}", "[null]", "[1, 2, 3]", '["text", "", ""]', "[[]]", "not json", "\xff\xfe"],
        *['[{"headers": []}, "", ""]', '[{"headers": {"id": [1]}}, "", ""]', '[{"headers": {"id": 1}}]', "[" * 3000],
        '[{"headers": {"id": null}, "properties": NaN}, Infinity, "q"]',
    ],
)
def test_odd_values_in_unacked_are_skipped(world: World, value: str) -> None:
    raw = value.encode("latin-1")
    put_into_unacked(world, raw, json.dumps([message("T"), "", QUEUE]))
    with world.redis() as client:
        client.lpush(QUEUE, raw, json.dumps(message("T")))
    assert requeue(world, "T") == {}
    both = [LiveTask(task_id="T", name=TASK, order_id=1, state=TaskState.QUEUED, position=0)] * 2
    assert world.with_session(lambda session: session.queue.revoke(both), timeout="3s") == {}
    with world.redis() as client:
        assert client.lrange(QUEUE, 0, -1) == [raw]
        assert client.hvals("unacked") == [raw]


async def test_no_memory_at_any_step_loses_nothing(world: World) -> None:
    task_id = world.publish(1)
    tag = deliver(world)
    orphan = LiveTask(task_id=task_id, name=TASK, order_id=1, state=TaskState.ORPHANED)
    options = QueueOptions(reconnect_time=timedelta(0))
    workers = CeleryWorkers(world.redis_url, options, timeout=3)
    with world.redis() as client:
        async with open_connection(world.redis_url, options, timeout=3) as connection:
            full = Meddled(connection, "EVAL", lambda: client.config_set("maxmemory", "1"))
            try:
                at_the_move = await CeleryRestorer(full, options, workers).requeue([orphan], worker_dead=False)
                at_the_look = await CeleryRestorer(connection, options, workers).requeue([orphan], worker_dead=False)
            finally:
                client.config_set("maxmemory", "0")
        for left in (at_the_move, at_the_look):
            assert "maxmemory" in left[task_id]
        assert client.hkeys("unacked") == [tag.encode()]
    assert (lists(world), held(world)) == ({}, (1, 1))


@pytest.mark.usefixtures("_soon")
def test_requeue_revoke_and_prune(world: World) -> None:
    with FakeWorker(world, {}):
        world.publish(1)
        tag = deliver(world)
        (task,) = world.read_queue().tasks
        assert requeue(world, task.task_id) == {}
        deliver(world)
        queued = world.publish(2)
        with world.redis() as client:
            client.zadd("unacked_index", {tag: 0.1 + 0.2})  # whatever the time is written like
        both = world.read_queue().tasks
        assert world.with_session(lambda session: session.queue.revoke(as_orphans(both)), timeout="3s") == {}
        assert queued not in world.queued_ids()
        assert world.with_session(lambda session: session.queue.prune_replies()) == 0
    assert (lists(world), held(world)) == ({}, (0, 0))


# --- real workers ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(world: World) -> Iterator[Path]:
    """Where the generations wait for ``gate``."""
    yield world.folder
    world.gate.touch()


def start(world: World, python: Path | None = None) -> Any:
    chosen = {} if python is None else {"python": str(python)}
    return world.worker("-c", "1", generator="gated", **chosen)


@pytest.mark.parametrize("python", [None, DEPLOYED], ids=["this", "deployed"])
def test_task_of_a_killed_worker_runs_once_more(world: World, folder: Path, python: Path | None) -> None:
    world.order(1, "GENERATING")
    world.order(2, "GENERATING")
    worker = start(world, python)
    task_id = world.publish(1)
    eventually((folder / "started").exists)
    eventually(lambda: world.claims().get(task_id) is TaskState.RUNNING)
    assert "its worker responds again" in requeue(world, task_id)[task_id]
    os.kill(worker.pid, signal.SIGSTOP)
    assert "did not respond and may be running" in requeue(world, task_id, timeout="1s")[task_id]
    assert (world.queued(), held(world)) == ([], (1, 1))
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    eventually(lambda: not world.claims())
    start(world, python)
    (folder / "gate").touch()
    assert requeue(world, task_id) == {}
    eventually(lambda: world.status(1) == "REVIEW")
    world.publish(2)
    eventually(lambda: world.status(2) == "REVIEW")
    assert sum(step in ("START", "RESUME") for step in world.steps(1)) == 2
    assert world.steps(1).count("SUCCESS") == 1
    eventually(lambda: held(world) == (0, 0))
