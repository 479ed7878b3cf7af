"""Orders locked by another session fail with its name, and delay no other order."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from tests.support.faults import LOCK, held
from tests.support.world import World, eventually


def test_locked_order_fails_alone_and_names_the_lock_holder(world: World) -> None:
    world.order(41)
    world.order(42)
    with held(world, LOCK, application_name="nightly-import") as pid:
        alone = world.run("enqueue", "42", "--timeout", "1s")
        both = world.run("enqueue", "41", "42", "--timeout", "1s", "-o", "json")
    assert alone.returncode == 1
    assert "can't be reached" not in alone.stdout
    assert f"it is locked by another transaction: pid {pid} (nightly-import, as " in alone.stdout
    assert both.returncode == 1
    outcomes = {outcome["order_id"]: outcome for outcome in json.loads(both.stdout)["data"]["outcomes"]}
    assert (outcomes[41]["outcome"], outcomes[42]["outcome"]) == ("done", "failed")
    assert f"pid {pid}" in outcomes[42]["reason"]
    assert (world.status(41), world.status(42), world.steps(42)) == ("GENERATING", "BUILDING", [])
    assert world.run("enqueue", "42").returncode == 0
    assert len(world.queued()) == 2


def test_lock_released_in_time_is_no_failure(world: World) -> None:
    world.order(42)
    with ThreadPoolExecutor(1) as pool, held(world, LOCK) as pid:
        enqueued = pool.submit(world.run_process, "enqueue", "42")
        eventually(lambda: world.sql("SELECT 1 FROM pg_locks WHERE NOT granted"))
        world.sql("SELECT pg_terminate_backend($1)", pid)
        process = enqueued.result()
    assert process.returncode == 0, process.stdout
    assert len(world.queued()) == 1
