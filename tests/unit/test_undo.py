"""The plan of an undo: what comes back, and which orders are left alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from sitegenctl.domain.orders.operation import JournalRow, Operation, RevokedTask, operations_of
from sitegenctl.domain.orders.order import JournalEntry, LogRow, OrderStatus
from sitegenctl.domain.orders.run_reader import read_history
from sitegenctl.domain.plans.plan import Action, Outcome, OutcomeKind, Step
from sitegenctl.domain.plans.undo import UndoFacts, latest, plan_undo
from sitegenctl.domain.queue.task import LiveTask, TaskState
from sitegenctl.render.command import hint_text
from tests.support.values import T0, order, snapshot, task

GENERATING, BUILDING, REVIEW = OrderStatus.GENERATING, OrderStatus.BUILDING, OrderStatus.REVIEW
WAITED = RevokedTask(task_id="old", waited=True)
PLACED = ["START", "SUCCESS"]


def ids() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"new-{next(numbers)}"


def log(*steps: str) -> list[LogRow]:
    details = {"command": "test", "actor": "ben", "host": "crm", "task_id": None}
    return [
        LogRow(log_id=number, order_id=42, step=step, message="", status="info", created_at=None, details=details)
        for number, step in enumerate(steps, 1)
    ]


def decide(
    status: OrderStatus | None,
    steps: Sequence[str],
    operation: int,
    *tasks: LiveTask,
    count: int | None = 0,
    trashed: str | None = None,
    fields: dict[str, Any] | None = None,
    **row: Any,
) -> Step | Outcome:
    """Plan to undo the operation whose row is the n-th of these steps."""
    known = order(42, status, last_log_id=len(steps), history=read_history(steps), **(fields or {}))
    values = {
        "log_id": operation,
        "order_id": 42,
        "step": steps[operation - 1],
        "operation": "op",
        "task_id": "t1",
        "message": "",
    }
    facts = UndoFacts(
        rows={42: JournalRow(**{**values, "age": timedelta(hours=1), **row})},
        logs={42: log(*steps)},
        trashed={42: trashed} if trashed else {},
    )
    plan = plan_undo(snapshot(known, tasks=tasks, files=count), [42], facts, new_task_id=ids())
    (decision,) = (*plan.steps, *plan.left_alone)
    return decision


def test_undo_of_a_reset_brings_site_and_status_back() -> None:
    step = decide(
        *(GENERATING, [*PLACED, "OPERATOR_RESET"], 3, task()),
        **{"before": REVIEW, "after": GENERATING, "trashes": True, "file_count": 8, "trashed": "project_42.1.op"},
    )
    assert isinstance(step, Step)
    assert (step.action, step.before, step.after, step.publish) == (Action.UNDO, GENERATING, REVIEW, None)
    assert (step.untrash, [each.task_id for each in step.revoke]) == ("project_42.1.op", ["t1"])
    assert step.beginning is not None
    # Until its files are back, the order is as the reset left it.
    assert (step.beginning.action, step.beginning.after, step.beginning.publish) == (Action.UNDO_BEGIN, None, None)


def test_where_a_site_was_generated_since_the_hint_brings_the_old_one_back() -> None:
    values = {"trashes": True, "file_count": 8, "trashed": "project_42.1.op"}
    outcome = decide(REVIEW, [*PLACED, "OPERATOR_RESET", *PLACED], 3, before=REVIEW, after=GENERATING, **values)
    assert isinstance(outcome, Outcome)
    assert outcome.reason == "it has changed since: its site was generated"
    command = "sitegenctl trash restore 42 --entry op --force"
    assert hint_text(outcome.hint) == f"for the old site: {command}"


@pytest.mark.parametrize("resume", [True, False])
def test_undo_of_a_cancel_publishes_the_removed_task_again(resume: bool) -> None:
    removed = {"revoked": (RevokedTask(task_id="old", waited=True, resume=resume),), "task_id": None}
    step = decide(BUILDING, ["OPERATOR_CANCEL"], 1, before=GENERATING, after=BUILDING, **removed)
    assert isinstance(step, Step)
    assert (step.after, step.publish, step.resume, step.beginning) == (GENERATING, "new-1", resume, None)


def test_a_building_order_whose_task_comes_back_is_generating() -> None:
    step = decide(BUILDING, ["OPERATOR_CANCEL"], 1, before=BUILDING, after=BUILDING, revoked=(WAITED,), task_id=None)
    assert isinstance(step, Step)
    assert (step.after, step.publish) == (GENERATING, "new-1")  # else the system's beat starts it a second time


def test_undo_of_an_enqueue_holds_the_order_again() -> None:
    step = decide(GENERATING, ["OPERATOR_CANCEL", "OPERATOR_ENQUEUE"], 2, task(), before=BUILDING, after=GENERATING)
    assert isinstance(step, Step)
    assert (step.after, "on hold again" in step.details) == (BUILDING, True)
    assert step.restores == JournalEntry(step="OPERATOR_CANCEL")


def test_operations_are_undone_one_after_the_other() -> None:
    steps = ["OPERATOR_ENQUEUE", "OPERATOR_CANCEL", "OPERATOR_UNDO_BEGIN", "OPERATOR_UNDO"]
    step = decide(GENERATING, steps, 1, task(), before=BUILDING, after=GENERATING)
    assert isinstance(step, Step)
    again = decide(GENERATING, [*steps, "OPERATOR_UNDO", "OPERATOR_UNDO_FAILED"], 1, task(), before=BUILDING)
    assert isinstance(again, Outcome)
    assert again.reason == "it has changed since: BUILDING became GENERATING"


REFUSED, SKIPPED = OutcomeKind.REFUSED, OutcomeKind.SKIPPED
ENQUEUE, RESET, CANCEL = "OPERATOR_ENQUEUE", "OPERATOR_RESET", "OPERATOR_CANCEL"
TO_TRASH = {"trashes": True, "file_count": 8}


@pytest.mark.parametrize(
    ("status", "steps", "tasks", "values", "kind", "reason"),
    [
        (GENERATING, [ENQUEUE], (task(TaskState.RUNNING),), {}, REFUSED, "task t1 running at w1"),
        (GENERATING, [ENQUEUE, "START"], (), {}, REFUSED, "changed since: its generation began (START)"),
        (REVIEW, [ENQUEUE, *PLACED], (), {}, REFUSED, "its site was generated"),
        (GENERATING, [ENQUEUE], (task(task_id="t2"),), {}, REFUSED, "changed since: task t2 queued"),
        (GENERATING, [ENQUEUE], (task(attempt=2),), {}, REFUSED, "after 1 failed"),
        (GENERATING, [ENQUEUE], (task(TaskState.UNACCOUNTED),), {}, REFUSED, "unaccounted"),
        (BUILDING, [ENQUEUE], (), {}, REFUSED, "changed since: GENERATING became BUILDING"),
        (BUILDING, [ENQUEUE, CANCEL], (), {}, REFUSED, "changed since: test by ben@crm"),
        (BUILDING, [ENQUEUE, "OPERATOR_UNDO"], (), {}, SKIPPED, "undone already: test by ben@crm"),
        (BUILDING, [ENQUEUE, "OPERATOR_ENQUEUE_FAILED"], (), {}, SKIPPED, "it was rolled back"),
        (GENERATING, ["OPERATOR_REPAIR"], (), {"command": "repair"}, REFUSED, "repair is not undone"),
        (BUILDING, ["OPERATOR_UNDO"], (), {}, REFUSED, "an undo is not undone"),
        (
            BUILDING,
            [CANCEL],
            (),
            {"after": BUILDING, "revoked": (WAITED, RevokedTask(task_id="r"))},
            REFUSED,
            "generation was stopped",
        ),
        (REVIEW, [CANCEL], (), {"before": REVIEW, "after": None}, SKIPPED, "its task was superfluous"),
        (None, [ENQUEUE], (), {}, REFUSED, "its status is NULL"),
        (GENERATING, [RESET], (), TO_TRASH, REFUSED, "its files are no longer in the trash"),
        (GENERATING, [RESET], (), {**TO_TRASH, "age": timedelta(0)}, SKIPPED, "on their way to the trash"),
        (GENERATING, [RESET], (), {**TO_TRASH, "count": 3, "trashed": "x"}, REFUSED, "since: 3 files in its folder"),
        (GENERATING, [RESET], (), {**TO_TRASH, "count": None}, REFUSED, "its files could not be counted"),
    ],
)
def test_orders_that_have_changed_since_are_left_alone(
    status: OrderStatus | None,
    steps: list[str],
    tasks: tuple[LiveTask, ...],
    values: dict[str, Any],
    kind: OutcomeKind,
    reason: str,
) -> None:
    row = {"before": BUILDING, "after": GENERATING, **values}
    outcome = decide(status, steps, 1, *tasks, **row)
    assert isinstance(outcome, Outcome)
    assert (outcome.outcome, reason in outcome.reason) == (kind, True), outcome


def test_files_that_a_killed_reset_left_in_place_are_no_obstacle() -> None:
    step = decide(GENERATING, [*PLACED, RESET], 3, task(), before=REVIEW, after=GENERATING, count=8, **TO_TRASH)
    assert isinstance(step, Step)
    assert (step.after, step.untrash) == (REVIEW, None)


@pytest.mark.parametrize("operation", [ENQUEUE, RESET, CANCEL])
@pytest.mark.parametrize("before", [[], ["START", "ERROR"], [CANCEL], [RESET], ["START", "ERROR", ENQUEUE, "START"]])
def test_history_after_an_undo_is_that_before_the_operation(before: list[str], operation: str) -> None:
    history = read_history(before)
    assert read_history([*before, operation, "OPERATOR_UNDO_BEGIN", "OPERATOR_UNDO"]) == history
    assert read_history([*before, operation, ENQUEUE, "OPERATOR_UNDO", "OPERATOR_UNDO"]) == history
    failed = [*before, operation, "OPERATOR_UNDO_BEGIN", "OPERATOR_UNDO", "OPERATOR_UNDO_FAILED"]
    assert read_history(failed) == read_history([*before, operation])


@pytest.mark.parametrize(
    ("status", "held"), [(BUILDING, True), (OrderStatus.PAID, True), (GENERATING, False), (REVIEW, False)]
)
def test_undo_restores_no_hold_that_a_cancel_does_not_give(status: OrderStatus, held: bool) -> None:
    history = read_history([CANCEL, RESET, "OPERATOR_UNDO"])
    undone = order(42, status, history=history, journal=JournalEntry(step="OPERATOR_UNDO", after=status))
    assert undone.is_held is held


def operation(log_id: int, seconds: float, command: str = "reset", host: str = "crm", **row: Any) -> Operation:
    at = T0 + timedelta(seconds=seconds)
    values = {
        "log_id": log_id,
        "order_id": 42,
        "step": RESET,
        "message": "",
        "command": command,
        "operation": f"op-{log_id}",
    }
    (operation,) = operations_of([JournalRow(**{**values, "actor": "ana", "host": host, "at": at, **row})])
    return operation


FAR = operation(1, 0)
NEAR = operation(2, 1000)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([], ["op-2"]),
        ([operation(3, 1030)], ["op-3", "op-2"]),  # within a minute
        ([operation(3, 1100)], ["op-3"]),
        ([operation(3, 1100, host="laptop")], ["op-3", "op-2", "op-1"]),  # at another host
        ([operation(3, 1100, "maintain")], ["op-2"]),
        ([operation(3, 1100, "undo", undoes="op-2", step="OPERATOR_UNDO")], ["op-1"]),
        ([operation(3, 1100, "undo", undoes="op-2", step="OPERATOR_UNDO_BEGIN")], ["op-2"]),  # it was killed
        ([operation(3, 1100, operation=None)], ["op-2"]),  # of an older release
    ],
)
def test_latest_operation_is_undone_unless_it_is_ambiguous(others: list[Operation], expected: list[str]) -> None:
    rows = [entry.row for each in (FAR, NEAR, *others) for entry in each.entries]
    found = latest(operations_of(rows), host="crm")
    assert [each.operation_id for each in found] == expected
    assert latest([], host="crm") == []
