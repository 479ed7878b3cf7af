from __future__ import annotations

import pytest

from tests.support.rq_world import RqWorld
from tests.support.world import World, eventually


def succeed(world: World, *arguments: str, backend: str) -> str:
    process = world.run(*arguments, SITEGENCTL_BACKEND=backend, SITEGENCTL_GRACE="0s")
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.mark.parametrize(("old", "new"), [("celery", "rq"), ("rq", "celery")], ids=["celery-rq", "rq-celery"])
def test_purge_switch_and_enqueue_held_orders(
    world: World, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_rq = RqWorld(database_url=world.database_url, redis_url=world.redis_url, sites_dir=world.sites_dir)
    queues = {"celery": world, "rq": on_rq}
    world.order(1)
    world.order(2)
    world.order(3, "REVIEW", steps=["START", "SUCCESS"], files=8)
    succeed(world, "enqueue", "1", "2", backend=old)
    assert len(queues[old].queued_ids()) == 2

    succeed(world, "queue", "purge", "--yes", backend=old)
    assert queues[old].queued_ids() == []
    assert [world.status(number) for number in (1, 2, 3)] == ["BUILDING", "BUILDING", "REVIEW"]

    succeed(world, "enqueue", "--condition", "held", "--yes", backend=new)
    assert len(queues[new].queued_ids()) == 2
    assert queues[old].queued_ids() == []

    monkeypatch.setenv("SITEGENCTL_BACKEND", new)
    world.worker("-c", "1")
    eventually(lambda: [world.status(number) for number in (1, 2)] == ["REVIEW", "REVIEW"])
    listed = succeed(world, "inspect", "orders", "--condition", "done", "-o", "ndjson", backend=new)
    assert len(listed.splitlines()) == 3
