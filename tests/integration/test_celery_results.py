"""What the queue tells before a task is published: final results, revoked ids, and whether Redis takes writes."""

from __future__ import annotations

import asyncio
import json
import pickle
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.queue import CeleryQueue
from sitegenctl.errors import SourceError
from tests.support.fake_worker import FakeWorker
from tests.support.redis_servers import free_port, server
from tests.support.world import World, eventually


def finished(url: str, ids: Collection[str], **options: str) -> Mapping[str, str]:
    async def ask() -> Mapping[str, str]:
        queue = CeleryQueue(url, QueueOptions(**options), timeout=5)
        found = await queue.finished(ids)
        await queue.close()
        return found

    return asyncio.run(ask())


def burnt(world: World, ids: Collection[str]) -> Mapping[str, str]:
    return world.with_session(lambda session: session.queue.unusable(ids), timeout="3s")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (json.dumps({"status": "SUCCESS", "result": {"success": False}}).encode(), "SUCCESS"),
        (b'{"status": "FAILURE", "result": NaN}', "FAILURE"),
        (b'{"status": "REVOKED"}', "REVOKED"),
        (b'{"status": "RETRY"}', None),
        (b'{"status": "STARTED"}', None),
        (b'{"status": ["SUCCESS"]}', None),
        (b'["SUCCESS"]', None),
        (pickle.dumps({"status": "SUCCESS"}), None),
        (b"[" * 100_000, None),
        (b"", None),
    ],
)
def test_only_a_final_result_counts(redis_url: str, raw: bytes, status: str | None) -> None:
    with Redis.from_url(redis_url) as client:
        client.set("celery-task-meta-T", raw)
        client.lpush("celery-task-meta-list", "SUCCESS")
    assert finished(redis_url, ["T", "other", "list", "\ud800"]) == ({"T": status} if status else {})


def test_results_under_either_prefix_and_of_very_many_tasks(redis_url: str) -> None:
    ids = [f"task-{number}" for number in range(1000)]
    with Redis.from_url(redis_url) as client:
        client.mset(
            {f"{'crm:' if n % 2 else ''}celery-task-meta-{each}": '{"status": "SUCCESS"}' for n, each in enumerate(ids)}
        )
    assert finished(redis_url, ids, global_keyprefix="crm:") == dict.fromkeys(ids, "SUCCESS")
    assert finished(redis_url, []) == {}


def test_an_id_is_burnt_by_its_result_or_by_a_worker(world: World) -> None:
    with world.redis() as client:
        client.set("celery-task-meta-done", '{"status": "SUCCESS"}')
        client.set("celery-task-meta-open", '{"status": "RETRY"}')
    with FakeWorker(world, {"revoked": ["gone", "done", ["odd"], 7]}) as worker:
        assert burnt(world, ["done", "gone", "open", "new"]) == {
            "done": "its result is SUCCESS already",
            "gone": "worker fake@box has revoked it",
        }
        assert worker.asked == ["revoked"]
        assert burnt(world, []) == {}
        assert worker.asked == ["revoked"]


def test_a_real_worker_reports_what_was_revoked(world: World) -> None:
    world.worker("-c", "1")
    with Celery(broker=world.redis_url, set_as_current=False) as app:
        app.control.revoke("T")
    reasons = eventually(lambda: burnt(world, ["T", "other"]))
    assert reasons.keys() == {"T"}
    # Newer workers store a result for what they are told to revoke.
    assert reasons["T"].endswith(" has revoked it") or reasons["T"] == "its result is REVOKED already"


def require_writable(url: str) -> SourceError | None:
    async def ask() -> None:
        queue = CeleryQueue(url, QueueOptions(), timeout=5)
        try:
            await queue.require_writable()
        finally:
            await queue.close()

    try:
        asyncio.run(ask())
    except SourceError as exc:
        return exc
    return None


def test_a_redis_that_takes_writes_is_left_as_it_is(world: World) -> None:
    world.publish(1)
    before = world.dumped()
    assert require_writable(world.redis_url) is None
    assert world.dumped() == before


def _out_of_memory(client: Redis, folder: Path) -> None:
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "100kb")


def _replica(client: Redis, folder: Path) -> None:
    client.replicaof("127.0.0.1", free_port())


def _disk_full(client: Redis, folder: Path) -> None:
    client.config_set("save", "3600 1")
    client.set("key", "value")
    shutil.rmtree(folder)
    client.bgsave()
    eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] != "ok")


def _no_replicas(client: Redis, folder: Path) -> None:
    client.config_set("min-replicas-to-write", 1)


@pytest.mark.parametrize(
    ("refuse", "cause", "hint"),
    [
        (_out_of_memory, "out of memory", "maxmemory"),
        (_replica, "replica", "primary"),
        (_disk_full, "disk", "disk"),
        (_no_replicas, "replicas", "replicas"),
    ],
)
def test_a_redis_that_refuses_writes_is_told_with_the_cause(
    tmp_path: Path, refuse: Callable[[Redis, Path], None], cause: str, hint: str
) -> None:
    folder, port = tmp_path / "redis", free_port()
    folder.mkdir()
    url = f"redis://127.0.0.1:{port}/0"
    with server("--port", str(port), "--dir", str(folder), "--save", "", url=url), Redis.from_url(url) as client:
        refuse(client, folder)
        refusal = require_writable(url)
        keys = client.keys()
    assert refusal is not None
    assert refusal.source == "broker"
    assert cause in refusal.message
    assert hint in (refusal.hint or "")
    assert b"site_generation" not in b" ".join(keys)


def test_a_user_who_may_only_read_is_told_so(redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", "+@read", "+select")
        try:
            refusal = require_writable("redis://reader:secret@" + redis_url.rpartition("@")[2])
        finally:
            client.execute_command("ACL", "DELUSER", "reader")
    assert refusal is not None
    assert "does not let this user execute LPUSHX" in refusal.message
    assert "ACL SETUSER" in (refusal.hint or "")
