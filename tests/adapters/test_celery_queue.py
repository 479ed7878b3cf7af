"""Reading, asking and publishing on a real Redis, with real Celery messages and real workers."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from sitegenctl.adapters import celery_queue
from sitegenctl.adapters.celery_queue import CeleryQueue, QueueOptions
from sitegenctl.domain.task import BrokerReading, Publication, TaskState
from sitegenctl.errors import SourceError
from tests.world import QUEUE, World, eventually


def read(world: World, **flags: object) -> BrokerReading:
    return world.with_session(lambda session: session.queue.read(), **flags)


def publication(order_id: int = 42, task_id: str = "task-1") -> Publication:
    return Publication(
        task_id=task_id,
        order_id=order_id,
        resume=False,
        actor="ana@crm",
        enqueued_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def keys(world: World) -> set[bytes]:
    with world.redis() as client:
        return set(client.keys())


def test_what_is_published_is_read_back(world: World) -> None:
    failed = world.with_session(lambda session: session.queue.publish([publication(), publication(43, "task-2")]))
    assert failed == {}
    first, second = read(world).tasks
    assert (first.task_id, first.order_id, first.state, first.position) == ("task-1", 42, TaskState.QUEUED, 0)
    assert (second.task_id, second.position) == ("task-2", 1)
    assert (first.actor, first.enqueued_at) == ("ana@crm", datetime(2026, 1, 1, tzinfo=UTC))
    body = json.loads(base64.b64decode(world.queued()[0]["body"]))
    assert body[:2] == [[42], {"resume": False}]


def test_priorities_are_read_in_the_order_of_delivery(world: World) -> None:
    later = world.publish(1, priority=9)
    first = world.publish(2, priority=0)
    middle = world.publish(3, priority=3)
    assert [task.task_id for task in read(world).tasks] == [first, middle, later]


def test_a_delivered_task_is_unacked_and_an_eta_says_why_it_waits(world: World) -> None:
    delivered = world.publish(1)
    world.deliver()
    scheduled = world.publish(2, eta=datetime.now(UTC) + timedelta(hours=1))
    retrying = world.publish(3, eta=datetime.now(UTC) + timedelta(hours=1), retries=1)
    states = {task.task_id: task.state for task in read(world).tasks}
    assert states == {
        delivered: TaskState.UNACKED,
        scheduled: TaskState.SCHEDULED,
        retrying: TaskState.RETRYING,
    }


def test_the_same_task_in_queue_and_unacked_is_read_once(world: World) -> None:
    """A retry is published before the old delivery is acknowledged."""
    task_id = world.publish(1)
    world.deliver()
    world.publish(1, task_id=task_id)
    assert [task.task_id for task in read(world).tasks] == [task_id]


def test_foreign_messages_are_shown_and_break_nothing(world: World) -> None:
    world.publish(1, task="app.tasks.auto_start_stuck_orders.check_and_start_stuck_orders")
    with world.redis() as client:
        client.lpush(QUEUE, b"\x80not json", b"{}")
        client.hset("unacked", "tag", b"neither")
    ours = world.publish(42)
    reading = read(world)
    assert [task.task_id for task in reading.tasks] == [ours]
    assert len(reading.foreign) == 4
    assert any("check_and_start_stuck_orders" in message.name for message in reading.foreign)


def test_a_long_queue_is_read_in_chunks_to_the_same_effect(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celery_queue, "_CHUNK", 7)
    ids = [f"task-{number}" for number in range(40)]
    world.with_session(
        lambda session: session.queue.publish([publication(n + 1, task_id) for n, task_id in enumerate(ids)])
    )
    for _ in range(5):
        world.deliver()
    at_once = read(world)
    monkeypatch.setattr(celery_queue, "ATOMIC_LIMIT", 10)
    in_chunks = read(world)
    assert {t.task_id for t in in_chunks.tasks} == set(ids)
    assert {t.task_id: (t.state, t.position) for t in in_chunks.tasks} == {
        t.task_id: (t.state, t.position) for t in at_once.tasks
    }


def test_reading_writes_nothing(world: World) -> None:
    world.publish(1)
    world.deliver()
    world.publish(2)
    with world.redis() as client:
        before = {key: client.dump(key) for key in client.scan_iter()}
    read(world)
    with world.redis() as client:
        assert {key: client.dump(key) for key in client.scan_iter()} == before


def test_kombu_s_transport_options_are_settings(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"GLOBAL_KEYPREFIX": "crm:", "SEP": "::", "PRIORITY_STEPS": "0,5", "QUEUE": "sites"}.items():
        monkeypatch.setenv(f"SITEGENCTL_{name}", value)
    world.with_session(lambda session: session.queue.publish([publication()]))
    assert [task.order_id for task in read(world).tasks] == [42]
    assert b"crm:sites" in keys(world)
    assert b"sites" not in keys(world)


def test_the_same_options_reach_a_worker(world: World) -> None:
    prefixed = {"SITEGENCTL_GLOBAL_KEYPREFIX": "crm:"}
    os.environ.update(prefixed)  # the fixture restores the environment
    try:
        world.worker("-c", "1")
        assert len(world.worker_names()) == 1
    finally:
        os.environ.pop("SITEGENCTL_GLOBAL_KEYPREFIX")


def test_without_a_worker_the_survey_is_empty_at_once(world: World) -> None:
    survey = world.with_session(lambda session: session.queue.survey())
    assert (survey.workers, survey.silent) == ((), 0)


def test_every_worker_answers_and_nothing_is_left_in_redis(world: World) -> None:
    world.worker("-c", "1")
    world.worker("-c", "1")
    before = keys(world)
    survey = world.with_session(lambda session: session.queue.survey())
    assert len(survey.workers) == 2
    assert survey.silent == 0
    assert not {key for key in keys(world) - before if b"reply" in key}
    with world.redis() as client:
        assert client.scard("_kombu.binding.reply.celery.pidbox") == 0


def test_a_worker_that_hangs_is_silent_not_gone(world: World) -> None:
    process = world.worker("-c", "1")
    os.kill(process.pid, signal.SIGSTOP)
    survey = world.with_session(lambda session: session.queue.survey(), timeout="1s")
    assert (survey.workers, survey.silent) == ((), 1)
    os.kill(process.pid, signal.SIGCONT)
    eventually(world.worker_names)


def test_workers_say_what_they_run_and_what_they_hold_for_later(world: World) -> None:
    world.order(1, "GENERATING")
    world.worker("-c", "1", environ={"SITEGENCTL_PACE": "30s"})
    held = world.publish(3, eta=datetime.now(UTC) + timedelta(hours=1))
    running = world.publish(1)

    def claims() -> dict[str, TaskState]:
        survey = world.with_session(lambda session: session.queue.survey())
        return {task.task_id: task.state for worker in survey.workers for task in worker.tasks}

    expected = {running: TaskState.RUNNING, held: TaskState.SCHEDULED}
    eventually(lambda: claims() == expected)


@pytest.mark.parametrize("call", [lambda queue: queue.read(), lambda queue: queue.survey()], ids=["read", "survey"])
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://127.0.0.1:1/0", "can't be reached"),
        ("amqp://guest@localhost//", "not a Redis URL"),
    ],
)
def test_a_redis_that_is_away_is_one_line(call: Callable, url: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        asyncio.run(_call(url, call))
    assert "\n" not in caught.value.message
    assert caught.value.source == "broker"


def test_a_redis_that_hangs_is_left_after_the_timeout(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(SourceError, match="in time"):
            asyncio.run(_call(f"redis://127.0.0.1:{port}/0", lambda queue: queue.read(), timeout=0.3))


def test_a_wrong_password_says_so_without_telling_it(world: World) -> None:
    url = world.redis_url.replace(world.redis_url.split(":")[2].split("@")[0], "wr0ng")
    with pytest.raises(SourceError, match="refuses the login") as caught:
        asyncio.run(_call(url, lambda queue: queue.read()))
    assert "wr0ng" not in caught.value.message


def test_publishing_where_redis_refuses_writes_names_each_task(world: World) -> None:
    with world.redis() as client:
        client.config_set("maxmemory", "1")
        try:
            failed = world.with_session(lambda session: session.queue.publish([publication()]))
            assert read(world).tasks == ()  # an OOM Redis refuses MULTI; reading goes on all the same
        finally:
            client.config_set("maxmemory", "0")
    assert set(failed) == {"task-1"}
    assert "maxmemory" in failed["task-1"]
    assert keys(world) <= {b"_kombu.binding.site_generation"}


def test_publishing_to_a_redis_that_is_away_fails_soon() -> None:
    failed = asyncio.run(_call("redis://127.0.0.1:1/0", lambda queue: queue.publish([publication()]), timeout=1))
    assert set(failed) == {"task-1"}


async def _call(url: str, call: Callable, timeout: float = 2):
    queue = CeleryQueue(url, QueueOptions(), timeout=timeout)
    try:
        return await call(queue)
    finally:
        await queue.close()
