"""Which orders may be enqueued, and the reasons for refusing the others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Onboarding, Order, OrderStatus
from sitegenctl.domain.plans.enqueue import plan_enqueue
from sitegenctl.domain.plans.result import OperationResult, Outcome, OutcomeKind
from sitegenctl.domain.queue.task import LiveTask, TaskState
from sitegenctl.render.command import hint_text

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def order(order_id: int = 42, status: OrderStatus | None = OrderStatus.BUILDING, **facts: object) -> Order:
    known: dict[str, object] = {
        "onboarding": Onboarding.COMPLETE,
        "idle": timedelta(hours=1),
        "customer_name": "Ana",
        "last_log_id": 7,
    }
    return Order(order_id=order_id, status=status, **{**known, **facts})  # type: ignore[arg-type]


def snapshot(*orders: Order, tasks: tuple[LiveTask, ...] = ()) -> Snapshot:
    return Snapshot(taken_at=NOW, orders={o.order_id: o for o in orders}, tasks=tasks)


def plan(observed: Snapshot, *order_ids: int, force: bool = False):
    ids = (str(number) for number in range(1000))
    return plan_enqueue(observed, order_ids, resume=True, force=force, new_task_id=lambda: next(ids))


def test_ready_order_is_enqueued_as_planned() -> None:
    (step,) = plan(snapshot(order()), 42).steps
    assert (step.order_id, step.before, step.last_log_id, step.resume) == (42, OrderStatus.BUILDING, 7, True)


@pytest.mark.parametrize(
    ("observed", "reason"),
    [
        (snapshot(), "no such order"),
        (snapshot(order(status=None)), "NULL"),
        (snapshot(order(status=OrderStatus.CANCELLED)), "CANCELLED"),
        (snapshot(order(status=OrderStatus.REVIEW)), "REVIEW"),
        (snapshot(order(status=OrderStatus.DELIVERED)), "DELIVERED"),
        (snapshot(order(onboarding=Onboarding.MISSING)), "no onboarding"),
        (snapshot(order(onboarding=Onboarding.PARTIAL)), "not complete"),
        (snapshot(order(status=OrderStatus.PAID)), "PAID"),
    ],
)
def test_refused_with_the_reason(observed: Snapshot, reason: str) -> None:
    result = plan(observed, 42, force=True)
    assert not result.steps
    (outcome,) = result.left_alone
    assert outcome.outcome is OutcomeKind.REFUSED
    assert reason in outcome.reason


def test_enqueueing_a_finished_order_hints_at_reset() -> None:
    (outcome,) = plan(snapshot(order(status=OrderStatus.REVIEW)), 42).left_alone
    assert "reset" in (hint_text(outcome.hint) or "")


@pytest.mark.parametrize("state", list(TaskState))
def test_order_with_a_live_task_is_never_enqueued(state: TaskState) -> None:
    live = LiveTask(task_id="abc", name="generate", order_id=42, state=state, worker="w1")
    result = plan(snapshot(order(), tasks=(live,)), 42, force=True)
    assert not result.steps
    (outcome,) = result.left_alone
    expected = OutcomeKind.REFUSED if live.is_unaccounted else OutcomeKind.SKIPPED
    assert outcome.outcome is expected
    assert outcome.task_id == "abc"
    assert ("unaccounted" if live.is_unaccounted else state) in outcome.reason


def test_generating_within_grace_is_skipped_unless_forced() -> None:
    fresh = snapshot(order(status=OrderStatus.GENERATING, idle=timedelta(seconds=3)))
    (outcome,) = plan(fresh, 42).left_alone
    assert outcome.outcome is OutcomeKind.SKIPPED
    assert "--force" in (hint_text(outcome.hint) or "")
    assert len(plan(fresh, 42, force=True).steps) == 1


def test_building_order_can_be_enqueued_at_any_time() -> None:
    assert plan(snapshot(order(idle=timedelta(0))), 42).steps


@given(st.lists(st.integers(1, 30), unique=True), st.sets(st.integers(1, 30)))
def test_every_selected_order_has_one_outcome(asked: list[int], existing: set[int]) -> None:
    result = plan(snapshot(*(order(number) for number in existing)), *asked)
    answered = [step.order_id for step in result.steps] + [o.order_id for o in result.left_alone]
    assert sorted(answered) == sorted(asked)
    assert len({step.publish for step in result.steps}) == len(result.steps)


def outcome(kind: OutcomeKind) -> Outcome:
    return Outcome(order_id=1, outcome=kind, reason="r")


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        ([], 0),
        ([OutcomeKind.DONE, OutcomeKind.SKIPPED], 0),
        ([OutcomeKind.DONE, OutcomeKind.REFUSED], 4),
        ([OutcomeKind.REFUSED, OutcomeKind.FAILED], 1),
    ],
)
def test_exit_codes(kinds: list[OutcomeKind], code: int) -> None:
    outcomes = [outcome(kind) for kind in kinds]
    assert OperationResult(command="enqueue", dry_run=False, outcomes=outcomes).exit_code == code
    interrupted = OperationResult(command="enqueue", dry_run=False, outcomes=outcomes, interrupted=True)
    assert interrupted.exit_code == 130
