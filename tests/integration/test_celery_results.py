"""What is read before a task is published: final results and revoked ids."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Collection, Mapping

import pytest
from celery import Celery
from redis import Redis

from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.queue import CeleryQueue
from tests.support.fake_worker import FakeWorker
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


def test_id_with_a_result_or_revoked_is_unusable(world: World) -> None:
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


def test_real_worker_reports_revoked_ids(world: World) -> None:
    world.worker("-c", "1")
    with Celery(broker=world.redis_url, set_as_current=False) as app:
        app.control.revoke("T")
    reasons = eventually(lambda: burnt(world, ["T", "other"]))
    assert reasons.keys() == {"T"}
    # Newer workers store a result for revoked ids.
    assert reasons["T"].endswith(" has revoked it") or reasons["T"] == "its result is REVOKED already"
