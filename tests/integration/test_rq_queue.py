"""RQ's queue on a real Redis, with jobs written by RQ itself."""

from __future__ import annotations

import io
import os
import pickle
import re
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import rq
from rq.command import PUBSUB_CHANNEL_TEMPLATE
from rq.job import Dependency, Job
from rq.registry import CanceledJobRegistry, FinishedJobRegistry
from rq.scheduler import RQScheduler
from rq.suspension import WORKERS_SUSPENDED
from rq.worker_registration import REDIS_WORKER_KEYS

from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.domain.health.check import CheckStatus
from sitegenctl.domain.queue.task import BrokerReading, LiveTask, TaskState
from sitegenctl.extras import install_hint
from tests.support.doctor_stage import examine, expect
from tests.support.rq_world import JOB, RqWorld
from tests.support.world import QUEUE, eventually, judge, publication

RQ = tuple(int(part) for part in rq.__version__.split(".")[:2])


def read(world: RqWorld, **flags: Any) -> BrokerReading:
    return world.with_session(lambda session: session.queue.read(), **flags)


def seen(world: RqWorld) -> dict[str, TaskState]:
    """Where each task is, with what the workers say of it."""

    async def look(session: Any) -> tuple[LiveTask, ...]:
        return judge(await session.queue.read(), await session.queue.survey())

    return {task.task_id: task.state for task in world.with_session(look)}


def publish(world: RqWorld, *order_ids: int, **flags: Any) -> dict[str, Any]:
    made = [publication(order_id, f"task-{order_id}", resume=True) for order_id in order_ids]
    return dict(world.with_session(lambda session: session.queue.publish(made), **flags))


def test_keys_match_rq(rq: RqWorld) -> None:
    options = RqOptions()
    with rq.queue() as queue:
        registries = {
            options.started: queue.started_job_registry,
            options.registry("scheduled"): queue.scheduled_job_registry,
            options.registry("deferred"): queue.deferred_job_registry,
            options.registry("finished"): FinishedJobRegistry(queue=queue),
            options.registry("failed"): queue.failed_job_registry,
            options.registry("canceled"): CanceledJobRegistry(queue=queue),
        }
        assert options.list_key == queue.key
        assert options.intermediate == queue.intermediate_queue_key
    assert all(registry.key == key for key, registry in registries.items())
    key = Job.key_for("J")
    assert (key.decode() if isinstance(key, bytes) else key) == options.job("J")
    assert options.workers == REDIS_WORKER_KEYS
    assert options.channel("W") == PUBSUB_CHANNEL_TEMPLATE % "W"
    assert options.suspended == WORKERS_SUSPENDED
    assert options.scheduler_lock == RQScheduler.get_locking_key(QUEUE)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> object:
        return os.mkdir, (self.path,)


def test_nothing_is_ever_unpickled(rq: RqWorld, tmp_path: Path) -> None:
    exploded = tmp_path / "exploded"
    bomb = pickle.dumps(Bomb(exploded))
    ids = [rq.publish(number) for number in range(1, 5)]
    with rq.redis() as client:
        for task_id in ids:
            client.hset(f"rq:job:{task_id}", mapping={"data": zlib.compress(bomb), "meta": bomb, "result": bomb})
            client.xadd(f"rq:results:{task_id}", {"type": 1, "return_value": "gASVAA=="})
    rq.deliver(late=3600)

    async def everything(session: Any) -> None:
        tasks = (await session.queue.read()).tasks
        assert {task.order_id for task in tasks} == {1, 2, 3, 4}
        await session.queue.survey()
        for task_id in ids:
            assert await session.queue.task_details(task_id) is not None
        assert await session.queue.requeue([task for task in tasks if task.task_id == ids[0]]) == {}
        assert await session.queue.revoke([task for task in tasks if task.task_id == ids[1]]) == {}
        assert await session.queue.publish([publication(2, ids[1])]) == {}

    rq.with_session(everything)
    assert rq.run("inspect").returncode == 0
    assert rq.run("inspect", "task", ids[0]).returncode == 0
    expect(examine(rq)["serialization"], CheckStatus.OK)
    assert not exploded.exists()
    pickle.loads(bomb)  # noqa: S301 - its own
    assert exploded.exists()  # as a bomb it works


def test_stock_worker_runs_published_jobs(rq: RqWorld) -> None:
    assert publish(rq, 42) == {}
    job = rq.fetch("task-42")
    assert (job.func_name, job.args, job.kwargs) == (JOB, (42,), {"resume": True})
    assert (job.retries_left, job.retry_intervals, job.timeout, job.origin) == (3, [60, 120, 240], 600, QUEUE)
    assert job.meta["order_id"] == 42
    assert job.description == f"{JOB}(42, resume=True)"
    assert job.result_ttl == 86400
    assert rq.queued_ids() == ["task-42"]


def test_republishing_replaces_the_old_job(rq: RqWorld) -> None:
    """RQ writes over the old job, and it would be forgotten when the old one was to be: a minute later, say."""
    publish(rq, 42)
    with rq.redis() as client:
        client.lpop(f"rq:queue:{QUEUE}")
        client.hset("rq:job:task-42", mapping={"status": "failed", "retries_left": 0, "exc_info": "x"})
        client.expire("rq:job:task-42", 60)
        client.zadd(f"rq:failed:{QUEUE}", {"task-42": time.time() + 60})
        publish(rq, 42)
        assert client.ttl("rq:job:task-42") == -1
        assert client.zcard(f"rq:failed:{QUEUE}") == 0
        assert client.hget("rq:job:task-42", "exc_info") is None
    (task,) = read(rq).tasks
    assert (task.state, task.attempt) == (TaskState.QUEUED, 1)
    assert rq.fetch("task-42").retries_left == 3


@pytest.mark.parametrize(("serializer", "stock"), [("json", "rq.serializers.JSONSerializer"), ("pickle", None)])
def test_serializer_is_a_setting(rq: RqWorld, serializer: str, stock: str | None) -> None:
    assert publish(rq, 42, rq_serializer=serializer) == {}
    with rq.redis() as client:
        job = Job.fetch("task-42", connection=client, serializer=stock)
    assert job.args[0] == 42
    assert [task.order_id for task in read(rq).tasks] == [42]


@pytest.mark.parametrize("serializer", ["no.such.Module", "json.JSONDecodeError", "nothing"])
def test_unusable_serializer_rolls_the_order_back(rq: RqWorld, serializer: str) -> None:
    rq.order(42)
    process = rq.run("enqueue", "42", SITEGENCTL_RQ_SERIALIZER=serializer)
    assert process.returncode == 1
    assert f"publishing failed: rq_serializer '{serializer}' can't be used" in process.stdout
    assert "Traceback" not in process.stderr
    assert (rq.queued_ids(), rq.status(42)) == ([], "BUILDING")


def test_custom_prefix_needs_rq_3(rq: RqWorld) -> None:
    rq.order(42)
    process = rq.run_process("enqueue", "42", RQ_KEY_PREFIX="crm")
    with rq.redis() as client:
        keys = {key.decode() for key in client.scan_iter()}
    if RQ < (3, 0):
        assert process.returncode == 2
        assert "set another rq_key_prefix with rq 3 or newer" in process.stderr
        assert keys == set()
        assert rq.status(42) == "BUILDING"
        return
    assert process.returncode == 0
    assert {f"crm:queue:{QUEUE}", "crm:queues"} <= keys
    assert not any(key.startswith("rq:") for key in keys)
    assert "1 queued" in rq.run_process("inspect", RQ_KEY_PREFIX="crm").stdout
    assert rq.run_process("cancel", "42", "--yes", RQ_KEY_PREFIX="crm").returncode == 0


def test_deferred_and_held_jobs_are_read(rq: RqWorld) -> None:
    first = rq.publish(1)
    dependent = rq.publish(2, depends_on=first)
    ready, held, other = rq.publish(3), rq.publish(4), rq.publish(5)
    with rq.redis() as client:
        client.lrem(f"rq:queue:{QUEUE}", 1, ready)
        client.zadd(f"rq:ready:{QUEUE}", {ready: 1})
        for task_id in (held, other):
            client.lrem(f"rq:queue:{QUEUE}", 1, task_id)
            client.zadd("rq:rl:sites:rate_limited", {task_id: 1})
        client.sadd("rq:rl-keys", "sites")
        client.hset(f"rq:job:{other}", "origin", "another")
    assert seen(rq) == {
        first: TaskState.QUEUED,
        **dict.fromkeys((dependent, ready, held), TaskState.SCHEDULED),
    }


def end_badly(world: RqWorld, task_id: str, how: str) -> None:
    """Take a job out of the queue as RQ does when it ends in this way."""
    with world.redis() as client:
        client.lrem(f"rq:queue:{QUEUE}", 0, task_id)
        if how == "gone":
            client.delete(f"rq:job:{task_id}")
        else:
            client.hset(f"rq:job:{task_id}", "status", how)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("failed", "failed"),
        ("stopped", "was stopped"),
        ("canceled", "was canceled"),
        ("gone", "no longer exists"),
        ("finished", "have ended"),
    ],
)
def test_job_deferred_for_ever_is_orphaned(rq: RqWorld, how: str, reason: str) -> None:
    rq.order(42, "GENERATING")
    first = rq.publish(1)
    task_id = rq.publish(42, depends_on=first)
    indirect = rq.publish(3, depends_on=task_id)
    end_badly(rq, first, how)
    assert seen(rq) == {task_id: TaskState.ORPHANED, indirect: TaskState.ORPHANED}
    shown = rq.run("inspect", "42").stdout
    assert "orphaned" in shown
    assert reason in shown
    assert rq.run("repair", "42", "--yes").returncode == 0
    assert rq.queued_ids() == [task_id]
    assert rq.fetch(task_id).get_status() == "queued"
    # The dependent of a job that is queued waits for its end again.
    assert seen(rq) == {task_id: TaskState.QUEUED, indirect: TaskState.SCHEDULED}
    with rq.redis() as client:  # nothing queues it a second time
        assert client.smembers(f"rq:job:{first}:dependents") == set()


def test_deferred_job_that_will_run_is_scheduled(rq: RqWorld) -> None:
    failed, gone, waiting = (rq.publish(order_id) for order_id in (1, 2, 3))
    tolerant = rq.publish(4, depends_on=Dependency([failed, waiting], allow_failure=True))
    # RQ ignores a dependency that is gone when another one ends.
    several = rq.publish(5, depends_on=[gone, waiting])
    end_badly(rq, failed, "failed")
    end_badly(rq, gone, "gone")
    assert seen(rq) == {
        waiting: TaskState.QUEUED,
        tolerant: TaskState.SCHEDULED,
        several: TaskState.SCHEDULED,
    }


def test_orphaned_deferred_job_is_revoked(rq: RqWorld) -> None:
    rq.order(42, "CANCELLED")
    first = rq.publish(1)
    task_id = rq.publish(42, depends_on=first)
    end_badly(rq, first, "failed")
    assert rq.run("repair", "42", "--yes").returncode == 0
    assert seen(rq) == {}
    assert rq.fetch(task_id).get_status() == "canceled"


def test_job_taken_and_never_begun_is_requeued(rq: RqWorld) -> None:
    taken, other = rq.publish(1), rq.publish(2)
    with rq.redis() as client:
        client.lmove(f"rq:queue:{QUEUE}", f"rq:queue:{QUEUE}:intermediate", "LEFT", "RIGHT")
    assert seen(rq) == {taken: TaskState.ORPHANED, other: TaskState.QUEUED}
    orphan = next(task for task in read(rq).tasks if task.task_id == taken)
    assert rq.with_session(lambda session: session.queue.requeue([orphan])) == {}
    assert rq.queued_ids() == [taken, other]
    with rq.redis() as client:
        assert client.llen(f"rq:queue:{QUEUE}:intermediate") == 0


def test_delivered_job_is_orphaned_after_its_limit(rq: RqWorld) -> None:
    """Neither an overdue heartbeat nor a missing worker proves that the job's process has ended."""
    task_id = rq.publish(1)
    rq.deliver(late=-60)
    for age in (lambda: None, rq.overdue):
        age()
        assert seen(rq) == {task_id: TaskState.UNACCOUNTED}
        (task,) = read(rq).tasks
        left = rq.with_session(lambda session, task=task: session.queue.requeue([task]))
        assert "its worker did not respond and may be running it" in left[task_id]
        left = rq.with_session(lambda session, task=task: session.queue.revoke([task]))
        assert "its worker did not respond and may be running it" in left[task_id]
    rq.expire()
    assert seen(rq) == {task_id: TaskState.ORPHANED}
    (task,) = read(rq).tasks
    assert rq.with_session(lambda session: session.queue.requeue([task])) == {}
    assert rq.queued_ids() == [task_id]


def test_job_without_time_limit_is_never_orphaned_by_time(rq: RqWorld) -> None:
    task_id = rq.publish(1, job_timeout=-1)
    rq.deliver()
    rq.expire()
    assert seen(rq) == {task_id: TaskState.UNACCOUNTED}
    (task,) = read(rq).tasks
    left = rq.with_session(lambda session: session.queue.requeue([task]))
    assert "it has no time limit" in left[task_id]


# --- places --------------------------------------------------------------------------------------------------


def places(world: RqWorld) -> list[tuple[TaskState, str | None, int | None]]:
    return [(task.state, task.delivery, task.position) for task in read(world).tasks]


def deliver_again(world: RqWorld, task_id: str, execution: str, *, late: float = 3600) -> str:
    """Add an earlier execution of a job that was queued twice; returns its member."""
    member = f"{task_id}:{execution * 32}"
    with world.redis() as client:
        client.zadd(f"rq:wip:{QUEUE}", {member: time.time() - late})
    return member


def test_every_place_of_a_job_is_read(rq: RqWorld) -> None:
    task_id = rq.publish(1)
    rq.deliver(late=3600)
    second = deliver_again(rq, task_id, "f")
    with rq.redis() as client:
        client.rpush(f"rq:queue:{QUEUE}", task_id, task_id)
    assert places(rq) == [
        (TaskState.QUEUED, None, 0),
        (TaskState.QUEUED, None, 1),
        (TaskState.UNACKED, f"{task_id}:{'e' * 32}", None),
        (TaskState.UNACKED, second, None),
    ]
    assert {task.limit for task in read(rq).tasks} == {timedelta(seconds=180)}
    taken_at = read(rq).taken_at
    assert taken_at is not None
    assert abs(taken_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_only_the_given_copies_are_removed(rq: RqWorld) -> None:
    task_id, other = rq.publish(1), rq.publish(2)
    with rq.redis() as client:
        client.rpush(f"rq:queue:{QUEUE}", task_id, task_id)
    copies = [task for task in read(rq).tasks if task.task_id == task_id]
    assert rq.with_session(lambda session: session.queue.revoke(copies[1:], keep={task_id})) == {}
    # The one that was next stays next.
    assert rq.queued_ids() == [task_id, other]
    assert rq.fetch(task_id).get_status() == "queued"
    left = rq.with_session(lambda session: session.queue.revoke(copies[1:], keep={task_id}))
    assert "no longer in the queue" in left[task_id]
    assert rq.queued_ids() == [other]


def test_every_copy_of_an_unkept_job_is_removed(rq: RqWorld) -> None:
    task_id, other = rq.publish(1), rq.publish(2)
    rq.deliver(late=3600)
    deliver_again(rq, task_id, "f")
    with rq.redis() as client:
        client.rpush(f"rq:queue:{QUEUE}", task_id, task_id, task_id)
    (queued, *_) = [task for task in read(rq).tasks if task.task_id == task_id]
    assert rq.with_session(lambda session: session.queue.revoke([queued])) == {}
    assert [task.task_id for task in read(rq).tasks] == [other]
    assert rq.fetch(task_id).get_status() == "canceled"


def test_only_the_given_delivery_is_removed(rq: RqWorld) -> None:
    task_id = rq.publish(1)
    rq.deliver(late=3600)
    second = deliver_again(rq, task_id, "f")
    with rq.redis() as client:
        client.rpush(f"rq:queue:{QUEUE}", task_id)
    (given,) = [task for task in read(rq).tasks if task.delivery == second]
    assert rq.with_session(lambda session: session.queue.revoke([given], keep={task_id})) == {}
    assert [delivery for _, delivery, _ in places(rq)] == [None, f"{task_id}:{'e' * 32}"]


def test_delivery_that_may_be_running_is_not_removed(rq: RqWorld) -> None:
    task_id = rq.publish(1)
    rq.deliver()
    with rq.redis() as client:
        client.rpush(f"rq:queue:{QUEUE}", task_id)
    before = places(rq)
    (given,) = [task for task in read(rq).tasks if task.delivery is not None]
    left = rq.with_session(lambda session: session.queue.revoke([given], keep={task_id}))
    assert "may be running it until" in left[task_id]
    assert places(rq) == before


def test_requeue_never_makes_a_second_copy(rq: RqWorld) -> None:
    task_id = rq.publish(1)
    rq.deliver(late=3600)
    deliver_again(rq, task_id, "f")
    deliveries = read(rq).tasks
    assert rq.with_session(lambda session: session.queue.requeue(deliveries)) == {}
    assert places(rq) == [(TaskState.QUEUED, None, 0)]
    deliver_again(rq, task_id, "a")
    (delivery,) = [task for task in read(rq).tasks if task.delivery is not None]
    left = rq.with_session(lambda session: session.queue.requeue([replace(delivery, state=TaskState.ORPHANED)]))
    assert "is in the queue already" in left[task_id]
    assert rq.queued_ids() == [task_id]


# --- what is left of a job that ended --------------------------------------------------------------------------


def test_job_cancelled_while_running_is_live(rq: RqWorld) -> None:
    """RQ's own ``cancel`` marks the job, but its process continues."""
    task_id = rq.publish(1)
    rq.deliver(late=-60)
    with rq.redis() as client:
        client.hset(f"rq:job:{task_id}", "status", "canceled")
    assert seen(rq) == {task_id: TaskState.UNACCOUNTED}
    rq.overdue()
    assert seen(rq) == {}


def test_job_deleted_while_running_may_be_any_order(rq: RqWorld) -> None:
    task_id = rq.publish(1)
    rq.deliver(late=-60)
    with rq.redis() as client:
        client.delete(f"rq:job:{task_id}")
    (message,) = read(
        rq,
    ).unattributed
    assert (message.task_id, message.reason) == (task_id, "its job was deleted while it ran")
    rq.overdue()
    assert read(rq).foreign == ()


@pytest.mark.parametrize(
    ("status", "result", "reason"),
    [
        ("finished", "SUCCESS", "its job has ended: finished"),
        ("failed", "FAILURE", "its job has ended: failed"),
        ("stopped", "REVOKED", "its job has ended: stopped"),
        ("canceled", "REVOKED", "its job was cancelled"),
        ("queued", None, None),
        ("started", None, None),
        ("\x00odd", None, None),
    ],
)
def test_ids_of_ended_jobs_are_unusable(rq: RqWorld, status: str, result: str | None, reason: str | None) -> None:
    task_id = rq.publish(1)
    with rq.redis() as client:
        client.hset(f"rq:job:{task_id}", "status", status)
    asked = {task_id, "unknown", "\ud800"}
    assert rq.with_session(lambda session: session.queue.finished(asked)) == ({task_id: result} if result else {})
    assert rq.with_session(lambda session: session.queue.unusable(asked)) == ({task_id: reason} if reason else {})


def test_job_running_again_has_no_final_result(rq: RqWorld) -> None:
    """Two workers ran it, and one has ended: what the other runs is no stale claim."""
    task_id = rq.publish(1)
    rq.deliver(late=-60)
    with rq.redis() as client:
        client.hset(f"rq:job:{task_id}", "status", "finished")
    assert rq.with_session(lambda session: session.queue.finished([task_id])) == {}


# --- odd values ------------------------------------------------------------------------------------------------


def test_registry_entry_of_an_ended_job_is_not_live(rq: RqWorld) -> None:
    task_id = rq.publish(1)
    rq.deliver()
    with rq.redis() as client:
        client.hset(f"rq:job:{task_id}", "status", "finished")
        client.zadd(f"rq:wip:{QUEUE}", {"forgotten:e": 1})
        assert seen(rq) == {}
    assert read(rq).foreign == ()


def test_id_may_contain_a_colon(rq: RqWorld) -> None:
    with rq.redis() as client:
        for task_id in ("site:1", "site:2"):
            client.hset(f"rq:job:{task_id}", mapping={"description": f"{JOB}({task_id[-1]})", "status": "queued"})
        client.rpush(f"rq:queue:{QUEUE}", "site:1")
        client.zadd(f"rq:wip:{QUEUE}", {"site:2": 1})
    assert seen(rq) == {"site:1": TaskState.QUEUED, "site:2": TaskState.ORPHANED}


def test_job_of_another_queue_is_not_found(rq: RqWorld) -> None:
    task_id = rq.publish(1)
    with rq.redis() as client:
        client.hset(f"rq:job:{task_id}", "origin", "another")
    assert rq.run("inspect", "task", task_id).returncode == 4


def test_keys_of_another_type_are_skipped(rq: RqWorld) -> None:
    odd, fine = rq.publish(1), rq.publish(2)
    with rq.redis() as client:
        client.delete(f"rq:job:{odd}")
        client.rpush(f"rq:job:{odd}", "a list")
        client.set(f"rq:results:{fine}", "no stream")
        client.sadd("rq:rl-keys", "sites")
        client.set("rq:rl:sites:rate_limited", "no set")
        client.sadd("rq:workers", "rq:worker:odd")
        client.rpush("rq:worker:odd", "a list")
        client.set("rq:worker:odd:executions", "no set")
    assert seen(rq) == {fine: TaskState.QUEUED}
    assert rq.run("inspect", "task", fine).returncode == 0
    assert rq.run("inspect", "workers").stdout.startswith("no worker is alive")


def test_partly_refused_publication_is_certain(rq: RqWorld) -> None:
    with rq.redis() as client:
        client.set(f"rq:queue:{QUEUE}", "no list")
    failed = publish(rq, 1, 2)
    assert set(failed) == {"task-1", "task-2"}
    assert all(failure.certain and "wrong kind" in failure.reason for failure in failed.values())


def test_paused_worker_takes_one_more_job_at_most(rq: RqWorld) -> None:
    rq.gate.touch()
    rq.stock_worker()
    assert rq.run("queue", "pause").stdout.startswith("paused: 1 of 1 workers")
    # It is in the queue already, and takes one more; then it heeds the suspension.
    rq.publish(1)
    with rq.redis() as client:
        eventually(lambda: client.zcard(f"rq:finished:{QUEUE}") == 1)
        (key,) = client.smembers("rq:workers")
        eventually(lambda: client.hget(key, "state") == b"suspended")
        waiting = rq.publish(2)
        assert rq.queued_ids() == [waiting]
        assert seen(rq) == {waiting: TaskState.QUEUED}
        assert rq.run("queue", "resume").returncode == 0
        eventually(lambda: client.zcard(f"rq:finished:{QUEUE}") == 2)


def test_pause_holds_for_workers_that_start_later(rq: RqWorld) -> None:
    assert "one that starts respects it" in rq.run("queue", "pause").stdout
    with rq.redis() as client:
        assert client.exists("rq:suspended")


def test_rq_info_agrees(rq: RqWorld) -> None:
    """RQ's own command, which counts what it cleans up before: here there is nothing to clean up."""
    rq.stock_worker()
    running = rq.publish(1)
    eventually(lambda: seen(rq).get(running) is TaskState.RUNNING)
    for number in (2, 3, 4):
        rq.publish(number)
    rq.publish(5, due=timedelta(hours=1))
    rq.publish(6, depends_on=running)
    ours = rq.run("inspect", "queue", "-o", "json").stdout
    states = re.findall(r'"state": "(\w+)"', ours)
    output = subprocess.run(
        [sys.executable, "-m", "rq.cli", "info", "--url", rq.redis_url, "--raw"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    queue = next(line for line in io.StringIO(output) if line.startswith("queue "))
    counts = [int(number) for number in re.findall(r"\b\d+\b", queue)]
    assert counts[0] == states.count("queued") == 3
    if len(counts) > 1:  # RQ 1.15 prints the queue only
        executing, scheduled = counts[1], counts[-3:]
        assert executing == states.count("running") == 1
        assert 1 in scheduled
    assert states.count("scheduled") == 2  # one for its time, one for another job
    (worker,) = [line for line in io.StringIO(output) if line.startswith("worker ")]
    assert "busy" in worker
    assert running in ours


def test_reading_does_not_import_rq(rq: RqWorld) -> None:
    task_id = rq.publish(1)
    code = (
        "import sys; from sitegenctl.cli.app import run;"
        "[run(words.split()) for words in ('inspect queue', 'inspect workers', 'inspect', 'doctor')];"
        "sys.exit('rq' in sys.modules or 'celery' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert task_id in process.stdout
    assert (process.returncode, process.stderr) == (0, "")


def test_missing_package_names_the_extra(rq: RqWorld) -> None:
    code = (
        "import sys; sys.modules['rq'] = None;"
        "import importlib.util as util; found = util.find_spec;"
        "util.find_spec = lambda name, *rest: None if name == 'rq' else found(name, *rest);"
        "from sitegenctl.cli.app import run; sys.exit(run(['inspect', 'queue']))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr.splitlines() == [
        "error: the backend rq needs the package rq",
        f"hint: {install_hint('rq')}",
    ]


def test_failed_job_is_found_with_its_traceback(rq: RqWorld) -> None:
    rq.stock_worker()
    task_id = rq.publish(99, retry=None)
    with rq.redis() as client:
        eventually(lambda: client.zcard(f"rq:failed:{QUEUE}") == 1)
    found = rq.with_session(lambda session: session.queue.task_details(task_id))
    assert found is not None
    assert (found.order_id, found.state, found.result.status) == (99, None, "FAILED")
    assert "order 99 not found" in found.result.traceback
    assert abs(datetime.now(UTC) - found.result.date_done) < timedelta(seconds=30)
    shown = rq.run("inspect", "task", task_id).stdout
    assert "LookupError" in shown


def test_installed_release_is_the_tested_one(rq: RqWorld) -> None:
    rq.stock_worker()
    (worker,) = rq.with_session(lambda session: session.queue.worker_details()).workers
    assert (worker.software, worker.version) == ("rq", version("rq"))
    assert f"rq {version('rq')}" in rq.run("inspect", "workers").stdout


def test_silent_worker_is_explained_in_rq_terms(rq: RqWorld) -> None:
    rq.order(42, "GENERATING")
    rq.publish(42)
    rq.deliver(late=-60)
    process = rq.run("inspect", "42")
    assert process.returncode == 3
    assert process.stderr.splitlines() == [
        "error: the living worker did not respond: gone",
        "hint: it hangs or is paused, or it was killed and the job that it had begun is still running; a job that it"
        " had begun ends at its time limit at the latest: check again then",
    ]


def test_purge_removes_scheduled_jobs(rq: RqWorld) -> None:
    for order_id in (1, 2):
        rq.order(order_id, "GENERATING")
    rq.publish(1)
    rq.publish(2, due=timedelta(hours=1))
    process = rq.run("queue", "purge", "--yes")
    assert (process.returncode, process.stdout.splitlines()[0]) == (0, "2 cancelled")
    assert "workers hold" not in process.stdout
    assert (rq.status(1), rq.status(2), read(rq).tasks) == ("BUILDING", "BUILDING", ())
