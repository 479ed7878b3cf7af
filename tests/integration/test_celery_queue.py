"""What is Celery's own in reading, asking and publishing; what holds for every queue is in ``tests/contract``."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import pickle
import signal
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import pytest
from redis.asyncio import Redis

from sitegenctl.adapters.celery.control import ask_workers
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.queue import CeleryQueue
from sitegenctl.adapters.celery.reader import Bounds
from sitegenctl.adapters.celery.workers import CeleryWorkers
from sitegenctl.adapters.redis.connection import Connection
from sitegenctl.adapters.redis.urls import parse_url
from sitegenctl.domain.queue.task import BrokerReading, Publication, TaskPlace, TaskState
from sitegenctl.errors import SourceError, UsageProblem
from tests.support.servers import async_redis, close
from tests.support.world import QUEUE, TASK, World, eventually

_BOUNDS = Bounds()


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


def test_resume_is_published_as_a_keyword_argument(world: World) -> None:
    assert world.with_session(lambda session: session.queue.publish([publication()])) == {}
    body = json.loads(base64.b64decode(world.queued()[0]["body"]))
    assert body[:2] == [[42], {"resume": False}]


def test_priorities_are_read_in_the_order_of_delivery(world: World) -> None:
    later = world.publish(1, priority=9)
    first = world.publish(2, priority=0)
    middle = world.publish(3, priority=3)
    assert [task.task_id for task in read(world).tasks] == [first, middle, later]


def test_task_in_queue_and_unacked_is_read_twice(world: World) -> None:
    """As a retry that is published before the old delivery is acknowledged, or one restored while it runs."""
    task_id = world.publish(1)
    world.deliver()
    world.publish(1, task_id=task_id)
    places = [(task.task_id, task.state, task.position) for task in read(world).tasks]
    assert places == [(task_id, TaskState.QUEUED, 0), (task_id, TaskState.UNACKED, None)]


def test_long_queue_is_read_like_a_short_one(world: World) -> None:
    ids = [f"task-{number}" for number in range(40)]
    world.with_session(
        lambda session: session.queue.publish([publication(n + 1, task_id) for n, task_id in enumerate(ids)])
    )
    for _ in range(5):
        world.deliver()
    at_once = read(world)
    bounds = Bounds(atomic=10, batch=7, edge=7)
    in_batches = asyncio.run(_call(world.redis_url, lambda queue: queue.read(), bounds=bounds))
    assert [task.task_id for task in at_once.tasks[:35]] == ids[5:]
    assert {task.task_id: task for task in in_batches.tasks} == {task.task_id: task for task in at_once.tasks}


def test_transport_options_are_settings(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"GLOBAL_KEYPREFIX": "crm:", "SEP": "::", "PRIORITY_STEPS": "0,5", "QUEUE": "sites"}.items():
        monkeypatch.setenv(f"SITEGENCTL_{name}", value)
    world.with_session(lambda session: session.queue.publish([publication()]))
    assert [task.order_id for task in read(world).tasks] == [42]
    assert b"crm:sites" in keys(world)
    assert b"sites" not in keys(world)


@pytest.mark.usefixtures("_other_keys")
def test_worker_gets_the_transport_options(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITEGENCTL_FANOUT_PREFIX", "/sites{db}.")
    world.worker("-c", "1")
    assert len(world.worker_names()) == 1
    world.publish(1)
    assert read(world).tasks == ()  # published without the prefix
    world.enqueue(world.order(2))
    eventually(lambda: world.status(2) == "REVIEW")


def test_survey_leaves_nothing_in_redis(world: World) -> None:
    world.worker("-c", "1")
    world.worker("-c", "1")
    before = keys(world)
    survey = world.with_session(lambda session: session.queue.survey())
    assert len(survey.workers) == 2
    assert survey.silent == 0
    assert not {key for key in keys(world) - before if b"reply" in key}
    with world.redis() as client:
        assert client.scard("_kombu.binding.reply.celery.pidbox") == 0


def test_hanging_worker_is_silent(world: World) -> None:
    process = world.worker("-c", "1")
    os.kill(process.pid, signal.SIGSTOP)
    survey = world.with_session(lambda session: session.queue.survey(), timeout="1s")
    assert (survey.workers, survey.silent) == ((), 1)
    os.kill(process.pid, signal.SIGCONT)
    eventually(world.worker_names)


def leftovers(world: World) -> set[bytes]:
    """The leftovers of remote control in Redis: reply lists and their bindings."""
    with world.redis() as client:
        bindings = "_kombu.binding.reply.celery.pidbox"
        lists = {key for key in keys(world) if key.endswith(b"reply.celery.pidbox") and key != bindings.encode()}
        return lists | set(client.smembers(bindings))


def test_late_reply_leaves_nothing_behind(world: World) -> None:
    process = world.worker("-c", "1")
    os.kill(process.pid, signal.SIGSTOP)
    assert world.with_session(lambda session: session.queue.survey(), timeout="300ms").silent == 1
    os.kill(process.pid, signal.SIGCONT)
    eventually(world.worker_names)  # it answers requests in their order: the late one is behind it
    assert leftovers(world) == set()


@contextlib.asynccontextmanager
async def asking(world: World) -> AsyncIterator[tuple[Redis, asyncio.Task[object]]]:
    """A remote control command that waits for a silent worker, and another client."""
    asker = Connection(world.redis_url, QueueOptions(), timeout=20)
    other = async_redis(world.redis_url)
    channel = f"/{parse_url(world.redis_url).database}.celery.pidbox"
    mute = other.pubsub()
    await mute.subscribe(channel)
    await mute.get_message(timeout=5)
    question = asyncio.create_task(ask_workers(asker, ["ping"], QueueOptions(), timeout=10, channels=[channel]))
    while not await _blocked(other):
        pass
    yield other, question
    # redis 4.6 knows no aclose().
    await (mute.aclose() if hasattr(mute, "aclose") else mute.close())
    await asker.aclose()
    await close(other)


async def _blocked(client: Redis) -> list[str]:
    return [each["id"] for each in await client.client_list() if each["cmd"] == "brpop"]


async def test_cancelled_request_leaves_nothing_behind(world: World) -> None:
    async with asking(world) as (_, question):
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question
        assert leftovers(world) == set()


async def test_lost_connection_leaves_nothing_behind(world: World) -> None:
    async with asking(world) as (other, question):
        for blocked in await _blocked(other):
            await other.client_kill_filter(_id=blocked)
        with pytest.raises(SourceError, match="can't be reached"):
            await question
        assert leftovers(world) == set()


async def test_destination_limits_replying_workers(world: World) -> None:
    process = await asyncio.to_thread(world.worker, "-c", "1")
    await asyncio.to_thread(world.worker, "-c", "1")
    (first,) = {name for name in await asyncio.to_thread(world.worker_names) if str(process.pid) in name}
    replies = await CeleryWorkers(world.redis_url, QueueOptions(), timeout=10).ask(
        ["add_consumer"], arguments={"add_consumer": {"queue": "another"}}, destination=[first]
    )
    assert (set(replies.answers), replies.unknown) == ({first}, 0)

    def consuming() -> set[str]:
        roster = world.with_session(lambda session: session.queue.worker_details())
        return {worker.name for worker in roster.workers if "another" in worker.queues}

    # A worker answers before it does it.
    assert await asyncio.to_thread(eventually, consuming) == {first}


def test_worker_details_of_a_real_worker(world: World) -> None:
    world.order(1, "GENERATING")
    process = world.worker("-c", "3", environ={"SITEGENCTL_PACE": "30s"})
    running = world.publish(1)
    held = world.publish(2, eta=datetime.now(UTC) + timedelta(hours=1))

    def details():
        (worker,) = world.with_session(lambda session: session.queue.worker_details()).workers
        # A task that it takes while it answers is in one answer and not yet in another.
        return worker if worker.active and worker.scheduled and worker.processed else None

    worker = eventually(details)
    assert (worker.pid, worker.concurrency, worker.queues) == (process.pid, 3, (QUEUE,))
    assert TASK in worker.registered
    assert worker.processed == 1
    assert worker.pool is not None
    assert "prefork" in worker.pool
    assert worker.version == version("celery")
    assert (worker.soft_limit, worker.hard_limit) == (timedelta(seconds=540), timedelta(seconds=600))
    assert worker.uptime is not None
    assert worker.prefetch_count
    (active,), (scheduled,) = worker.active, worker.scheduled
    assert (active.task_id, active.order_id, scheduled.task_id, scheduled.order_id) == (running, 1, held, 2)
    assert active.started_at is not None
    assert abs(datetime.now(UTC) - active.started_at) < timedelta(seconds=30)
    assert scheduled.eta is not None


def details_of(world: World, task_id: str):
    return world.with_session(lambda session: session.queue.task_details(task_id))


def test_task_details_of_celery_messages(world: World) -> None:
    world.publish(1)
    queued = world.publish(2, priority=3, retries=2)
    details = details_of(world, queued)
    assert (details.place, details.state, details.position) == (TaskPlace.QUEUE, TaskState.QUEUED, 1)
    assert (details.name, details.order_id, details.attempt, details.result) == (TASK, 2, 3, None)
    assert details.list_key == f"{QUEUE}\x06\x163"
    assert details.headers["argsrepr"] == "[2]"
    delivered = world.queued_ids()[0]
    world.deliver(ago=0)
    details = details_of(world, delivered)
    assert (details.place, details.state, details.worker) == (TaskPlace.UNACKED, TaskState.UNACKED, None)
    assert abs(datetime.now(UTC) - details.delivered_at) < timedelta(seconds=30)
    assert details_of(world, "no-such-task") is None


def test_task_details_at_a_worker_and_as_result(world: World) -> None:
    world.order(1, "GENERATING")
    world.worker("-c", "1", environ={"SITEGENCTL_RETRY_BASE": "1h"})
    done, failed = world.publish(1), world.publish(99)
    result = eventually(
        lambda: (details := details_of(world, done)) and details.place is TaskPlace.RESULT and details.result
    )
    assert result.status == "SUCCESS"
    assert json.loads(result.value)["order_id"] == 1
    assert result.date_done is not None
    # The retry is published first, then taken again by the worker, and only then held.
    details = eventually(
        lambda: (
            (details := details_of(world, failed))
            and (details.state, details.place, bool(details.worker)) == (TaskState.RETRYING, TaskPlace.UNACKED, True)
            and details
        )
    )
    assert (details.order_id, details.attempt) == (99, 2)
    assert details.worker in world.worker_names()
    assert details.result.status == "RETRY"
    assert "GenerationError" in details.result.traceback


def test_pickled_result_is_never_loaded(world: World) -> None:
    with world.redis() as client:
        client.set("celery-task-meta-odd", pickle.dumps({"status": "SUCCESS"}))
        client.set("celery-task-meta-list", b"[1]")
    for task_id in ("odd", "list"):
        assert details_of(world, task_id).result.status == "UNDECODABLE"


def test_details_of_an_unreadable_message(world: World) -> None:
    pickled = world.publish(7)
    with world.redis() as client:
        raw = client.rpop(QUEUE)
        client.rpush(QUEUE, raw.replace(b"application/json", b"application/x-python-serialize"))
    details = details_of(world, pickled)
    assert (details.name, details.order_id) == (TASK, None)
    assert "not JSON" in details.undecodable


def test_survey_lists_running_and_scheduled_tasks(world: World) -> None:
    world.order(1, "GENERATING")
    world.worker("-c", "1", environ={"SITEGENCTL_PACE": "30s"})
    held = world.publish(3, eta=datetime.now(UTC) + timedelta(hours=1))
    running = world.publish(1)

    def claims() -> dict[str, TaskState]:
        survey = world.with_session(lambda session: session.queue.survey())
        return {task.task_id: task.state for worker in survey.workers for task in worker.tasks}

    expected = {running: TaskState.RUNNING, held: TaskState.SCHEDULED}
    eventually(lambda: claims() == expected)


CALLS = pytest.mark.parametrize(
    "call", [lambda queue: queue.read(), lambda queue: queue.survey()], ids=["read", "survey"]
)


@CALLS
def test_other_url_is_a_one_line_usage_error(call: Callable) -> None:
    with pytest.raises(UsageProblem, match="not a Redis URL") as caught:
        asyncio.run(_call("amqp://guest@localhost//", call))
    assert "\n" not in caught.value.message


@CALLS
def test_wrong_password_is_reported_but_not_printed(world: World, call: Callable) -> None:
    url = world.redis_url.replace(world.redis_url.split(":")[2].split("@")[0], "wr0ng")
    with pytest.raises(SourceError, match="refuses the login") as caught:
        asyncio.run(_call(url, call))
    assert "wr0ng" not in caught.value.message


async def _call(url: str, call: Callable, timeout: float = 2, bounds: Bounds = _BOUNDS):
    queue = CeleryQueue(url, QueueOptions(), timeout=timeout, bounds=bounds)
    try:
        return await call(queue)
    finally:
        await queue.close()
