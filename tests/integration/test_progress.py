"""The progress bar on stderr: only on a terminal and after a delay, with rate and remaining time."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess

import pytest

from sitegenctl.operations.enqueue_planner import EnqueuePlanner
from sitegenctl.operations.execute import execute_plan
from sitegenctl.operations.planner import Selection
from sitegenctl.session import Session
from tests.support import processes
from tests.support.world import World

_SCRIPT = """
import sys
from sitegenctl.cli import execute as cli_execute
from sitegenctl.operations import execute
execute.BATCH_SIZE = {batch}
cli_execute.SPINNER_DELAY = {delay}
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


def shown(world: World, delay: float, *, batch: int = 1, slow: str = "") -> str:
    for order_id in range(1, 7):
        world.order(order_id)
    terminal, ours = pty.openpty()
    process = processes.start(
        *("-c", _SCRIPT.format(delay=delay, batch=batch, slow=slow)),
        stdin=ours,
        stderr=ours,
        stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(ours)
    output = b""
    while True:
        try:
            read = os.read(terminal, 4096)
        except OSError:  # EIO: the process closed the terminal
            break
        if not read:
            break
        output += read
    os.close(terminal)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.read().decode().startswith("6 enqueued\n")
    assert process.wait() == 0
    return output.decode()


@pytest.mark.parametrize(("delay", "is_shown"), [(0.0, True), (3600.0, False)])
def test_progress_bar_appears_after_a_delay(world: World, delay: float, is_shown: bool) -> None:
    output = shown(world, delay)
    assert ("/6" in output and "/s" in output and "0:00:0" in output) == is_shown
    assert bool(output) == is_shown


@pytest.mark.parametrize(("method", "output"), [("read_orders", "planning…"), ("apply", "0/6")])
def test_slow_phases_are_shown_before_any_progress(world: World, method: str, output: str) -> None:
    assert output in shown(world, 0.3, batch=500, slow=_SLOW.format(method=method))


def test_skipped_orders_count_as_progress_at_once(world: World) -> None:
    for order_id in (1, 2, 3):
        world.order(order_id)
    counts: list[int] = []

    async def work(session: Session) -> None:
        plan = await EnqueuePlanner().plan_all(session, Selection(order_ids=[1, 2, 3]))
        await asyncio.to_thread(world.sql, "UPDATE site_orders SET status = 'CANCELLED' WHERE id = 2")
        await execute_plan(session, plan, progress=counts.append)

    world.with_session(work)
    assert counts == [1, 3]


def test_no_progress_through_a_pipe(world: World) -> None:
    world.order(1)
    assert world.run("enqueue", "1").stderr == ""
