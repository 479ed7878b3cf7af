"""The demo's samples on RQ: made by RQ, and in the very conditions in which they are on Celery."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rq.job import JobStatus
from rq.registry import ScheduledJobRegistry

from sitegenctl.demo.samples.plan import plan_samples
from sitegenctl.demo.samples.seed import restore_order
from sitegenctl.domain.diagnosis.condition import Condition
from tests.e2e.test_demo_seeding import found, look, seeded, without_worker
from tests.support.rq_world import JOB, RqWorld
from tests.support.world import QUEUE, eventually

pytestmark = pytest.mark.parametrize("backend", ["rq"])

REPOSITORY = Path(__file__).parents[2]


def test_a_worker_takes_the_running_ones_first_and_leaves_the_held_ones_alone(world: RqWorld) -> None:
    manifest = seeded(world)
    assert found(look(world, manifest), manifest) == without_worker(manifest)
    assert len(look(world, manifest).foreign) == manifest.foreign
    expected = {name: sorted(ids) for name, ids in manifest.conditions.items()}
    folder = world.sites_dir.parent
    environ = {"SITEGENCTL_GENERATOR": "tests.support.generators:gated", "PYTHONPATH": str(REPOSITORY)}
    world.worker("-c", "2", environ=environ, cwd=folder)
    eventually(lambda: found(look(world, manifest), manifest) == expected)
    (folder / "gate").touch()
    # The foreign ones fail in it, as what it can't import does in RQ's own.
    eventually(lambda: not look(world, manifest).foreign)
    over = {"running", "queued", "done"}
    eventually(lambda: not {"running", "queued"} & found(look(world, manifest), manifest).keys())
    left = {name: ids for name, ids in found(look(world, manifest), manifest).items() if name not in over}
    assert left == {name: ids for name, ids in expected.items() if name not in over}


def test_each_is_a_job_that_rq_knows(world: RqWorld) -> None:
    seeded(world)
    tasks = plan_samples().tasks
    jobs = [world.fetch(task.task_id) for task in tasks]
    assert {(job.func_name, job.args, job.timeout) for job in jobs} == {(JOB, (task.order_id,), 600) for task in tasks}
    statuses = [job.get_status() for job in jobs]
    assert [statuses.count(each) for each in (JobStatus.QUEUED, JobStatus.SCHEDULED, JobStatus.STARTED)] == [6, 11, 2]
    assert {job.retries_left for job in jobs} == {3, 2, 1}
    with world.queue() as queue:
        scheduled = ScheduledJobRegistry(queue=queue)
        held = [job for job in jobs if job.is_scheduled]
        assert sorted(scheduled.get_job_ids()) == sorted(job.id for job in held)
        ahead = scheduled.get_scheduled_time(held[0].id) - datetime.now(UTC)
        assert timedelta(minutes=44) < ahead < timedelta(minutes=46)
        lost = [member.decode().partition(":")[0] for member in queue.connection.zrange(f"rq:wip:{QUEUE}", 0, -1)]
        assert sorted(lost) == sorted(job.id for job in jobs if job.is_started)


def test_order_42_can_be_put_back_to_where_it_was(world: RqWorld) -> None:
    manifest = seeded(world)
    world.enqueue(42)
    world.publish(42)
    with world.redis() as client:
        # Its turn comes before all others', and its worker dies.
        client.lrem(f"rq:queue:{QUEUE}", 0, (taken := world.queued_ids()[-1]))
        client.lpush(f"rq:queue:{QUEUE}", taken)
    world.deliver()
    where = {"database_url": world.database_url, "redis_url": world.redis_url, "sites_dir": world.sites_dir}
    asyncio.run(restore_order(**where, manifest=manifest, backend="rq"))
    assert found(look(world, manifest), manifest) == without_worker(manifest)


def test_a_second_seeding_leaves_nothing_of_the_first_nor_takes_what_is_not_the_demo_s(world: RqWorld) -> None:
    first = seeded(world, seed=7)
    world.enqueue(first.conditions[Condition.UNSTARTED][0])
    with world.redis() as client:
        client.set("other", "1")
        client.rpush("rq:queue:other", "job")
        manifest = seeded(world)
        assert client.exists("other", "rq:queue:other") == 2
    assert found(look(world, manifest), manifest) == without_worker(manifest)
    assert len(look(world, manifest).foreign) == manifest.foreign
