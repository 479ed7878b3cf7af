"""The bar on stderr: with rate and remaining time, on a terminal alone, and only when it takes a while."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess

import pytest

from sitegenctl.operations.bulk_plan import Selection
from sitegenctl.operations.enqueue import EnqueuePlanner
from sitegenctl.operations.execute import execute_plan
from sitegenctl.session import Session
from tests.support import processes
from tests.support.world import World

_SCRIPT = """
import sys
from sitegenctl.cli import execute as cli_execute
from sitegenctl.operations import execute
execute.BATCH_SIZE = {chunk}
cli_execute.SPINNER_DELAY = {unnoticed}
{slow}
from sitegenctl.cli.app import run
sys.exit(run(["enqueue", "1-6"]))
"""

_SLOW = """
import asyncio
from sitegenctl.adapters.postgres.orders import PostgresOrders
quick = PostgresOrders.{method}
async def slow(self, *arguments):
    await asyncio.sleep(1)
    return await quick(self, *arguments)
PostgresOrders.{method} = slow
"""


def shown(world: World, unnoticed: float, *, chunk: int = 1, slow: str = "") -> str:
    for order_id in range(1, 7):
        world.order(order_id)
    terminal, ours = pty.openpty()
    process = processes.start(
        *("-c", _SCRIPT.format(unnoticed=unnoticed, chunk=chunk, slow=slow)),
        stdin=ours,
        stderr=ours,
        stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(ours)
    told = b""
    while True:
        try:
            read = os.read(terminal, 4096)
        except OSError:  # nobody has it open any more
            break
        if not read:
            break
        told += read
    os.close(terminal)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.read().decode().startswith("6 enqueued\n")
    assert process.wait() == 0
    return told.decode()


@pytest.mark.parametrize(("unnoticed", "is_shown"), [(0.0, True), (3600.0, False)])
def test_progress_bar_appears_after_a_delay(world: World, unnoticed: float, is_shown: bool) -> None:
    told = shown(world, unnoticed)
    assert ("/6" in told and "/s" in told and "0:00:0" in told) == is_shown
    assert bool(told) == is_shown


@pytest.mark.parametrize(("method", "told"), [("read_orders", "planning…"), ("apply", "0/6")])
def test_slow_phases_are_shown_before_any_progress(world: World, method: str, told: str) -> None:
    assert told in shown(world, 0.3, chunk=500, slow=_SLOW.format(method=method))


def test_skipped_orders_count_as_progress_at_once(world: World) -> None:
    for order_id in (1, 2, 3):
        world.order(order_id)
    told: list[int] = []

    async def work(session: Session) -> None:
        plan = await EnqueuePlanner().plan_all(session, Selection(order_ids=[1, 2, 3]))
        await asyncio.to_thread(world.sql, "UPDATE site_orders SET status = 'CANCELLED' WHERE id = 2")
        await execute_plan(session, plan, progress=told.append)

    world.with_session(work)
    assert told == [1, 3]


def test_no_progress_through_a_pipe(world: World) -> None:
    world.order(1)
    assert world.run("enqueue", "1").stderr == ""
