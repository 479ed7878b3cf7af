"""Seeding on real servers: what the manifest says is what an operator finds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sitegenctl.demo.samples import celery_tasks
from sitegenctl.demo.samples.manifest import Manifest
from sitegenctl.demo.samples.plan import plan_samples
from sitegenctl.demo.samples.seed import restore_order, seed
from sitegenctl.domain.diagnosis.condition import DEFAULT_GRACE
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.errors import SourceError
from sitegenctl.operations.observe import observe
from sitegenctl.session import Session
from tests.support import processes
from tests.support.world import QUEUE, World, eventually

# Takes our tasks and keeps them for as long as the gate is closed; it knows no other task, as the real one.
_WORKER = """
import os, time
from celery import Celery

app = Celery("gate", broker=os.environ["REDIS_URL"])
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, accept_content=["json"])

@app.task(name="app.tasks.site_generation.generate_site_task")
def generate(order_id, resume=True):
    while not os.path.exists(os.environ["GATE"]):
        time.sleep(0.05)
"""


def seeded(world: World, **options: Any) -> Manifest:
    return asyncio.run(seed(**_places(world), backend=world.backend, **options))


def _places(world: World) -> dict[str, Any]:
    return {"database_url": world.database_url, "redis_url": world.redis_url, "sites_dir": world.sites_dir}


def look(world: World, manifest: Manifest, grace: timedelta = DEFAULT_GRACE) -> Snapshot:
    everything = [order_id for ids in manifest.conditions.values() for order_id in ids]

    async def work(session: Session) -> Snapshot:
        return await observe(session.orders, session.queue, session.sites, everything, grace=grace, check_hollow=True)

    return world.with_session(work)


def found(snapshot: Snapshot, manifest: Manifest) -> dict[str, list[int]]:
    conditions: dict[str, list[int]] = {}
    for order_id in sorted(order_id for ids in manifest.conditions.values() for order_id in ids):
        conditions.setdefault(snapshot.diagnose(order_id).condition, []).append(order_id)
    return conditions


def without_worker(manifest: Manifest) -> Mapping[str, list[int]]:
    expected = {name: sorted(ids) for name, ids in manifest.conditions.items()}
    expected["queued"] = sorted([*expected["queued"], *expected.pop("running")])
    return expected


@contextlib.contextmanager
def gated_worker(world: World, folder: Path) -> Iterator[Path]:
    """A real worker with two processes; yields the gate: once it exists, tasks end."""
    gate = folder / "gate"
    (folder / "gated.py").write_text(_WORKER)
    log = folder / "gated.log"
    with log.open("wb") as output:
        process = processes.start(
            *("-m", "celery", "-A", "gated", "worker", "-c", "2", "-Q", QUEUE),
            cwd=folder,
            env={**os.environ, "GATE": str(gate)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield gate
        assert process.poll() is None, log.read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_an_operator_finds_every_order_where_the_manifest_says(world: World) -> None:
    manifest = seeded(world)
    snapshot = look(world, manifest)
    assert not snapshot.errors
    assert found(snapshot, manifest) == without_worker(manifest)
    assert len(snapshot.foreign) == manifest.foreign


def test_the_least_number_of_orders_shows_every_condition_too(world: World) -> None:
    manifest = seeded(world, orders=47, seed=5)
    assert found(look(world, manifest), manifest) == without_worker(manifest)


def test_a_worker_takes_the_running_ones_first_and_leaves_the_held_ones_alone(world: World, tmp_path: Path) -> None:
    manifest = seeded(world)
    expected = {name: sorted(ids) for name, ids in manifest.conditions.items()}
    with gated_worker(world, tmp_path) as gate:
        eventually(lambda: found(look(world, manifest), manifest) == expected)
        gate.touch()
        # It discards the foreign messages, and holds what has an ETA without running it.
        eventually(lambda: not look(world, manifest).foreign)
        over = {"running", "queued", "interrupted"}
        eventually(lambda: "queued" not in found(look(world, manifest), manifest))
        left = {name: ids for name, ids in found(look(world, manifest), manifest).items() if name not in over}
        assert left == {name: ids for name, ids in expected.items() if name not in over}


def test_the_manifest_is_written_beside_the_sites(world: World) -> None:
    manifest = seeded(world)
    written = Manifest.from_json((world.sites_dir.parent / "manifest.json").read_text(encoding="utf-8"))
    assert written.to_json() == manifest.to_json()


def test_what_settles_is_interrupted_once_the_grace_is_over(world: World) -> None:
    manifest = seeded(world)
    (settling,) = manifest.conditions["settling"]
    assert settling in found(look(world, manifest, grace=timedelta(0)), manifest)["interrupted"]


def test_a_seeding_that_was_cut_short_is_made_good_by_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seeded(world, orders=80, seed=1)

    async def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(celery_tasks, "publish_samples", killed)
    with pytest.raises(KeyboardInterrupt):
        seeded(world, seed=2)
    assert not (world.sites_dir.parent / "manifest.json").exists()
    monkeypatch.undo()
    manifest = seeded(world)
    assert found(look(world, manifest), manifest) == without_worker(manifest)
    assert world.sql("SELECT count(*) FROM site_orders")[0][0] == 60


def test_only_the_demo_s_own_keys_and_folders_are_cleared(world: World) -> None:
    (world.sites_dir / "keep").mkdir()
    stale = plan_samples().tasks[0].task_id
    with world.redis() as client:
        client.set("other", "1")
        client.set(f"{QUEUE}\x06\x163", "x")
        client.set(f"celery-task-meta-{stale}", "stale")
        client.set("celery-task-meta-another", "1")
        seeded(world)
        assert client.exists("other", "celery-task-meta-another") == 2
        assert not client.exists(f"celery-task-meta-{stale}", f"{QUEUE}\x06\x163")
    assert (world.sites_dir / "keep").is_dir()


def test_the_next_order_gets_an_id_of_its_own(world: World) -> None:
    manifest = seeded(world)
    insert = "INSERT INTO site_orders (customer_name, customer_email, total_price) VALUES ('A', 'a', 1) RETURNING id"
    new = world.sql(insert)[0][0]
    assert new == 61
    assert new not in manifest.conditions["ghost"]


def test_ages_are_right_whatever_the_database_s_time_zone(world: World) -> None:
    name = world.sql("SELECT current_database()")[0][0]
    world.sql(f"ALTER DATABASE {name} SET timezone = 'America/Sao_Paulo'")
    manifest = seeded(world)
    assert found(look(world, manifest), manifest) == without_worker(manifest)
    plan = plan_samples()
    failed = plan.order(manifest.conditions["failed"][0])
    row = world.sql(
        "SELECT extract(epoch FROM localtimestamp - max(created_at))::float8 AS age"
        " FROM site_generation_logs WHERE order_id = $1",
        failed.order_id,
    )[0]
    assert row["age"] == pytest.approx(failed.logs[-1].age, abs=60)


def test_messages_are_those_of_the_backend_and_some_of_sitegenctl(world: World) -> None:
    seeded(world)
    messages = world.queued()
    ours = [message for message in messages if "sitegenctl_actor" in message["headers"]]
    assert 0 < len(ours) < len(messages) / 2
    assert all(message["headers"]["sitegenctl_enqueued_at"].endswith("+00:00") for message in ours)
    kinds = [message["content-type"] for message in messages]
    assert kinds.count("application/x-python-serialize") == 1
    assert {message["headers"]["retries"] for message in messages} == {0, 1, 2}
    assert len({message["headers"]["id"] for message in messages}) == len(messages)


def test_kombu_gives_an_orphan_back_when_its_time_is_over(world: World) -> None:
    from celery import Celery

    manifest = seeded(world)
    with world.redis() as client, Celery(broker=world.redis_url, set_as_current=False) as app:
        assert client.zcard("unacked_index") == client.hlen("unacked") == 2
        with app.connection_for_read() as connection:
            channel = connection.default_channel
            channel.qos.restore_visible(num=10, interval=1)
            assert client.hlen("unacked") == 2
            channel.qos.visibility_timeout = 0
            channel.qos.restore_visible(num=10, interval=1)
        assert client.hlen("unacked") == 0
    orphaned = set(manifest.conditions["orphaned"])
    assert orphaned <= set(found(look(world, manifest), manifest)["queued"])


@pytest.fixture
def spent(world: World) -> Manifest:
    """A seeded system whose order 42 has been generated, and enqueued once more."""
    manifest = seeded(world)
    world.sql("UPDATE site_orders SET status = 'REVIEW', admin_notes = 'x', site_url = 'x' WHERE id = 42")
    world.sql("INSERT INTO site_generation_logs (order_id, step, message) VALUES (42, 'SUCCESS', 'done')")
    world.sql("INSERT INTO site_deliverables (order_id, type, title) VALUES (42, 'BRIEFING', 'x')")
    world.files(42, 12)
    world.publish(42)
    world.publish(42)
    with world.redis() as client:
        # One of them is with a worker that died.
        raw = client.lindex(QUEUE, 0)
        assert raw is not None
        client.lpop(QUEUE)
        client.hset("unacked", "tag", json.dumps([json.loads(raw), "", QUEUE]))
        client.zadd("unacked_index", {"tag": 1.0})
    return manifest


def test_order_42_can_be_put_back_to_where_it_was(world: World, spent: Manifest) -> None:
    asyncio.run(restore_order(**_places(world), manifest=spent))
    assert found(look(world, spent), spent) == without_worker(spent)
    row = world.sql("SELECT admin_notes, site_url, onboarding_completed_at FROM site_orders WHERE id = 42")[0]
    assert (row["admin_notes"], row["site_url"]) == (None, None)
    assert row["onboarding_completed_at"] is not None
    assert world.sql("SELECT count(*) FROM site_deliverables WHERE order_id = 42")[0][0] == 0
    assert world.log(42) == []
    assert not world.site(42).exists()
    with world.redis() as client:
        assert client.zcard("unacked_index") == 2


def test_restoring_leaves_every_other_order_alone(world: World, spent: Manifest) -> None:
    others = "SELECT * FROM site_orders WHERE id <> 42 ORDER BY id"
    before = world.sql(others)
    asyncio.run(restore_order(**_places(world), manifest=spent))
    assert world.sql(others) == before


@pytest.mark.parametrize("url", ["redis_url", "database_url"])
def test_a_server_that_is_away_is_named_in_one_line(world: World, url: str) -> None:
    urls = {"database_url": world.database_url, "redis_url": world.redis_url}
    urls[url] = "redis://127.0.0.1:1/0" if url == "redis_url" else "postgresql://a@127.0.0.1:1/x"
    with pytest.raises(SourceError) as failure:
        asyncio.run(seed(sites_dir=world.sites_dir, **urls))
    assert failure.value.source == ("broker" if url == "redis_url" else "database")
    assert "\n" not in failure.value.message


def test_of_many_orders_only_those_made_by_recipe_and_the_newest_get_a_folder(world: World) -> None:
    manifest = seeded(world, orders=2500)
    assert "done" in manifest.notes
    with_files = {order.order_id for order in plan_samples(2500).crafted.values() if order.files}
    newest = {order.order_id for order in plan_samples(2500) if order.files and order.order_id > 2400}
    assert len(newest) > 50
    assert {folder.name for folder in world.sites_dir.iterdir()} == {f"project_{id_}" for id_ in with_files | newest}
    # By the newest it is told that these are the workers' sites: without them nothing would be certain.
    assert world.run("inspect").returncode == 0
    assert world.sql("SELECT count(*) FROM site_orders WHERE status = 'DELIVERED'")[0][0] > 2000


def test_all_of_many_orders_get_a_folder_where_that_is_asked_for(world: World) -> None:
    manifest = seeded(world, orders=2001, bulk_sites=True)
    assert "done" not in manifest.notes
    assert found(look(world, manifest), manifest) == without_worker(manifest)
