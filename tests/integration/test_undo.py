"""Every command undone, on Celery and RQ: orders are as they were before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sitegenctl.domain.diagnosis.condition import DEFAULT_GRACE
from sitegenctl.domain.orders.order import Order
from sitegenctl.domain.ports import PublishFailure
from sitegenctl.domain.queue.task import Publication, TaskState
from sitegenctl.operations.failpoints import Failpoint
from sitegenctl.session import Session
from tests.support.commands import Run, kinds
from tests.support.faults import redis_refusing_from
from tests.support.terminal import on_terminal
from tests.support.world import World

EITHER = pytest.mark.parametrize("backend", ["celery", "rq"])


def state(world: World, order_id: int = 42) -> dict[str, Any]:
    """What an undo must bring back."""

    async def read(session: Session) -> Order:
        return (await session.orders.read_orders([order_id]))[order_id]

    order = world.with_session(read)
    tasks = world.read_queue().tasks
    return {
        "status": order.status,
        "tasks": [(task.state, task.resume, task.attempt, task.eta) for task in tasks if task.order_id == order_id],
        "is_settling": order.idle is not None and order.idle < DEFAULT_GRACE and not tasks,
        "files": {path: (world.site(order_id) / path).read_text() for path in world.site_files(order_id)},
        "attempts": order.history.attempts,
        "held": order.is_held,
    }


def _finished(world: World) -> None:
    world.order(42, "REVIEW", steps=["START", "SUCCESS"], files=8)


def _queued(world: World) -> None:
    world.order(42, "GENERATING", steps=["START", "ERROR"], files=2)
    world.publish(42)


def _held_back(world: World) -> None:
    """A task that waits for its third attempt."""
    world.order(42, "GENERATING", steps=["START", "ERROR"], files=2)
    eta = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    task = Publication(
        task_id="held-back", order_id=42, resume=False, actor="ana@crm", enqueued_at=eta, eta=eta, attempt=3
    )

    async def publish(session: Session) -> Mapping[str, PublishFailure]:
        return await session.queue.publish([task])

    assert world.with_session(publish) == {}


def _failed(world: World) -> None:
    world.order(42, "GENERATING", steps=["START", "ERROR"] * 2, files=6)


def _empty(world: World) -> None:
    world.order(1, "REVIEW", steps=["START", "SUCCESS"], files=8)
    world.order(42, "GENERATING", steps=["START"], files=2)


def _held(world: World) -> None:
    _queued(world)
    world.run("cancel", "42", "--yes")


def _reset(world: World) -> None:
    _finished(world)
    world.run("reset", "42", "--yes")


CASES: dict[str, Callable[[World], object]] = {
    "reset 42": _finished,
    "reset 42 --no-enqueue": _queued,
    "reset 42 --keep-files": _queued,
    "reset-empty": _empty,
    "enqueue 42": _held,
    "start-stuck": lambda world: world.order(42),
    "retry-failed --force": _failed,
    "cancel 42": _queued,
    "cancel 42 --to CANCELLED": _queued,
    "cancel 42 --to ONBOARDING_PENDING": _reset,
    "queue purge": _queued,
    "maintain": lambda world: world.order(42),
}


@EITHER
@pytest.mark.parametrize("command", ["cancel 42", "queue purge", "reset 42 --no-enqueue"])
def test_task_that_waited_for_another_attempt_waits_for_it_again(world: World, run: Run, command: str) -> None:
    _held_back(world)
    before = state(world)
    assert [(task[0], *task[2:]) for task in before["tasks"]] == [(TaskState.RETRYING, 3, before["tasks"][0][3])]
    operation = run(*command.split())[1]["data"]["operation"]
    code, report = run("undo", operation, "--dry-run")
    assert (code, "not to start before" in str(report), "attempt 3" in str(report)) == (0, True, True)
    assert run("undo", operation)[0] == 0
    assert state(world) == before


def test_change_after_an_undo_counts_as_one(world: World, run: Run) -> None:
    _failed(world)
    operation = run("retry-failed", "--force")[1]["data"]["operation"]
    assert run("undo", operation)[0] == 0
    assert not state(world)["is_settling"]
    world.sql("UPDATE site_orders SET updated_at = timezone('utc', clock_timestamp()) + interval '2 seconds'")
    assert state(world)["is_settling"]


@EITHER
@pytest.mark.parametrize("command", CASES)
def test_undo_leaves_an_order_as_it_was(world: World, run: Run, command: str) -> None:
    CASES[command](world)
    before = state(world)
    code, report = run(*command.split())
    assert (code, state(world) != before) == (0, True), report
    code, report = run("undo", report["data"]["operation"])
    assert (code, kinds(report)) == (0, {42: "done"}), report
    assert state(world) == before
    details = json.loads(world.log(42)[-1]["details"])
    assert (world.steps(42)[-1], details["command"], bool(details["operation"])) == ("OPERATOR_UNDO", "undo", True)


def test_undo_alone_takes_the_latest_and_lists_candidates(world: World, run: Run) -> None:
    for order_id in (1, 2):
        world.order(order_id)
    first, second = (run("enqueue", str(order_id))[1]["data"]["operation"] for order_id in (1, 2))
    code, report = run("undo")
    candidates = [(each["operation"], each["undoable"]) for each in report["data"]["candidates"]]
    assert (code, candidates) == (4, [(second, 1), (first, 1)])
    assert report["errors"][0]["hint"] == f"name the operation, for example: sitegenctl undo {second}"
    world.sql("UPDATE site_orders SET status = 'DELIVERED'")
    code, report = run("undo")
    assert [each["undoable"] for each in report["data"]["candidates"]] == [0, 0]
    assert report["errors"][0]["message"] == "none of these operations can be undone any more"
    world.sql("UPDATE site_orders SET status = 'GENERATING'")
    assert run("undo", second)[0] == 0
    code, report = run("undo")
    assert (code, kinds(report), world.queued_ids()) == (0, {1: "done"}, [])
    shown = json.loads(world.run("history", second, "-o", "json").stdout)["data"]
    undo = world.run("history", "--last", "0").stdout
    assert shown["undone_by"] == shown["entries"][0]["undone_by"]
    assert f"undoes {second}" in undo
    assert f"undone by {shown['undone_by']}" in undo
    assert f"undone by {shown['undone_by']}" in world.run("history", second).stdout
    code, report = run("undo")
    assert (code, "has no operation to undo" in report["errors"][0]["message"]) == (4, True)
    assert [run("undo", each)[0] for each in (second, "0000000-000", "42")] == [0, 4, 2]


@EITHER
def test_orders_that_ran_since_are_refused_and_the_others_undone(world: World, run: Run) -> None:
    for order_id in (1, 2, 3):
        world.order(order_id, "REVIEW", steps=["START", "SUCCESS"], files=8)
    _, report = run("reset", "1-3")
    world.sql("INSERT INTO site_generation_logs (order_id, step, message) VALUES (2, 'START', 'START')")
    world.sql("UPDATE site_orders SET status = 'DELIVERED' WHERE id = 3")
    code, undone = run("undo", report["data"]["operation"], "--dry-run")
    assert (code, world.status(1), len(world.site_files(1))) == (4, "GENERATING", 0)
    code, undone = run("undo", report["data"]["operation"])
    assert (code, kinds(undone)) == (4, {1: "done", 2: "refused", 3: "refused"})
    assert (world.status(1), len(world.site_files(1)), world.status(2)) == ("REVIEW", 8, "GENERATING")
    assert "its generation began" in undone["outcomes"][2]["reason"]
    assert undone["outcomes"][3]["reason"].endswith("GENERATING became DELIVERED")


def test_undo_of_a_pruned_reset_is_refused(world: World, run: Run) -> None:
    _finished(world)
    _, report = run("reset", "42", "--no-enqueue")
    for folder in (world.sites_dir / ".trash").iterdir():
        shutil.rmtree(folder)
    code, undone = run("undo", report["data"]["operation"], SITEGENCTL_GRACE="0s")
    assert (code, undone["outcomes"][42]["reason"]) == (4, "its files are no longer in the trash")


def test_undone_reset_of_a_finished_order_is_not_called_generated(world: World) -> None:
    world.order(42, "REVIEW", steps=["START", "SUCCESS"], files=8)
    assert world.run("reset", "42", "--yes").returncode == 0
    lines = world.run("undo", "--yes").stdout.splitlines()
    assert lines[0].startswith("42  undone  GENERATING → REVIEW")


def test_undo_asks_first(world: World, run: Run) -> None:
    world.order(42)
    operation = run("enqueue", "42")[1]["data"]["operation"]
    process = on_terminal("undo", operation, answers=[("1 order would be undone. Continue? [y/N] ", "n")])
    assert (process.returncode, world.status()) == (0, "GENERATING")
    process = on_terminal("undo", operation, answers=[("1 order would be undone. Continue? [y/N] ", "y")])
    assert (process.returncode, world.status(), world.queued_ids()) == (0, "BUILDING", [])


@EITHER
@pytest.mark.parametrize(
    ("command", "at"),
    [("cancel 42", Failpoint.APPLIED), ("queue purge", Failpoint.APPLIED), ("reset 42 --no-enqueue", Failpoint.UNDONE)],
)
def test_undo_that_cannot_publish_is_rolled_back(
    world: World, run: Run, command: str, at: Failpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    _queued(world)
    before = state(world)
    operation = run(*command.split())[1]["data"]["operation"]
    after = {**state(world), "files": {}}
    with redis_refusing_from(world, at, monkeypatch):
        code, report = run("undo", operation)
    assert (code, kinds(report), report["outcomes"][42]["after"]) == (1, {42: "failed"}, after["status"])
    assert {**state(world), "files": {}} == after
    assert world.steps(42)[-1] == "OPERATOR_UNDO_FAILED"
    assert run("undo", operation, SITEGENCTL_GRACE="0s")[0] == 0
    assert state(world) == before


@EITHER
@pytest.mark.parametrize("commands", [("reset 42", "cancel 42"), ("cancel 42", "enqueue 42", "reset 42", "cancel 42")])
def test_operations_are_undone_one_after_the_other(world: World, run: Run, commands: tuple[str, ...]) -> None:
    _queued(world)
    states, operations = [], []
    for command in commands:
        states.append(state(world))
        operations.append(run(*command.split(), "--force" if "reset" in command else "-v")[1]["data"]["operation"])
    assert run("undo", operations[0])[0] == 4
    for operation in reversed(operations):
        code, report = run("undo", operation)
        assert (code, state(world)) == (0, states.pop()), report
