"""Reading and publishing, on a real Redis, with what Celery and RQ themselves put there."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from sitegenctl.domain.diagnosis.snapshot import running_order
from sitegenctl.domain.queue.task import TaskPlace, TaskState
from sitegenctl.errors import SourceError
from sitegenctl.operations.observe import Attempts, observe_open
from sitegenctl.render.queue import queue_text
from sitegenctl.render.table import Screen
from tests.support.world import AT, QUEUE, World, publication


def test_published_tasks_are_read_back(system: World) -> None:
    assert system.ask(lambda queue: queue.publish([publication(), publication(43, "task-2")])) == {}
    first, second = system.read_queue().tasks
    assert (first.task_id, first.order_id, first.state, first.position) == ("task-1", 42, TaskState.QUEUED, 0)
    assert (second.task_id, second.position) == ("task-2", 1)
    assert (first.actor, first.enqueued_at, first.attempt, first.name) == ("ana@crm", AT, 1, system.task_name)


def test_tasks_of_other_publishers_are_read(system: World) -> None:
    first, second = system.publish(1), system.publish(2)
    assert [(task.task_id, task.order_id, task.actor) for task in system.read_queue().tasks] == [
        (first, 1, None),
        (second, 2, None),
    ]


def test_state_shows_where_a_task_is(system: World) -> None:
    lost = system.publish(1)
    system.deliver_to_dead_worker()
    scheduled = system.publish(2, due=timedelta(hours=1))
    queued = system.publish(3)
    tasks = {task.task_id: task for task in system.read_queue().tasks}
    assert {task_id: task.state for task_id, task in tasks.items()} == {
        lost: TaskState.UNACKED,
        scheduled: TaskState.SCHEDULED,
        queued: TaskState.QUEUED,
    }
    due = tasks[scheduled].eta
    assert due is not None
    assert timedelta(minutes=59) < due - datetime.now(UTC) < timedelta(minutes=61)
    system.expire()
    assert system.live_tasks()[lost].state is TaskState.ORPHANED


@pytest.mark.parametrize("days", [-1, 1])
def test_waits_follow_the_clock_of_the_broker(system: World, days: int) -> None:
    """This machine's clock is a day off."""
    system.order(2, "GENERATING")
    system.publish(2, due=timedelta(hours=1, seconds=50))
    attempts = Attempts(now=lambda: datetime.now(UTC) + timedelta(days=days))
    snapshot = system.with_session(lambda session: observe_open(session, attempts=attempts))
    assert round(snapshot.clock_offset / timedelta(days=1)) == -days
    text = queue_text(list(running_order(snapshot)), snapshot, total=1, screen=Screen(width=200, colour=False))
    assert "in 1h" in text


def test_foreign_messages_are_listed(system: World) -> None:
    system.publish(1, task="app.tasks.auto_start_stuck_orders.check_and_start_stuck_orders")
    with system.redis() as client:
        if system.backend == "celery":
            client.lpush(QUEUE, b"\x80not json", b"{}")
            client.hset("unacked", "tag", b"neither")
        else:
            client.rpush(f"rq:queue:{QUEUE}", b"\xff\xfe", b"")
            client.rpush("rq:job:no-job", b"a list")
            client.rpush(f"rq:queue:{QUEUE}", b"no-job")
    ours = system.publish(42)
    reading = system.read_queue()
    assert [task.task_id for task in reading.tasks] == [ours]
    assert len(reading.foreign) == 4
    assert any("check_and_start_stuck_orders" in message.name for message in reading.foreign)


def test_read_can_be_limited_to_some_orders(system: World) -> None:
    system.publish(1, task="app.tasks.other")
    system.publish(1)
    wanted = system.publish(2)
    reading = system.read_queue(only={2})
    assert [(task.task_id, task.position) for task in reading.tasks] == [(wanted, None)]
    assert reading.foreign == ()


def test_reading_writes_nothing(system: World) -> None:
    lost = system.publish(1)
    system.deliver_to_dead_worker()
    system.publish(2, due=timedelta(hours=1))
    system.publish(3)
    before = system.dumped()
    system.read_queue()
    system.task_details(lost)
    system.survey()
    system.ask(lambda queue: queue.worker_details())
    assert system.ask(lambda queue: queue.prune_replies(dry_run=True)) == 0
    assert system.dumped() == before


def test_task_details_find_a_task_anywhere(system: World) -> None:
    lost = system.publish(1)
    system.deliver_to_dead_worker()
    system.publish(2)
    queued = system.publish(3)
    found = system.task_details(queued)
    assert found is not None
    assert (found.place, found.state, found.position) == (TaskPlace.QUEUE, TaskState.QUEUED, 1)
    assert (found.name, found.order_id, found.attempt, found.result) == (system.task_name, 3, 1, None)
    assert found.list_key is not None
    found = system.task_details(lost)
    assert found is not None
    assert (found.place, found.state, found.order_id) == (TaskPlace.UNACKED, TaskState.UNACKED, 1)
    assert system.task_details("no-such-task") is None
    assert system.task_details(json.loads('"\\ud800"')) is None


def test_revoked_id_can_be_published_again(system: World) -> None:
    system.ask(lambda queue: queue.publish([publication()]))
    system.revoke("task-1")
    system.ask(lambda queue: queue.publish([publication(resume=True)]))
    assert [(task.task_id, task.order_id, task.attempt) for task in system.read_queue().tasks] == [("task-1", 42, 1)]


CALLS = pytest.mark.parametrize(
    "call",
    [
        lambda queue: queue.read(),
        lambda queue: queue.survey(),
        lambda queue: queue.worker_details(),
        lambda queue: queue.task_details("T"),
        lambda queue: queue.pause(),
        lambda queue: queue.resume(),
    ],
    ids=["read", "survey", "details", "task", "pause", "resume"],
)


@CALLS
def test_unreachable_redis_is_a_one_line_error(system: World, call: Callable) -> None:
    with pytest.raises(SourceError, match="can't be reached") as caught:
        system.ask(call, redis_url="redis://127.0.0.1:1/0")
    assert "\n" not in caught.value.message
    assert caught.value.source == "broker"


@pytest.mark.parametrize("call", [lambda queue: queue.read(), lambda queue: queue.survey()], ids=["read", "survey"])
def test_hanging_redis_is_given_up_after_the_timeout(system: World, call: Callable) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(SourceError, match="in time"):
            system.ask(call, redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0", timeout="500ms")
        assert time.monotonic() - began < 1.5


def test_refused_publishing_is_a_certain_failure_per_task(system: World) -> None:
    with system.redis() as client:
        client.config_set("maxmemory", "1")
        try:
            failed = system.ask(lambda queue: queue.publish([publication(), publication(43, "task-2")]))
            assert system.read_queue().tasks == ()  # an OOM Redis refuses MULTI; reading goes on all the same
        finally:
            client.config_set("maxmemory", "0")
    assert set(failed) == {"task-1", "task-2"}
    assert "maxmemory" in failed["task-1"].reason
    assert failed["task-1"].certain
    assert system.read_queue().tasks == ()


def test_publishing_to_an_unreachable_redis_is_uncertain(system: World) -> None:
    failed = system.ask(lambda queue: queue.publish([publication()]), redis_url="redis://127.0.0.1:1/0")
    assert [(task_id, failure.certain) for task_id, failure in failed.items()] == [("task-1", False)]


def test_survey_without_workers_is_empty(system: World) -> None:
    consumers = system.ask(lambda queue: queue.pause())
    assert (list(consumers.acknowledged), consumers.rejected, consumers.unresponsive) == ([], {}, 0)
    survey = system.survey()
    assert (survey.workers, survey.silent) == ((), 0)
