"""A real process killed with SIGKILL at every step of every command; then `maintain` once: all orders whole."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from sitegenctl.config.settings import parse_duration
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.operations.failpoints import Failpoint
from sitegenctl.operations.observe import observe_open
from sitegenctl.session import Session
from tests.support import processes
from tests.support.commands import Run
from tests.support.faults import faulty_orders
from tests.support.rq_world import RqWorld
from tests.support.world import World, eventually, with_grace

# Runs a command that is killed when it reaches a checkpoint, or that writes down all it passes.
_SCRIPT = """
import os, signal, sys
from sitegenctl.operations import failpoints
def reached(checkpoint):
    print(checkpoint.value, file=sys.stderr)
    if checkpoint.value == {kill_at!r}:
        os.kill(os.getpid(), signal.SIGKILL)
failpoints.reached = reached
from sitegenctl.cli.app import run
sys.exit(run({arguments!r}))
"""

LOOKED, CLAIMED = Failpoint.RECHECKED, Failpoint.APPLIED
REVOKED, TRASHED, UNTRASHED = Failpoint.REVOKED, Failpoint.TRASHED, Failpoint.UNTRASHED
PUBLISHED, REQUEUED = Failpoint.PUBLISHED, Failpoint.REQUEUED
UNDONE = Failpoint.UNDONE
ROLLED_BACK, LOCKED, STEPPED = Failpoint.ROLLED_BACK, Failpoint.LOCKED, Failpoint.STEP_DONE


@dataclass(frozen=True)
class Scenario:
    name: str
    arguments: tuple[str, ...]
    prepare: Callable[[World], object]
    passes: frozenset[Failpoint]


def _finished(world: World) -> None:
    world.order(42, "REVIEW", steps=["START", "SUCCESS"], files=8)


def _queued(world: World, status: str = "GENERATING") -> None:
    world.order(42, status, files=2)
    world.publish(42)


def _duplicated(world: World) -> None:
    _queued(world)
    world.publish(42)


def _ghost(world: World) -> None:
    _finished(world)
    world.publish(42)


def _orphaned(world: World) -> None:
    _queued(world)
    # Longer ago than a run lasts.
    world.deliver(**({"late": 1200.0} if isinstance(world, RqWorld) else {}))


def _empty(world: World) -> None:
    world.order(1, "REVIEW", steps=["START", "SUCCESS"], files=8)
    world.order(42, "GENERATING", steps=["START"], files=2)


def _link(world: World) -> None:
    """A site that can't be moved: the applied transition must be rolled back."""
    _finished(world)
    (world.sites_dir / ".trash").write_text("in the way")


def _trashed(world: World, files: int = 8) -> str:
    """A site in the trash; returns its name there."""
    trash, name = world.sites_dir / ".trash", "project_42.1790000000000000000"
    trash.mkdir()
    world.files(42, files)
    world.site().rename(trash / name)
    return name


def _cancelled(world: World, files: int | None = None) -> None:
    _trashed(world)
    world.order(42, "CANCELLED", files=files)


def after(prepare: Callable[[World], object], command: str) -> Callable[[World], object]:
    """Prepare the orders, and run a command to be undone."""

    def run(world: World) -> None:
        prepare(world)
        process = world.run(*command.split(), "--yes")
        assert process.returncode == 0, process.stderr

    return run


def _reset_and_in_the_way(world: World) -> None:
    """A site that can't come back: the undo must be rolled back."""
    after(_finished, "reset 42")(world)
    (world.site() / "folder").mkdir(parents=True)


def scenario(name: str, command: str, prepare: Callable[[World], object], *passes: Failpoint) -> Scenario:
    return Scenario(name, tuple(command.split()), prepare, frozenset(passes))


_BEGUN = (LOOKED, CLAIMED)
SCENARIOS = [
    scenario("enqueue", "enqueue 42", lambda w: w.order(42), *_BEGUN, PUBLISHED),
    scenario("reset finished", "reset 42", _finished, *_BEGUN, TRASHED, PUBLISHED),
    scenario("reset queued", "reset 42", _queued, *_BEGUN, REVOKED, TRASHED, PUBLISHED),
    scenario("reset only", "reset 42 --no-enqueue", _queued, *_BEGUN, REVOKED, TRASHED),
    scenario("reset fails", "reset 42", _link, *_BEGUN, TRASHED, ROLLED_BACK),
    scenario("reset-empty", "reset-empty", _empty, *_BEGUN, TRASHED, PUBLISHED),
    scenario(
        "retry-failed",
        "retry-failed",
        lambda w: w.order(42, "GENERATING", steps=["START", "ERROR"]),
        *_BEGUN,
        PUBLISHED,
    ),
    scenario("start-stuck", "start-stuck", lambda w: w.order(42), *_BEGUN, PUBLISHED),
    scenario("cancel", "cancel 42", _queued, *_BEGUN, REVOKED),
    scenario("cancel without a task", "cancel 42", lambda w: w.order(42, "GENERATING"), *_BEGUN),
    scenario("duplicated", "repair", _duplicated, *_BEGUN, REVOKED),
    scenario("ghost", "repair", _ghost, *_BEGUN, REVOKED),
    scenario("orphaned", "repair", _orphaned, *_BEGUN, REQUEUED),
    scenario("interrupted", "repair", lambda w: w.order(42, "GENERATING"), *_BEGUN, PUBLISHED),
    scenario("purge", "queue purge", _queued, *_BEGUN, REVOKED),
    scenario("restore", "trash restore 42", _cancelled, *_BEGUN, UNTRASHED),
    scenario("replace", "trash restore 42 --force", lambda w: _cancelled(w, 3), *_BEGUN, TRASHED, UNTRASHED),
    scenario("undo reset", "undo", after(_finished, "reset 42"), *_BEGUN, REVOKED, UNTRASHED, UNDONE),
    scenario("undo reset only", "undo", after(_finished, "reset 42 --no-enqueue"), *_BEGUN, UNTRASHED, UNDONE),
    scenario(
        *("undo reset queued", "undo", after(_queued, "reset 42")),
        *(*_BEGUN, REVOKED, UNTRASHED, UNDONE, PUBLISHED),
    ),
    scenario("undo enqueue", "undo", after(lambda w: w.order(42), "enqueue 42"), *_BEGUN, REVOKED, UNDONE),
    scenario("undo cancel", "undo", after(_queued, "cancel 42"), *_BEGUN, PUBLISHED),
    scenario("undo purge", "undo", after(_queued, "queue purge"), *_BEGUN, PUBLISHED),
    scenario("undo fails", "undo", _reset_and_in_the_way, *_BEGUN, REVOKED, UNTRASHED, ROLLED_BACK),
    scenario("maintain", "maintain", faulty_orders, *_BEGUN, REVOKED, TRASHED, PUBLISHED, LOCKED, STEPPED),
]


_ON_RQ = ("reset queued", "duplicated", "orphaned", "undo reset queued", "maintain")


def run_script(world: World, arguments: tuple[str, ...], kill_at: str = "") -> subprocess.CompletedProcess[str]:
    script = _SCRIPT.format(kill_at=kill_at, arguments=[*arguments, "--yes", "-o", "json"])
    return processes.run("-c", script)


def alone(run: Run, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run a command that takes the maintenance lock, which PostgreSQL keeps until it notices the dead client."""

    def taken() -> tuple[int, dict[str, Any]] | None:
        code, report = run(*arguments)
        return None if code == 6 else (code, report)

    return eventually(taken)


def conditions(world: World) -> dict[int, Condition]:
    async def read(session: Session) -> dict[int, Condition]:
        seen = await observe_open(with_grace(session, parse_duration("0s")))
        return {order_id: seen.diagnose(order_id).condition for order_id in seen.known_ids()}

    return world.with_session(read)


def assert_whole(world: World) -> None:
    """Every order is where it should be, or needs a person; none has two tasks; no finished site is gone."""
    for order_id, condition in conditions(world).items():
        used_up = world.steps(order_id).count("ERROR") >= 3
        fixable = condition.command is not None and condition is not Condition.HELD
        assert not fixable or used_up, (order_id, condition, world.steps(order_id))
    tasks = world.with_session(lambda session: session.queue.read()).tasks
    orders = Counter(task.order_id for task in tasks)
    assert set(orders.values()) <= {1}, orders
    for row in world.sql("SELECT id FROM site_orders WHERE status IN ('REVIEW', 'DELIVERED')"):
        assert len(world.site_files(row["id"])) == 8


def _cases() -> list[tuple[str, Scenario, Failpoint]]:
    """Every command at each of its steps; on RQ each step of one command, or with ``RQ_CRASHES`` as on Celery.

    What is done at a step, and what it leaves when nothing is done after it, is nowhere decided by the backend.
    """
    celery = [("celery", each, checkpoint) for each in SCENARIOS for checkpoint in sorted(each.passes)]
    rq = [("rq", each, checkpoint) for _, each, checkpoint in celery if each.name != "move"]
    # Those of a command that has something to do with tasks rather than others.
    telling = sorted(rq, key=lambda case: case[1].name not in _ON_RQ)
    first = {checkpoint: (backend, each, checkpoint) for backend, each, checkpoint in reversed(telling)}
    return [*celery, *(rq if os.environ.get("RQ_CRASHES") else first.values())]


@pytest.mark.parametrize(("backend", "scenario", "at"), _cases(), ids=lambda value: getattr(value, "name", str(value)))
def test_one_maintenance_run_fixes_orders_of_a_killed_command(
    world: World, run: Run, scenario: Scenario, at: Failpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITEGENCTL_GRACE", "0s")
    scenario.prepare(world)
    killed = run_script(world, scenario.arguments, at.value)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (world.sites_dir / ".trash").unlink() if (world.sites_dir / ".trash").is_file() else None
    code, report = alone(run, "maintain")
    assert not any(step["left_out"] for step in report["data"]["steps"]), report
    assert code == (4 if any(left["operator"] for left in report["data"]["attention"]) else 0), report
    assert_whole(world)
    code, report = run("maintain")
    assert (code, report["data"]["quiet"]) == (0, True), report


def test_reset_killed_early_does_not_resume_the_old_files(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITEGENCTL_GRACE", "0s")
    _finished(world)
    assert run_script(world, ("reset", "42", "--no-enqueue"), CLAIMED.value).returncode == -signal.SIGKILL
    assert (world.status(), len(world.site_files())) == ("BUILDING", 8)
    run("maintain")
    (message,) = world.queued()
    assert message["headers"]["kwargsrepr"] == "{'resume': False}"


@pytest.mark.parametrize("in_place", [0, 6])
@pytest.mark.parametrize("at", [LOOKED, CLAIMED, TRASHED, UNTRASHED])
def test_killed_restore_loses_no_file_and_can_be_repeated(
    world: World, run: Run, at: Failpoint, in_place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if at is TRASHED and not in_place:
        pytest.skip("nothing goes to the trash")
    monkeypatch.setenv("SITEGENCTL_GRACE", "0s")
    name = _trashed(world)
    world.order(42, "REVIEW", steps=["START", "SUCCESS"], files=in_place or None)
    world.order(1, "REVIEW", steps=["START", "SUCCESS"], files=8)  # it is the right directory
    killed = run_script(world, ("trash", "restore", "42", "--force"), at.value)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    sites = [*(world.sites_dir / ".trash").iterdir(), *world.sites_dir.glob("project_42")]
    assert sorted(len(list(site.iterdir())) for site in sites) == ([in_place, 8] if in_place else [8])
    assert world.status() == "REVIEW"
    is_restored = at is UNTRASHED
    condition = "done" if is_restored or (in_place and at is not TRASHED) else "hollow"
    assert run("inspect", "42")[1]["data"]["condition"] == condition
    if not is_restored:
        assert run("trash", "restore", "42", "--entry", name, "--force")[0] == 0
    assert (world.status(), len(world.site_files())) == ("REVIEW", 8)
    assert run("inspect", "42")[1]["data"]["condition"] == "done"


@pytest.mark.parametrize("at", [LOOKED, CLAIMED, REVOKED, UNTRASHED, UNDONE])
def test_an_undo_that_was_killed_is_completed_by_another_one(
    world: World, run: Run, at: Failpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITEGENCTL_GRACE", "0s")
    _finished(world)
    _, report = run("reset", "42")
    undo = ("undo", report["data"]["operation"])
    assert run_script(world, undo, at.value).returncode == -signal.SIGKILL
    # Until its site is back, the order is not REVIEW.
    assert (world.status() == "REVIEW") <= (len(world.site_files()) == 8)
    code, _ = run(*undo)
    assert (code, world.status(), len(world.site_files()), world.queued()) == (0, "REVIEW", 8, [])


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
def test_each_command_passes_its_failpoints_and_no_other(
    world: World, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITEGENCTL_GRACE", "0s")
    scenario.prepare(world)
    report = run_script(world, scenario.arguments).stderr.splitlines()
    assert {line for line in report if line in {each.value for each in Failpoint}} == {
        each.value for each in scenario.passes
    }


def test_every_failpoint_is_tested() -> None:
    assert frozenset().union(*(each.passes for each in SCENARIOS)) == frozenset(Failpoint)
