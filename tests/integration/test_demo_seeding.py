"""Seeding on real servers: an operator finds every order in the condition of the manifest."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rq.job import JobStatus
from rq.registry import ScheduledJobRegistry

from sitegenctl.demo.samples import celery_tasks
from sitegenctl.demo.samples.plan import Manifest, plan_samples
from sitegenctl.demo.samples.seed import restore_order, seed
from sitegenctl.domain.diagnosis.condition import DEFAULT_GRACE, Condition
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.operation import Operation
from sitegenctl.errors import SourceError
from sitegenctl.operations.observe import observe
from sitegenctl.session import Session
from tests.support.rq_world import JOB, RqWorld
from tests.support.world import QUEUE, World, eventually, with_grace

both_backends = pytest.mark.parametrize("backend", ["celery", "rq"])
on_rq = pytest.mark.parametrize("backend", ["rq"])


def places(world: World) -> dict[str, Any]:
    return {
        "database_url": world.database_url,
        "redis_url": world.redis_url,
        "sites_dir": world.sites_dir,
        "backend": world.backend,
    }


def seed_world(world: World, **options: Any) -> Manifest:
    return asyncio.run(seed(**places(world), **options))


def snapshot(world: World, manifest: Manifest, grace: timedelta = DEFAULT_GRACE) -> Snapshot:
    order_ids = [order_id for ids in manifest.conditions.values() for order_id in ids]

    async def work(session: Session) -> Snapshot:
        return await observe(with_grace(session, grace), order_ids, check_hollow=True)

    return world.with_session(work)


def conditions(world: World, manifest: Manifest, grace: timedelta = DEFAULT_GRACE) -> dict[str, list[int]]:
    """The condition of every sample order, as the manifest lists them."""
    observed = snapshot(world, manifest, grace)
    by_condition: dict[str, list[int]] = {}
    for order_id in sorted(order_id for ids in manifest.conditions.values() for order_id in ids):
        by_condition.setdefault(observed.diagnose(order_id).condition, []).append(order_id)
    return by_condition


def planned(manifest: Manifest, *, with_worker: bool = False) -> dict[str, list[int]]:
    """The conditions of the manifest; without a worker, the running orders are still queued."""
    expected = {name: sorted(ids) for name, ids in manifest.conditions.items()}
    if not with_worker:
        expected["queued"] = sorted([*expected["queued"], *expected.pop("running")])
    return expected


@both_backends
def test_every_order_is_in_its_planned_condition(world: World) -> None:
    manifest = seed_world(world)
    assert not snapshot(world, manifest).errors
    assert conditions(world, manifest) == planned(manifest)
    assert len(snapshot(world, manifest).reading.foreign) == manifest.foreign
    # The manifest is written beside the sites.
    written = Manifest.from_json((world.folder / "manifest.json").read_text(encoding="utf-8"))
    assert written.to_json() == manifest.to_json()
    # Settling orders are interrupted after the grace period.
    (settling,) = manifest.conditions["settling"]
    assert settling in conditions(world, manifest, grace=timedelta(0))["interrupted"]


def test_the_minimum_number_of_orders_shows_every_condition(world: World) -> None:
    manifest = seed_world(world, orders=47, seed=5)
    assert conditions(world, manifest) == planned(manifest)


@both_backends
def test_a_worker_takes_running_orders_first_and_none_on_hold(world: World) -> None:
    manifest = seed_world(world)
    expected = planned(manifest, with_worker=True)
    world.worker("-c", "2", generator="gated")
    eventually(lambda: conditions(world, manifest) == expected)
    world.gate.touch()
    # Celery discards the foreign messages, RQ fails the foreign jobs.
    eventually(lambda: not snapshot(world, manifest).reading.foreign)
    eventually(lambda: not {"running", "queued"} & conditions(world, manifest).keys())
    changed = {"running", "queued", "done"}
    unchanged = {name: ids for name, ids in conditions(world, manifest).items() if name not in changed}
    assert unchanged == {name: ids for name, ids in expected.items() if name not in changed}


def test_an_interrupted_seeding_is_repeated(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seed_world(world, orders=80, seed=1)

    async def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(celery_tasks, "publish_samples", interrupt)
    with pytest.raises(KeyboardInterrupt):
        seed_world(world, seed=2)
    assert not (world.folder / "manifest.json").exists()
    monkeypatch.undo()
    manifest = seed_world(world)
    assert conditions(world, manifest) == planned(manifest)
    assert world.sql("SELECT count(*) FROM site_orders")[0][0] == 60
    # The next order gets a new id.
    insert = "INSERT INTO site_orders (customer_name, customer_email, total_price) VALUES ('A', 'a', 1) RETURNING id"
    new = world.sql(insert)[0][0]
    assert new == 61
    assert new not in manifest.conditions["ghost"]


def test_only_the_keys_and_folders_of_the_demo_are_removed(world: World) -> None:
    (world.sites_dir / "keep").mkdir()
    stale = plan_samples().tasks[0].task_id
    with world.redis() as client:
        client.set("other", "1")
        client.set(f"{QUEUE}\x06\x163", "x")
        client.set(f"celery-task-meta-{stale}", "stale")
        client.set("celery-task-meta-another", "1")
        seed_world(world)
        assert client.exists("other", "celery-task-meta-another") == 2
        assert not client.exists(f"celery-task-meta-{stale}", f"{QUEUE}\x06\x163")
    assert (world.sites_dir / "keep").is_dir()


@on_rq
def test_only_the_rq_keys_of_the_demo_are_removed(world: RqWorld) -> None:
    first = seed_world(world, seed=7)
    world.enqueue(first.conditions[Condition.UNSTARTED][0])
    with world.redis() as client:
        client.set("other", "1")
        client.rpush("rq:queue:other", "job")
        manifest = seed_world(world)
        assert client.exists("other", "rq:queue:other") == 2
    assert conditions(world, manifest) == planned(manifest)
    assert len(snapshot(world, manifest).reading.foreign) == manifest.foreign


def test_ages_do_not_depend_on_the_time_zone_of_the_database(world: World) -> None:
    name = world.sql("SELECT current_database()")[0][0]
    world.sql(f"ALTER DATABASE {name} SET timezone = 'America/Sao_Paulo'")
    manifest = seed_world(world)
    assert conditions(world, manifest) == planned(manifest)
    failed = plan_samples().order(manifest.conditions["failed"][0])
    row = world.sql(
        "SELECT extract(epoch FROM localtimestamp - max(created_at))::float8 AS age"
        " FROM site_generation_logs WHERE order_id = $1",
        failed.order_id,
    )[0]
    assert row["age"] == pytest.approx(failed.logs[-1].age, abs=60)


def test_operations_of_the_samples_are_found_by_their_ids(world: World) -> None:
    seed_world(world)

    async def found(session: Session) -> list[Operation | None]:
        newest = await session.orders.newest_operations()
        return [await session.orders.read_operation(each.operation_id or "") for each in newest]

    operations = world.with_session(found)
    assert operations
    assert None not in operations


def test_some_messages_are_published_by_sitegenctl(world: World) -> None:
    seed_world(world)
    messages = world.queued()
    ours = [message for message in messages if "sitegenctl_actor" in message["headers"]]
    assert 0 < len(ours) < len(messages) / 2
    assert all(message["headers"]["sitegenctl_enqueued_at"].endswith("+00:00") for message in ours)
    kinds = [message["content-type"] for message in messages]
    assert kinds.count("application/x-python-serialize") == 1
    assert {message["headers"]["retries"] for message in messages} == {0, 1, 2}
    assert len({message["headers"]["id"] for message in messages}) == len(messages)


def test_kombu_restores_an_orphan_after_the_visibility_timeout(world: World) -> None:
    from celery import Celery

    manifest = seed_world(world)
    with world.redis() as client, Celery(broker=world.redis_url, set_as_current=False) as app:
        assert client.zcard("unacked_index") == client.hlen("unacked") == 2
        with app.connection_for_read() as connection:
            channel = connection.default_channel
            channel.qos.restore_visible(num=10, interval=1)
            assert client.hlen("unacked") == 2
            channel.qos.visibility_timeout = 0
            channel.qos.restore_visible(num=10, interval=1)
        assert client.hlen("unacked") == 0
    assert set(manifest.conditions["orphaned"]) <= set(conditions(world, manifest)["queued"])


@on_rq
def test_every_task_is_a_job_that_rq_can_read(world: RqWorld) -> None:
    seed_world(world)
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


def test_order_42_can_be_restored(world: World) -> None:
    manifest = seed_world(world)
    world.sql("UPDATE site_orders SET status = 'REVIEW', admin_notes = 'x', site_url = 'x' WHERE id = 42")
    world.sql("INSERT INTO site_generation_logs (order_id, step, message) VALUES (42, 'SUCCESS', 'done')")
    world.sql("INSERT INTO site_deliverables (order_id, type, title) VALUES (42, 'BRIEFING', 'x')")
    world.files(42, 12)
    world.publish(42)
    world.publish(42)
    with world.redis() as client:
        # One of the messages was delivered to a worker that died.
        raw = client.lpop(QUEUE)
        assert raw is not None
        client.hset("unacked", "tag", json.dumps([json.loads(raw), "", QUEUE]))
        client.zadd("unacked_index", {"tag": 1.0})
    others = "SELECT * FROM site_orders WHERE id <> 42 ORDER BY id"
    before = world.sql(others)

    asyncio.run(restore_order(**places(world), manifest=manifest))

    assert conditions(world, manifest) == planned(manifest)
    assert world.sql(others) == before
    row = world.sql("SELECT admin_notes, site_url, onboarding_completed_at FROM site_orders WHERE id = 42")[0]
    assert (row["admin_notes"], row["site_url"]) == (None, None)
    assert row["onboarding_completed_at"] is not None
    assert world.sql("SELECT count(*) FROM site_deliverables WHERE order_id = 42")[0][0] == 0
    assert world.log(42) == []
    assert not world.site(42).exists()
    with world.redis() as client:
        assert client.zcard("unacked_index") == 2


@on_rq
def test_order_42_can_be_restored_on_rq(world: RqWorld) -> None:
    manifest = seed_world(world)
    world.enqueue(42)
    world.publish(42)
    with world.redis() as client:
        # The first job in the queue is taken by a worker that dies.
        client.lrem(f"rq:queue:{QUEUE}", 0, (taken := world.queued_ids()[-1]))
        client.lpush(f"rq:queue:{QUEUE}", taken)
    world.deliver()
    asyncio.run(restore_order(**places(world), manifest=manifest))
    assert conditions(world, manifest) == planned(manifest)


@pytest.mark.parametrize("url", ["redis_url", "database_url"])
def test_an_unreachable_server_is_reported(world: World, url: str) -> None:
    urls = {"database_url": world.database_url, "redis_url": world.redis_url}
    urls[url] = "redis://127.0.0.1:1/0" if url == "redis_url" else "postgresql://a@127.0.0.1:1/x"
    with pytest.raises(SourceError) as failure:
        asyncio.run(seed(sites_dir=world.sites_dir, **urls))
    assert failure.value.source == ("broker" if url == "redis_url" else "database")
    assert "\n" not in failure.value.message


def test_of_many_orders_only_special_and_new_ones_get_a_folder(world: World) -> None:
    manifest = seed_world(world, orders=2500)
    assert "done" in manifest.notes
    with_files = {order.order_id for order in plan_samples(2500).crafted.values() if order.files}
    newest = {order.order_id for order in plan_samples(2500) if order.files and order.order_id > 2400}
    assert len(newest) > 50
    assert {folder.name for folder in world.sites_dir.iterdir()} == {f"project_{id_}" for id_ in with_files | newest}
    # The newest folders show that this is the right directory.
    assert world.run("inspect").returncode == 0
    assert world.sql("SELECT count(*) FROM site_orders WHERE status = 'DELIVERED'")[0][0] > 2000
