"""Sources that refuse, hang or are full: a clear line, the right exit code, and every half-done change reported."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sitegenctl.domain.plans.plan import OperationResult
from sitegenctl.errors import SourceError
from sitegenctl.operations import execute as applying
from sitegenctl.operations.cancel_planner import CancelPlanner
from sitegenctl.operations.enqueue_planner import EnqueuePlanner
from sitegenctl.operations.planner import Planner, Selection
from sitegenctl.operations.reset_planner import ResetPlanner
from sitegenctl.session import Session
from tests.support import processes
from tests.support.commands import Run
from tests.support.faults import faulty_orders, refusing_redis
from tests.support.world import World

COMMANDS = ["enqueue 3", "reset 1", "reset-empty", "retry-failed", "start-stuck", "cancel 9", "repair", "maintain"]


def state(world: World) -> tuple[Any, ...]:
    """All that a command could change."""
    return (
        [tuple(row) for row in world.sql("SELECT id, status::text FROM site_orders ORDER BY id")],
        world.sql("SELECT count(*) FROM site_generation_logs")[0][0],
        world.queued_ids(),
        sorted(str(path) for path in world.sites_dir.rglob("*") if path.is_file()),
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_read_only_database(world: World, run: Run, command: str) -> None:
    faulty_orders(world)
    name = world.database_url.rpartition("/")[2]
    before = state(world)
    world.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    code, report = run(*command.split())
    assert code == 3
    assert "the database refuses writes: it is read-only" in str(report)
    assert state(world) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_full_redis(world: World, run: Run, command: str) -> None:
    faulty_orders(world)
    before = state(world)
    with refusing_redis(world):
        code, report = run(*command.split())
    assert code in (1, 3)
    assert "Redis" in str(report)
    after = state(world)
    assert (after[0], after[2], after[3]) == (before[0], before[2], before[3])  # the journal has the attempt


@pytest.mark.parametrize("command", COMMANDS)
def test_hanging_redis(world: World, run: Run, command: str) -> None:
    faulty_orders(world)
    before = state(world)
    with world.redis() as client:
        pid = client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        code, report = run(*command.split(), "--timeout", "500ms")
        took = time.monotonic() - began
    finally:
        os.kill(pid, signal.SIGCONT)
    assert code == 3
    assert "did not respond in time" in str(report)
    assert took < 20
    assert state(world) == before


def test_full_disk_fails_the_move_to_the_trash(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    world.order(42, "REVIEW", steps=["START", "SUCCESS"], files=8)
    mkdir = Path.mkdir

    def full(path: Path, *arguments: Any, **options: Any) -> None:
        if path.name == ".trash":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", full)
    code, report = run("reset", "42")
    assert (code, "No space left on device" in report["outcomes"][42]["reason"]) == (1, True)
    assert (world.status(), len(world.site_files()), world.queued()) == ("REVIEW", 8, [])


def test_unwritable_output_is_reported(world: World) -> None:
    world.order(42)
    with open("/dev/full", "w") as full:
        command = ("-m", "sitegenctl", "enqueue", "42")
        process = processes.start(*command, stdout=full, stderr=subprocess.PIPE, text=True)
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (1, "error: the output can't be written: No space left on device\n")
    assert len(world.queued()) == 1


# --- Ctrl-C ---------------------------------------------------------------------------------------------------


_PLANNERS: dict[str, Planner] = {"enqueue": EnqueuePlanner(), "reset": ResetPlanner(), "cancel": CancelPlanner()}


@pytest.mark.parametrize(
    ("command", "status", "queued"),
    [("enqueue", "GENERATING", 6), ("reset", "GENERATING", 6), ("cancel", "BUILDING", 0)],
)
def test_ctrl_c_finishes_batches_in_flight(
    world: World, monkeypatch: pytest.MonkeyPatch, command: str, status: str, queued: int
) -> None:
    for order_id in range(1, 11):
        world.order(order_id)
    monkeypatch.setattr(applying, "BATCH_SIZE", 2)
    monkeypatch.setattr(applying, "MAX_IN_FLIGHT", 3)

    async def work(session: Session) -> OperationResult:
        plan = await _PLANNERS[command].plan_all(session, Selection(order_ids=range(1, 11)))
        apply = session.orders.apply
        task = asyncio.ensure_future(applying.execute_plan(session, plan))

        async def interrupted_on_the_second(steps: Sequence[Any], actor: Any) -> Any:
            if steps[0].order_id == 3:
                task.cancel()
                await asyncio.sleep(0)
            return await apply(steps, actor)

        session.orders.apply = interrupted_on_the_second  # type: ignore[method-assign]
        return await task

    result = world.with_session(work)
    assert (result.interrupted, result.exit_code) == (True, 130)
    assert [outcome.outcome for outcome in result.outcomes] == ["done"] * 6 + ["skipped"] * 4
    assert {outcome.reason for outcome in result.outcomes[6:]} == {"interrupted before its turn"}
    assert [bool(world.steps(n)) for n in range(1, 11)] == [True] * 6 + [False] * 4
    assert [world.status(n) for n in range(1, 11)] == [status] * 6 + ["BUILDING"] * 4
    assert len(world.queued()) == queued


# --- several batches in flight -----------------------------------------------------------------------------------


def test_failed_batch_does_not_let_later_ones_overtake(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for order_id in (1, 2, 3):
        world.order(order_id)
    monkeypatch.setattr(applying, "BATCH_SIZE", 1)
    monkeypatch.setattr(applying, "MAX_IN_FLIGHT", 3)
    published: list[int] = []

    async def work(session: Session) -> OperationResult:
        plan = await EnqueuePlanner().plan_all(session, Selection(order_ids=range(1, 4)))
        apply, publish = session.orders.apply, session.queue.publish
        last_is_applied = asyncio.Event()

        async def apply_slowly(steps: Sequence[Any], actor: Any) -> Any:
            if steps[0].order_id == 2:
                raise SourceError("the database can't be reached: gone", hint=None, source="database")
            applied = await apply(steps, actor)
            if steps[0].order_id == 3:
                last_is_applied.set()
            return applied

        async def publishing(publications: Sequence[Any]) -> Any:
            if publications[0].order_id == 1:
                await last_is_applied.wait()
                for _ in range(20):
                    await asyncio.sleep(0)
            published.append(publications[0].order_id)
            return await publish(publications)

        monkeypatch.setattr(session.orders, "apply", apply_slowly)
        monkeypatch.setattr(session.queue, "publish", publishing)
        return await applying.execute_plan(session, plan)

    result = world.with_session(work)
    assert [outcome.outcome for outcome in result.outcomes] == ["done", "failed", "done"]
    assert published == [1, 3]
