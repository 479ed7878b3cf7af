"""What real workers hold, and how their tasks are revoked, stopped and requeued."""

from __future__ import annotations

import os
import re
import signal
from datetime import datetime, timedelta, tzinfo

import pytest

from sitegenctl.domain.queue.task import TaskPlace, TaskState
from tests.support.world import MISSING, QUEUE, World, eventually, judge, publication


def test_worker_details_show_its_tasks(system: World) -> None:
    process = system.start_gated_worker()
    running = system.run_one(1)
    queued = system.publish(2)

    def details():
        (worker,) = system.ask(lambda queue: queue.worker_details()).workers
        return worker if worker.active and worker.active[0].started_at else None

    worker = eventually(details)
    assert (worker.pid, worker.queues) == (process.pid, (QUEUE,))
    assert worker.concurrency == 1
    assert worker.version
    assert worker.uptime is not None
    assert worker.processed is not None
    assert [(task.task_id, task.order_id) for task in worker.active] == [(running, 1)]
    tasks = system.live_tasks()
    assert (tasks[running].state, tasks[running].worker) == (TaskState.RUNNING, worker.name)
    assert tasks[queued].state in (TaskState.QUEUED, TaskState.RESERVED)
    found = system.task_details(running)
    assert found is not None
    assert (found.state, found.worker, found.order_id) == (TaskState.RUNNING, worker.name, 1)

    def changes_nothing() -> bool:
        before = system.dumped()
        system.read_queue()
        system.survey()
        return system.dumped() == before

    # The worker may renew the deadlines of its own keys in between.
    eventually(changes_nothing)


def test_durations_follow_the_clock_of_the_broker(system: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's clock is a day ahead."""

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(days=1)

    system.start_gated_worker()
    system.run_one(1)
    monkeypatch.setattr("sitegenctl.cli.commands.inspect.datetime", Tomorrow)
    line = eventually(lambda: re.search(r"order 1  for \d+(\w+)", system.run("inspect", "workers").stdout))
    assert line[1] in ("ms", "s", "m")


def test_finished_task_has_a_result_and_can_run_again(system: World) -> None:
    system.start_gated_worker()
    system.ask(lambda queue: queue.publish([publication(1, "task-1")]))
    system.gate.touch()

    def done():
        found = system.task_details("task-1")
        return found if found is not None and found.place is TaskPlace.RESULT and found.state is None else None

    result = eventually(done).result
    assert result is not None
    assert result.status in ("SUCCESS", "FINISHED")
    assert system.task_ids() == []
    system.ask(lambda queue: queue.publish([publication(2, "task-1")]))
    eventually(lambda: system.has_ended(2))
    eventually(lambda: system.claims() == {})


def test_task_that_fails_before_it_begins_is_retried(system: World) -> None:
    system.start_gated_worker()
    failing = system.publish(MISSING)

    def retrying():
        task = system.live_tasks().get(failing)
        return task if task is not None and task.state is TaskState.RETRYING else None

    task = eventually(retrying)
    assert (task.order_id, task.attempt) == (MISSING, 2)
    assert task.eta is not None
    found = system.task_details(failing)
    assert found is not None
    assert system.revoke(failing) == {}
    eventually(lambda: failing not in system.task_ids())


def test_running_task_is_stopped_only_with_terminate(system: World) -> None:
    system.start_gated_worker()
    running = system.run_one(1)
    queued, scheduled = system.publish(2), system.publish(3, due=timedelta(hours=1))
    left = system.revoke(running, queued, scheduled)
    assert left.keys() == {running}
    assert f"task {running} started at " in left[running]
    assert system.revoke(running, terminate=True) == {}
    assert (system.claims(), system.task_ids()) == ({}, [])
    system.gate.touch()
    system.publish(2)
    eventually(lambda: system.has_ended(2))
    # The one that was stopped is not tried again.
    assert sorted(system.begun()) == [1, 2]
    # A moment later its worker says that it is done with the other.
    eventually(lambda: system.task_ids() == [])


def test_revoking_a_copy_lets_the_running_task_go_on(system: World) -> None:
    system.start_gated_worker()
    running = system.run_one(1)
    system.publish(1, task_id=running)
    copies = judge(system.read_queue(), system.survey())
    assert [(task.task_id, task.state) for task in copies] == [
        (running, TaskState.RUNNING),
        (running, TaskState.QUEUED),
    ]
    assert system.revoke(running, keep={running}) == {}
    assert system.claims() == {running: TaskState.RUNNING}
    assert "no longer in the queue" in system.revoke(running, keep={running})[running]
    system.gate.touch()
    eventually(lambda: system.has_ended(1))
    assert system.begun() == [1]


def test_tasks_of_a_hanging_worker_are_left(system: World) -> None:
    worker = system.start_gated_worker()
    running = system.run_one(1)
    assert "its worker responds again" in system.requeue(running)[running]
    os.kill(worker.pid, signal.SIGSTOP)
    system.expire()
    survey = system.survey(timeout="1s")
    assert (survey.workers, survey.silent) == ((), 1)
    assert system.live_tasks()[running].state is TaskState.UNACCOUNTED
    assert "did not respond and may" in system.requeue(running, timeout="1s")[running]
    assert "did not respond and may" in system.revoke(running, timeout="1s")[running]
    os.kill(worker.pid, signal.SIGCONT)
    system.gate.touch()
    eventually(lambda: system.has_ended(1))
    assert system.begun() == [1]


def test_task_of_a_killed_worker_runs_exactly_once_more(system: World) -> None:
    worker = system.start_gated_worker()
    task_id = system.run_one(1)
    system.kill(worker)
    delivered = "✗ worker             no worker responds, but 1 task is delivered: a worker that is shutting down"
    eventually(lambda: delivered in system.run("doctor", "--quick").stdout)
    system.expire()
    eventually(lambda: (survey := system.survey()).workers == () and survey.silent == 0)
    assert system.live_tasks()[task_id].state is TaskState.ORPHANED
    system.gate.touch()
    assert system.requeue(task_id) == {}
    system.start_gated_worker()
    eventually(lambda: system.has_ended(1))
    eventually(lambda: system.task_ids() == [])
    assert system.begun() == [1, 1]


def test_paused_worker_goes_on_after_resume(system: World) -> None:
    system.start_gated_worker()
    (name,) = system.worker_names()
    system.gate.touch()

    def consumed() -> tuple[str, ...]:
        (worker,) = system.ask(lambda queue: queue.worker_details()).workers
        return worker.queues

    consumers = system.ask(lambda queue: queue.pause())
    assert (list(consumers.acknowledged), consumers.rejected, consumers.unresponsive) == ([name], {}, 0)
    eventually(lambda: consumed() == ())
    for order_id in (1, 2, 3):
        system.publish(order_id)
    consumers = system.ask(lambda queue: queue.resume())
    assert (list(consumers.acknowledged), consumers.rejected, consumers.unresponsive) == ([name], {}, 0)
    eventually(lambda: consumed() == (QUEUE,))
    eventually(lambda: all(system.has_ended(order_id) for order_id in (1, 2, 3)))
