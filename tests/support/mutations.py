"""What the tests of moving orders share."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from sitegenctl.cli import app as main
from tests.support.world import World

Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line with ``--yes -o json`` in this process; returns its exit code and what it told.

    ``outcomes`` are those of each order, by number.
    """

    def running(*arguments: str, **environ: str) -> tuple[int, dict[str, Any]]:
        stdout, stderr = io.StringIO(), io.StringIO()
        with monkeypatch.context() as patched:
            for name, value in environ.items():
                patched.setenv(name, value)
            with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
                code = main.run([*arguments, "--yes", "-o", "json"])
        envelope = json.loads(stdout.getvalue())
        assert envelope["exit_code"] == code
        assert "unexpected" not in stderr.getvalue()
        data = envelope["data"] or {}
        outcomes = {row["order_id"]: row for row in data.get("outcomes", ())}
        return code, {"outcomes": outcomes, "data": data, "errors": envelope["errors"]}

    return running


def troubles(world: World) -> None:
    """One order of each kind that maintenance mends, and a finished one."""
    world.order(1, "REVIEW", steps=["START", "SUCCESS"], files=8)
    world.order(2, "GENERATING")  # interrupted
    world.order(3)  # unstarted
    world.order(4, "GENERATING", steps=["START", "ERROR"], files=6)  # failed
    world.order(5, "GENERATING", steps=["START", "PHASE_1_START"])  # empty
    world.order(6, "GENERATING", steps=["START", "ERROR"] * 3)  # failed, attempts used up
    world.order(7, "GENERATING", onboarding="missing")  # blocked
    world.order(8, steps=["OPERATOR_CANCEL"])  # held
    world.order(9, "GENERATING")  # duplicated
    world.publish(9)
    world.publish(9)


def kinds(told: dict) -> dict[int, str]:
    return {order_id: outcome["outcome"] for order_id, outcome in told["outcomes"].items()}
