"""Pausing and resuming workers, and removing leftovers of remote control."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from redis import Redis

from sitegenctl.domain.ports import Consumers
from sitegenctl.errors import SourceError
from tests.support.celery_tasks import DEPLOYED, lists
from tests.support.fake_worker import FakeWorker
from tests.support.world import World, eventually

BINDINGS = "_kombu.binding.reply.celery.pidbox"


def pause(world: World) -> Consumers:
    return world.with_session(lambda session: session.queue.pause(), timeout="2s")


def resume(world: World) -> Consumers:
    return world.with_session(lambda session: session.queue.resume(), timeout="2s")


@pytest.mark.parametrize("python", [None, DEPLOYED], ids=["this", "deployed"])
def test_paused_worker_takes_nothing_until_resumed(world: World, python: object) -> None:
    world.order(1, "GENERATING")
    world.order(2, "GENERATING")
    worker = world.worker("-c", "1", **({} if python is None else {"python": str(python)}))
    (name,) = world.worker_names()
    with FakeWorker(world, {"cancel_consumer": {"error": "it won't"}, "add_consumer": {"ok": "it does"}}):
        assert pause(world) == Consumers(acknowledged=[name], rejected={"fake@box": "it won't"}, unresponsive=0)
        ids = {world.publish(1), world.publish(2)}

        def queues() -> tuple[str, ...]:
            roster = world.with_session(lambda session: session.queue.worker_details(), timeout="2s")
            return roster.workers[0].queues if roster.workers else ("it was silent",)

        # Its last request may still deliver a message, which it returns.
        eventually(lambda: not queues() and set(world.queued_ids()) == ids)
        assert (world.steps(1), world.steps(2)) == ([], [])
        os.kill(worker.pid, signal.SIGSTOP)
        assert resume(world) == Consumers(acknowledged=["fake@box"], rejected={}, unresponsive=1)
        os.kill(worker.pid, signal.SIGCONT)
        assert resume(world).acknowledged == ["fake@box", name]
    eventually(lambda: world.status(1) == world.status(2) == "REVIEW")


def prune(world: World) -> int:
    return world.with_session(lambda session: session.queue.prune_replies(), timeout="2s")


def leave_replies(client: Redis, oid: str, *, prefix: str = "", sep: str = "\x06\x16", idle: int | None = None) -> None:
    """What a dead client leaves: a reply list, idle for this number of seconds, and a binding."""
    name = f"{oid}.reply.celery.pidbox"
    client.sadd(f"{prefix}{BINDINGS}", sep.join((oid, "", name)))
    if idle is not None:
        client.lpush("made", "reply")
        client.restore(f"{prefix}{name}", 0, client.dump("made"), idletime=idle)
        client.delete("made")


def test_abandoned_reply_lists_and_bindings_are_removed(world: World) -> None:
    with world.redis() as client:
        leave_replies(client, "dead", idle=3600)
        leave_replies(client, "dead-too", idle=61)
        leave_replies(client, "young", idle=30)
        leave_replies(client, "waiting")  # for its first reply: it would not get one without its binding
        client.lpush("other.list", "kept")
        assert prune(world) == 2
        assert set(lists(world)) == {b"young.reply.celery.pidbox", b"other.list"}
        bound = {member.split(b"\x06\x16")[0] for member in client.smembers(BINDINGS)}
        assert bound == {b"young", b"waiting"}
        assert prune(world) == 0


def test_pruning_uses_prefix_and_separator(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITEGENCTL_GLOBAL_KEYPREFIX", "[crm]:")
    monkeypatch.setenv("SITEGENCTL_SEP", "::")
    with world.redis() as client:
        leave_replies(client, "dead", prefix="[crm]:", sep="::", idle=3600)
        leave_replies(client, "another", prefix="c:", idle=3600)  # which a pattern would match
        assert prune(world) == 1
        assert set(client.scan_iter()) == {b"c:another.reply.celery.pidbox", b"c:" + BINDINGS.encode()}


def test_nothing_is_abandoned_without_idle_times(world: World) -> None:
    with world.redis() as client:
        leave_replies(client, "dead", idle=3600)
        client.config_set("maxmemory-policy", "allkeys-lfu")
        try:
            assert prune(world) == 0
        finally:
            client.config_set("maxmemory-policy", "noeviction")


def test_pruning_an_unreachable_redis_fails(world: World) -> None:
    world.redis_url = "redis://127.0.0.1:1/0"
    with pytest.raises(SourceError, match="can't be reached"):
        prune(world)


def test_pruning_does_not_disturb_a_request(world: World) -> None:
    """Kombu binds for every request: what an earlier one left does not matter to the next."""
    world.worker("-c", "1")

    async def ask_and_prune() -> int:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(asyncio.to_thread(world.worker_names)) for _ in range(5)]
            for _ in range(5):
                group.create_task(asyncio.to_thread(prune, world))
        return sum(len(names.result()) for names in asked)

    assert asyncio.run(ask_and_prune()) == 5
