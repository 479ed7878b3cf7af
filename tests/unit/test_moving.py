"""Which tasks change queue, and which orders are out of sight afterwards."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Onboarding, Order, OrderStatus
from sitegenctl.domain.plans.guards import waits
from sitegenctl.domain.plans.move import plan_move
from sitegenctl.domain.queue.task import ForeignMessage, LiveTask, TaskState

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def task(order_id: int, state: TaskState = TaskState.QUEUED, **facts: object) -> LiveTask:
    return LiveTask(task_id=f"task-{order_id}-{state}", name="generate", order_id=order_id, state=state, **facts)


def order(order_id: int, status: OrderStatus | None = OrderStatus.GENERATING, **facts: object) -> Order:
    return Order(
        order_id=order_id,
        status=status,
        customer_name="Ana",
        onboarding=Onboarding.COMPLETE,
        idle=timedelta(hours=3),
        last_log_id=7,
        **facts,
    )


@pytest.mark.parametrize(
    ("state", "facts", "expected"),
    [
        (TaskState.QUEUED, {"position": 3}, True),
        (TaskState.SCHEDULED, {"position": 3, "eta": NOW}, True),  # Celery's, in the queue and at no worker yet
        (TaskState.SCHEDULED, {"eta": NOW}, True),  # RQ's
        (TaskState.RETRYING, {"eta": NOW}, True),
        (TaskState.SCHEDULED, {}, False),  # it waits for something else than a time
        (TaskState.SCHEDULED, {"eta": NOW, "worker": "celery@a"}, False),
        (TaskState.RUNNING, {"worker": "celery@a"}, False),
        (TaskState.RESERVED, {"worker": "celery@a"}, False),
        (TaskState.UNACKED, {}, False),
        (TaskState.ORPHANED, {}, False),
    ],
)
def test_what_nobody_has_in_hand_waits(state: TaskState, facts: dict[str, object], expected: bool) -> None:
    assert waits(task(1, state, **facts)) is expected


def test_tasks_go_in_the_order_of_delivery_and_what_is_due_later_after_them() -> None:
    tasks = [
        task(4, TaskState.SCHEDULED, eta=NOW + timedelta(hours=2)),
        task(3, TaskState.RETRYING, eta=NOW),
        task(2, position=1),
        task(1, position=0),
    ]
    moving = plan_move(Snapshot(taken_at=NOW, orders={1: order(1), 3: order(3)}, tasks=tasks), (), "rq")
    assert [step.order_id for step in moving.plan.steps] == [1, 2, 3, 4]
    first, second, *_ = moving.plan.steps
    assert (first.before, first.after, first.last_log_id, first.destination) == (OrderStatus.GENERATING, None, 7, "rq")
    assert (first.task_id, first.saying) == ("task-1-queued", "moved to rq; task task-1-q queued")
    # Of a missing order there is no row to claim.
    assert (second.before, second.last_log_id) == (None, None)


def test_who_is_left_alone_and_what_stays() -> None:
    running = task(3, TaskState.RUNNING, worker="celery@a")
    tasks = [task(1, position=0), task(2, position=1), task(3, position=2), running]
    known = {1: order(1, None), 2: order(2), 3: order(3)}
    foreign = [ForeignMessage(name="beat", reason="another task", state=TaskState.QUEUED)]
    snapshot = Snapshot(taken_at=NOW, orders=known, tasks=tasks, foreign=foreign)
    moving = plan_move(snapshot, [task(2, TaskState.RUNNING)], "rq")
    assert moving.plan.steps == []
    reasons = {outcome.order_id: outcome.reason for outcome in moving.plan.left_alone}
    assert reasons == {
        1: "its status is NULL",
        2: "it has a task in rq already: task task-2-running running",
        3: "it has another task, which doesn't wait: task task-3-running running at celery@a",
    }
    assert (list(moving.staying), moving.foreign) == ([running], 1)


@pytest.mark.parametrize("status", [OrderStatus.GENERATING, OrderStatus.BUILDING])
def test_an_order_whose_task_went_elsewhere_is_unknown_here(status: OrderStatus) -> None:
    gone = order(1, status, elsewhere="rq")
    assert gone.is_out_of_sight
    snapshot = Snapshot(taken_at=NOW, orders={1: gone.unseen()})
    verdict = snapshot.diagnose(1)
    assert (verdict.condition, verdict.remedy) == (Condition.UNKNOWN, "look with backend rq")
    assert verdict.evidence == ("its task is in the queue of rq, which is not to be seen from here",)
    assert gone.unseen().label == status


@pytest.mark.parametrize("status", [OrderStatus.REVIEW, OrderStatus.DELIVERED, OrderStatus.CANCELLED, None])
def test_one_that_is_over_can_be_seen_from_anywhere(status: OrderStatus | None) -> None:
    assert not replace(order(1), status=status, elsewhere="rq").is_out_of_sight
