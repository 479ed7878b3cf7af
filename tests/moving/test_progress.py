"""The bar on stderr: with rate and remaining time, on a terminal alone, and only when it takes a while."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest

from tests import processes
from tests.world import World

_SCRIPT = """
import sys
from sitegenctl.cli import moving
from sitegenctl.operations import apply
apply.CHUNK = 1
moving._UNNOTICED = {unnoticed}
from sitegenctl.cli.main import run
sys.exit(run(["enqueue", "1-6"]))
"""


def shown(world: World, unnoticed: float) -> str:
    for order_id in range(1, 7):
        world.order(order_id)
    terminal, ours = pty.openpty()
    process = processes.start(
        *("-c", _SCRIPT.format(unnoticed=unnoticed)),
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
def test_a_bar_is_shown_when_it_takes_a_while(world: World, unnoticed: float, is_shown: bool) -> None:
    told = shown(world, unnoticed)
    assert ("/6" in told and "/s" in told and "0:00:0" in told) == is_shown
    assert bool(told) == is_shown


def test_through_a_pipe_there_is_none(world: World) -> None:
    world.order(1)
    assert world.run("enqueue", "1").stderr == ""
