from __future__ import annotations

import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings, strategies as st

from sitegenctl.demo.samples.businesses import half_filled, make_business, showcase
from sitegenctl.demo.samples.plan import MIN_ORDERS, TOUR_ORDER, Manifest, SampleOrder, SamplePlan, plan_samples
from sitegenctl.demo.samples.recipes import FOREIGN, Lane
from sitegenctl.demo.samples.sites import site_files
from sitegenctl.domain.diagnosis.condition import DEFAULT_GRACE, Condition, Evidence, diagnose
from sitegenctl.domain.orders.order import Onboarding, Order, OrderStatus
from sitegenctl.domain.orders.run import RunOutcome
from sitegenctl.domain.orders.run_reader import read_history
from sitegenctl.domain.orders.site import SiteFiles
from sitegenctl.domain.queue.task import LiveTask, TaskState

SEEDS = st.integers(min_value=0, max_value=2**32)
ORDERS = st.integers(min_value=MIN_ORDERS, max_value=200)


def as_seen(sample: SampleOrder) -> Evidence:
    """Return the evidence about this order once it is written, without any worker."""
    ages = [sample.updated, sample.onboarding_completed, *(row.age for row in sample.logs[-1:])]
    order = Order(
        order_id=sample.order_id,
        status=sample.status,
        customer_name=sample.business.order["customer_name"],
        onboarding=sample.onboarding,
        onboarding_completed_at=None
        if sample.onboarding_completed is None
        else datetime(2026, 1, 1, tzinfo=UTC) - timedelta(seconds=sample.onboarding_completed),
        idle=timedelta(seconds=min(age for age in ages if age is not None)),
        history=read_history(row.step for row in sample.logs),
    )
    held = TaskState.RETRYING if any(task.retries for task in sample.tasks) else TaskState.SCHEDULED
    states = {Lane.READY: TaskState.QUEUED, Lane.HELD: held, Lane.LOST: TaskState.ORPHANED}
    tasks = [
        LiveTask(task_id=task.task_id, name="t", order_id=sample.order_id, state=states[task.lane])
        for task in sample.tasks
    ]
    files = SiteFiles(count=sample.files, size=sample.files * 100)
    return Evidence(order_id=sample.order_id, order=order, tasks=tasks, files=files, check_hollow=True)


def of(plan: SamplePlan, condition: Condition) -> list[SampleOrder]:
    return [order for order in plan if order.condition is condition]


def test_only_the_same_seed_gives_the_same_plan() -> None:
    assert list(plan_samples(60, 7)) == list(plan_samples(60, 7))
    assert plan_samples(60, 7).tasks == plan_samples(60, 7).tasks
    assert plan_samples(60, 7).manifest().conditions != plan_samples(60, 8).manifest().conditions


@settings(max_examples=25)
@given(orders=ORDERS, seed=SEEDS)
def test_every_order_is_diagnosed_and_listed_as_planned(orders: int, seed: int) -> None:
    plan = plan_samples(orders, seed)
    manifest = plan.manifest()
    for order in plan:
        expected = Condition.QUEUED if order.condition is Condition.RUNNING else order.condition
        assert diagnose(as_seen(order)).condition is expected, order
        assert order.order_id in manifest.conditions[order.condition]
    # Every condition occurs, and every order is listed once.
    assert set(manifest.conditions) == {condition.value for condition in Condition}
    assert all(manifest.conditions.values())
    listed = [order_id for ids in manifest.conditions.values() for order_id in ids]
    assert sorted(listed) == [*range(1, orders + 1), plan.missing_task.order_id]


@settings(max_examples=50)
@given(orders=ORDERS, seed=SEEDS)
def test_order_42_is_always_ready_to_be_enqueued(orders: int, seed: int) -> None:
    tour = plan_samples(orders, seed).order(TOUR_ORDER)
    assert TOUR_ORDER == 42
    assert tour.status is OrderStatus.BUILDING
    assert tour.onboarding is Onboarding.COMPLETE
    assert tour.onboarding_completed is not None
    assert tour.updated > DEFAULT_GRACE.total_seconds()
    assert (tour.logs, tour.files, tour.tasks) == ((), 0, [])
    assert tour.business == showcase()


@pytest.mark.parametrize("orders", [MIN_ORDERS - 1, 0, -1, 10_000_001])
def test_a_number_out_of_range_is_refused_with_the_bounds(orders: int) -> None:
    from sitegenctl.errors import UsageProblem

    with pytest.raises(UsageProblem) as refusal:
        plan_samples(orders)
    assert str(MIN_ORDERS) in (refusal.value.hint or "")


def test_failed_orders_have_different_histories() -> None:
    failed = of(plan_samples(), Condition.FAILED)
    histories = [read_history(row.step for row in order.logs) for order in failed]
    assert {history.attempts for history in histories} >= {1, 2, 3}
    assert len({order.admin_notes for order in failed}) >= 4
    assert all(order.admin_notes.startswith("Generation Failed:") for order in failed if order.admin_notes)
    assert all(history.last_run.outcome is RunOutcome.ERROR for history in histories if history.last_run)


def test_conditions_come_in_all_variants() -> None:
    plan = plan_samples()
    interrupted = of(plan, Condition.INTERRUPTED)
    assert any(not order.logs for order in interrupted)
    assert any(order.logs and order.logs[-1].step == "OPERATOR_ENQUEUE" for order in interrupted)
    assert {order.files for order in interrupted} >= {8, 20}
    assert {order.files for order in of(plan, Condition.EMPTY)} == {0, 3}
    ghosts = {order.status for order in of(plan, Condition.GHOST)}
    assert ghosts == {OrderStatus.CANCELLED, OrderStatus.DELIVERED}
    assert plan.missing_task.order_id > plan.orders
    assert {order.status for order in of(plan, Condition.WAITING)} == {
        OrderStatus.PENDING_PAYMENT,
        OrderStatus.PAID,
        OrderStatus.ONBOARDING_PENDING,
        OrderStatus.BUILDING,
    }
    blocked = {order.onboarding for order in of(plan, Condition.BLOCKED)}
    assert blocked == {Onboarding.MISSING}
    unstarted = {order.onboarding_completed is None for order in of(plan, Condition.UNSTARTED)}
    assert unstarted == {True, False}
    done = {(order.status, order.files) for order in of(plan, Condition.DONE)}
    assert done >= {(s, n) for s in (OrderStatus.REVIEW, OrderStatus.DELIVERED) for n in (8, 20)}


def test_the_running_orders_are_first_in_the_queue() -> None:
    plan = plan_samples()
    ready = [task.order_id for task in plan.tasks if task.lane is Lane.READY]
    assert ready[:2] == list(plan.manifest().conditions["running"])
    assert ready[2:] == list(plan.manifest().conditions["queued"])


def test_some_names_and_notes_are_awkward() -> None:
    plan = plan_samples(60, 3)
    assert sum('"' in order.business.onboarding["business_name"] for order in plan.crafted.values()) >= 2
    assert any("\n" in (order.admin_notes or "") for order in plan)


def test_task_ids_differ() -> None:
    tasks = plan_samples().tasks
    assert len({task.task_id for task in tasks}) == len(tasks)


@settings(max_examples=25)
@given(orders=ORDERS, seed=SEEDS)
def test_nothing_happens_before_its_cause(orders: int, seed: int) -> None:
    for order in plan_samples(orders, seed):
        ages = [row.age for row in order.logs]
        assert ages == sorted(ages, reverse=True)
        before = [order.paid, order.onboarding_completed, order.delivered, order.updated, *ages]
        assert all(order.created >= age >= 0 for age in before if age is not None)
        if order.onboarding_completed is not None and order.logs:
            assert order.onboarding_completed > order.logs[0].age


def test_a_manifest_survives_being_written() -> None:
    manifest = plan_samples().manifest()
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.foreign == len(FOREIGN)
    assert manifest.notes["settling"]
    with pytest.raises(ValueError, match="not a manifest"):
        Manifest.from_json("[]")


def test_a_large_plan_is_mostly_delivered() -> None:
    plan = plan_samples(100_000)
    statuses = [plan.order(order_id).status for order_id in range(1, 100_000, 997)]
    assert statuses.count(OrderStatus.DELIVERED) > 0.8 * len(statuses)


@settings(max_examples=100)
@given(seed=SEEDS)
def test_no_business_can_reach_a_real_person(seed: int) -> None:
    business = make_business(random.Random(seed))
    for email in (business.order["customer_email"], business.onboarding["business_email"]):
        assert email.endswith((".example", ".example.com"))
    phone = business.order["customer_phone"]
    assert "-555-01" in phone or " 90000-" in phone


def test_a_half_filled_form_has_all_required_columns() -> None:
    form = half_filled(showcase().onboarding)
    assert form["is_complete"] is False
    assert "testimonials" not in form
    for column in ("business_name", "business_email", "business_phone", "niche", "primary_city", "state"):
        assert form[column]
    assert form["services"]
    assert form["primary_service"]


@pytest.mark.parametrize("count", [0, 3, 8, 20])
def test_a_site_has_the_given_number_of_files(count: int) -> None:
    files = dict(site_files(showcase(), count))
    assert len(files) == count
    assert "Juniper & Rye" not in files.get("index.html", "")


def test_planning_imports_no_drivers() -> None:
    heavy = {"celery", "sqlalchemy", "redis", "asyncpg", "kombu"}
    code = "import sys, sitegenctl.demo.samples.plan; print(*{m.partition('.')[0] for m in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert heavy.isdisjoint(run.stdout.split())
