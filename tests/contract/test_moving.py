"""Taking tasks away, and giving orphaned ones back, without a worker: what the broker alone decides."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from sitegenctl.errors import SourceError
from tests.support.systems import System, publication


def test_queued_tasks_are_taken_out_and_the_others_stay_as_they_were(system: System) -> None:
    ids = [system.publish(number) for number in range(1, 7)]
    assert system.withdraw(*ids[::2]) == {}
    assert system.ids() == ids[1::2]


def test_scheduled_ones_and_what_a_dead_worker_left_go_too(system: System) -> None:
    lost, other = system.publish(1), system.publish(2)
    system.lose()
    system.lose()
    scheduled = system.publish(3, due=timedelta(hours=1))
    assert system.withdraw(lost, scheduled, orphaned={lost}) == {}
    assert system.ids() == [other]


def test_a_task_that_is_nowhere_counts_as_gone(system: System) -> None:
    began = time.monotonic()
    assert system.withdraw("finished") == {}
    assert time.monotonic() - began > 0.25  # and was looked for twice


def test_thousands_of_tasks_leave_a_long_queue_at_once(system: System) -> None:
    everything = 3000
    system.ask(
        lambda queue: queue.publish([publication(number, f"task-{number}") for number in range(1, everything + 1)]),
        timeout="30s",
    )
    tasks = system.read().tasks
    assert [task.order_id for task in tasks] == list(range(1, everything + 1))
    assert system.ask(lambda queue: queue.revoke(tasks[:-1]), timeout="30s") == {}
    assert system.ids() == [f"task-{everything}"]


def test_an_orphaned_task_is_put_back_to_be_next(system: System) -> None:
    orphan = system.publish(1)
    others = [system.publish(2), system.publish(3)]
    system.lose()
    assert system.put_back(orphan) == {}
    assert system.ids() == [orphan, *others]


def test_what_is_not_there_to_be_put_back_is_not(system: System) -> None:
    queued = system.publish(1)
    left = system.put_back(queued, "gone")
    assert left.keys() == {queued, "gone"}
    assert system.ids() == [queued]


@pytest.mark.parametrize("call", ["revoke", "requeue"])
def test_a_redis_that_is_away_is_one_line(system: System, call: str) -> None:
    with pytest.raises(SourceError, match="can't be reached"):
        system.ask(lambda queue: getattr(queue, call)([system.live("T")]), redis_url="redis://127.0.0.1:1/0")


def test_redis_out_of_memory_is_a_reason_and_nothing_is_lost(system: System) -> None:
    orphan = system.publish(1)
    system.lose()
    with system.world.redis() as client:
        client.config_set("maxmemory", "1")
        try:
            left = system.put_back(orphan)
        finally:
            client.config_set("maxmemory", "0")
    assert "maxmemory" in left[orphan]
    assert system.put_back(orphan) == {}
    assert system.ids() == [orphan]
