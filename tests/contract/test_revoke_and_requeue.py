"""Revoking tasks, and requeueing orphaned ones, without a worker: what the broker alone decides."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from sitegenctl.errors import SourceError
from tests.support.world import World, publication


def test_revoking_queued_tasks_keeps_the_others_in_order(system: World) -> None:
    ids = [system.publish(number) for number in range(1, 7)]
    assert system.revoke(*ids[::2]) == {}
    assert system.task_ids() == ids[1::2]


def test_scheduled_and_orphaned_tasks_are_revoked(system: World) -> None:
    lost, other = system.publish(1), system.publish(2)
    system.deliver_to_dead_worker()
    system.deliver_to_dead_worker()
    scheduled = system.publish(3, due=timedelta(hours=1))
    assert system.revoke(lost, scheduled, orphaned={lost}) == {}
    assert system.task_ids() == [other]


def test_task_found_nowhere_twice_counts_as_revoked(system: World) -> None:
    began = time.monotonic()
    assert system.revoke("finished") == {}
    assert time.monotonic() - began > 0.25  # and was looked for twice


def test_thousands_of_tasks_are_revoked(system: World) -> None:
    everything = 3000
    system.ask(
        lambda queue: queue.publish([publication(number, f"task-{number}") for number in range(1, everything + 1)]),
        timeout="30s",
    )
    tasks = system.read_queue().tasks
    assert [task.order_id for task in tasks] == list(range(1, everything + 1))
    # The next thousand, as a purge has them, and others from all over the queue.
    revoked = [task for number, task in enumerate(tasks) if number < 1000 or number % 10 == 0]
    assert system.ask(lambda queue: queue.revoke(revoked), timeout="30s") == {}
    assert system.task_ids() == [task.task_id for task in tasks if task not in revoked]


def test_orphaned_task_is_requeued_to_be_next(system: World) -> None:
    orphan = system.publish(1)
    others = [system.publish(2), system.publish(3)]
    system.deliver_to_dead_worker()
    assert system.requeue(orphan) == {}
    assert system.task_ids() == [orphan, *others]


def test_queued_and_missing_tasks_are_not_requeued(system: World) -> None:
    queued = system.publish(1)
    left = system.requeue(queued, "gone")
    assert left.keys() == {queued, "gone"}
    assert system.task_ids() == [queued]


@pytest.mark.parametrize("call", ["revoke", "requeue"])
def test_changing_an_unreachable_redis_fails(system: World, call: str) -> None:
    with pytest.raises(SourceError, match="can't be reached"):
        system.ask(lambda queue: getattr(queue, call)([system.task("T")]), redis_url="redis://127.0.0.1:1/0")


def test_requeueing_without_memory_loses_nothing(system: World) -> None:
    orphan = system.publish(1)
    system.deliver_to_dead_worker()
    with system.redis() as client:
        client.config_set("maxmemory", "1")
        try:
            left = system.requeue(orphan)
        finally:
            client.config_set("maxmemory", "0")
    assert "maxmemory" in left[orphan]
    assert system.requeue(orphan) == {}
    assert system.task_ids() == [orphan]
