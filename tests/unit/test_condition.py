"""Every row of the condition table, the order of the rows, and what may never be concluded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from sitegenctl.domain.diagnosis.condition import Condition, Diagnosis, Evidence, Severity, Source, diagnose
from sitegenctl.domain.diagnosis.describe import describe_age, describe_time
from sitegenctl.domain.orders.order import JournalEntry, Onboarding, Order, OrderStatus
from sitegenctl.domain.orders.run import OPERATOR_CANCEL, OPERATOR_ENQUEUE, OPERATOR_REPAIR, OPERATOR_RESET, RunOutcome
from sitegenctl.domain.orders.run_reader import read_history
from sitegenctl.domain.orders.site import SiteFiles
from sitegenctl.domain.plans.plan import Action
from sitegenctl.domain.queue.task import LiveTask, TaskState
from sitegenctl.render.command import hint_text

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOW_AGO = NOW - timedelta(hours=1)
LONG_AGO = timedelta(hours=3)
JUST_NOW = timedelta(seconds=5)


def order(status: OrderStatus | None, *steps: str, **facts: object) -> Order:
    settings: dict[str, object] = {
        "order_id": 42,
        "customer_name": "Ana",
        "onboarding": Onboarding.COMPLETE,
        "idle": LONG_AGO,
        "history": read_history(steps),
    }
    return Order(status=status, **{**settings, **facts})  # type: ignore[arg-type]


def task(state: TaskState, task_id: str = "t1", **facts: object) -> LiveTask:
    return LiveTask(task_id=task_id, name="generate", order_id=42, state=state, **facts)  # type: ignore[arg-type]


def verdict(the_order: Order | None, *tasks: LiveTask, files: int | None = 0, **facts: object) -> Diagnosis:
    counted = None if files is None else SiteFiles(count=files, size=files * 100)
    return diagnose(Evidence(order_id=42, order=the_order, tasks=tasks, files=counted, **facts))  # type: ignore[arg-type]


README = (Path(__file__).parents[2] / "README.md").read_text()
GENERATING, BUILDING = OrderStatus.GENERATING, OrderStatus.BUILDING
CUT_SHORT = ("OPERATOR_ENQUEUE", "START", "PHASE_1_START")
ENDED_BADLY = ("OPERATOR_ENQUEUE", "START", "PHASE_1_START", "ERROR")


@pytest.mark.parametrize("source", [Source.DATABASE, Source.BROKER])
def test_without_database_or_broker_every_verdict_is_unknown(source: Source) -> None:
    for status in OrderStatus:
        diagnosis = verdict(order(status, *ENDED_BADLY), files=20, unavailable=frozenset({source}))
        assert diagnosis.condition is Condition.UNKNOWN
        assert source in diagnosis.evidence[0]


def test_a_null_status_is_unknown() -> None:
    assert verdict(order(None)).condition is Condition.UNKNOWN


def test_a_task_a_silent_worker_may_have_is_unknown() -> None:
    for until in (None, NOW + timedelta(minutes=3)):
        diagnosis = verdict(order(GENERATING), task(TaskState.UNACCOUNTED, until=until), taken_at=NOW)
        assert (diagnosis.condition, diagnosis.until) == (Condition.UNKNOWN, until)
        assert "--worker-dead" in (hint_text(diagnosis.remedy) or "")


def test_evidence_of_an_unaccounted_task_has_both_times() -> None:
    until = NOW + timedelta(minutes=3)
    live = task(TaskState.UNACCOUNTED, until=until, delivered_at=NOW - timedelta(minutes=7))
    (evidence,) = verdict(order(GENERATING), live, taken_at=NOW).evidence
    assert evidence == (
        "task t1 unaccounted: delivered 7m ago; no worker that responds has it; a worker that is shutting down, paused"
        f" or cut off may still be running it until {describe_time(until, NOW)}"
    )


@pytest.mark.parametrize("status", [GENERATING, BUILDING])
def test_unreadable_message_makes_candidate_orders_unknown(status: OrderStatus) -> None:
    assert verdict(order(status), files=8, unattributed=1).condition is Condition.UNKNOWN
    assert verdict(order(status), task(TaskState.QUEUED), unattributed=1).condition is Condition.QUEUED
    assert verdict(order(OrderStatus.REVIEW), files=8, unattributed=1).condition is Condition.DONE


@pytest.mark.parametrize("files", [0, 8])
def test_a_run_that_may_go_on_is_neither_interrupted_nor_empty(files: int) -> None:
    until = NOW + timedelta(minutes=3)
    diagnosis = verdict(
        order(GENERATING, *CUT_SHORT), files=files, may_be_running=True, possible_until=until, taken_at=NOW
    )
    assert (diagnosis.condition, diagnosis.until) == (Condition.UNKNOWN, until)
    assert "last step PHASE_1_START" in diagnosis.evidence[0]


def test_a_building_order_whose_run_may_go_on_is_not_unstarted() -> None:
    until = NOW + timedelta(minutes=3)
    diagnosis = verdict(order(BUILDING, *CUT_SHORT), may_be_running=True, possible_until=until, taken_at=NOW)
    assert (diagnosis.condition, diagnosis.until) == (Condition.UNKNOWN, until)


def test_a_held_run_lock_means_that_it_runs() -> None:
    assert verdict(order(GENERATING, *CUT_SHORT, run_lock_held=True)).condition is Condition.RUNNING


@pytest.mark.parametrize("status", [OrderStatus.CANCELLED, OrderStatus.PAID, BUILDING])
def test_an_order_is_held_wherever_an_operator_sent_it(status: OrderStatus) -> None:
    journal = JournalEntry(step=OPERATOR_CANCEL, after=status)
    diagnosis = verdict(order(status, "START", "ERROR", OPERATOR_CANCEL, journal=journal))
    assert diagnosis.condition is Condition.HELD
    moved = verdict(order(OrderStatus.PENDING_PAYMENT, OPERATOR_CANCEL, journal=journal))
    assert moved.condition is Condition.WAITING


def test_a_held_order_shows_that_beat_will_start_it() -> None:
    ready = order(BUILDING, OPERATOR_CANCEL, onboarding_completed_at=NOW.replace(tzinfo=None))
    assert any("beat" in text for text in verdict(ready).evidence)
    assert not any("beat" in text for text in verdict(order(BUILDING, OPERATOR_CANCEL)).evidence)


@pytest.mark.parametrize(
    ("dates", "authoritative", "condition"),
    [
        ({"enqueued_at": NOW_AGO}, True, Condition.GHOST),
        ({"delivered_at": NOW_AGO}, True, Condition.GHOST),
        ({"enqueued_at": NOW}, True, Condition.UNKNOWN),
        ({}, True, Condition.UNKNOWN),
        ({"enqueued_at": NOW_AGO}, False, Condition.UNKNOWN),
    ],
)
def test_a_missing_order_is_believed_missing_only_later(
    dates: dict[str, object], authoritative: bool, condition: Condition
) -> None:
    diagnosis = verdict(None, task(TaskState.QUEUED, **dates), taken_at=NOW, authoritative=authoritative)
    assert diagnosis.condition is condition


@pytest.mark.parametrize(
    ("dates", "authoritative", "condition"),
    [
        ((NOW_AGO, NOW_AGO), True, Condition.GHOST),
        ((NOW_AGO, NOW), True, Condition.UNKNOWN),
        ((NOW_AGO, None), True, Condition.UNKNOWN),
        ((NOW_AGO, NOW_AGO), False, Condition.UNKNOWN),
    ],
)
def test_two_tasks_of_a_missing_order_are_judged_by_the_newest(
    dates: tuple[datetime | None, ...], authoritative: bool, condition: Condition
) -> None:
    tasks = [task(TaskState.QUEUED, position=place, enqueued_at=at) for place, at in enumerate(dates)]
    diagnosis = verdict(None, *tasks, taken_at=NOW, authoritative=authoritative)
    assert diagnosis.condition is condition


def test_two_live_tasks_are_a_duplicate_wherever_they_are() -> None:
    diagnosis = verdict(order(GENERATING), task(TaskState.RUNNING, "a"), task(TaskState.QUEUED, "b"))
    assert diagnosis.condition is Condition.DUPLICATED
    assert diagnosis.severity is Severity.FAULT
    assert {"a" in text or "b" in text for text in diagnosis.evidence[1:]} == {True}


@pytest.mark.parametrize(
    "the_order",
    [order(OrderStatus.CANCELLED), order(OrderStatus.REVIEW), order(OrderStatus.DELIVERED)],
    ids=["cancelled", "review", "delivered"],
)
def test_a_live_task_without_an_order_to_generate_is_a_ghost(the_order: Order) -> None:
    assert verdict(the_order, task(TaskState.QUEUED)).condition is Condition.GHOST


def test_a_task_of_a_just_finished_order_is_no_ghost_yet() -> None:
    just_finished = order(OrderStatus.REVIEW, idle=JUST_NOW)
    assert verdict(just_finished, task(TaskState.RUNNING)).condition is Condition.RUNNING


def test_evidence_of_an_orphan_has_its_proof() -> None:
    diagnosis = verdict(order(GENERATING), task(TaskState.ORPHANED, reason="its time limit has passed"))
    assert (diagnosis.condition, diagnosis.evidence[-1]) == (
        Condition.ORPHANED,
        "no worker that responds has it; its time limit has passed",
    )


def test_a_ghost_shows_what_the_generator_will_do() -> None:
    diagnosis = verdict(order(OrderStatus.CANCELLED), task(TaskState.RUNNING))
    assert diagnosis.condition is Condition.GHOST
    assert diagnosis.evidence[-1] == "when it ends, the generator sets the order to REVIEW"
    assert hint_text(diagnosis.remedy) == "sitegenctl cancel 42 --terminate"


@pytest.mark.parametrize(
    ("state", "condition"),
    [
        (TaskState.ORPHANED, Condition.ORPHANED),
        (TaskState.RUNNING, Condition.RUNNING),
        (TaskState.QUEUED, Condition.QUEUED),
        (TaskState.RESERVED, Condition.QUEUED),
        (TaskState.SCHEDULED, Condition.SCHEDULED),
        (TaskState.RETRYING, Condition.RETRYING),
    ],
)
@pytest.mark.parametrize("status", [GENERATING, BUILDING])
def test_a_single_live_task_decides_the_condition(state: TaskState, condition: Condition, status: OrderStatus) -> None:
    assert verdict(order(status, *ENDED_BADLY), task(state)).condition is condition


@pytest.mark.parametrize("onboarding", [Onboarding.MISSING, Onboarding.PARTIAL])
def test_generating_without_an_onboarding_is_always_blocked(onboarding: Onboarding) -> None:
    for idle in (JUST_NOW, LONG_AGO):
        diagnosis = verdict(order(GENERATING, *ENDED_BADLY, onboarding=onboarding, idle=idle))
        assert diagnosis.condition is Condition.BLOCKED


@pytest.mark.parametrize("status", [GENERATING, BUILDING])
def test_within_grace_an_order_without_task_is_settling(status: OrderStatus) -> None:
    assert verdict(order(status, *ENDED_BADLY, idle=JUST_NOW)).condition is Condition.SETTLING


def test_grace_ends_exactly_when_it_is_over() -> None:
    grace = timedelta(minutes=2)
    at_the_end = order(GENERATING, *ENDED_BADLY, idle=grace)
    before = order(GENERATING, *ENDED_BADLY, idle=grace - timedelta(milliseconds=1))
    assert verdict(at_the_end, grace=grace).condition is Condition.FAILED
    assert verdict(before, grace=grace).condition is Condition.SETTLING


def test_a_run_ended_in_error_has_failed_despite_files() -> None:
    for files in (None, 0, 20):
        assert verdict(order(GENERATING, *ENDED_BADLY), files=files).condition is Condition.FAILED


def test_no_row_at_all_is_interrupted() -> None:
    assert verdict(order(GENERATING), files=None).condition is Condition.INTERRUPTED


def test_no_row_since_the_enqueue_is_interrupted() -> None:
    diagnosis = verdict(order(GENERATING, *ENDED_BADLY, "OPERATOR_ENQUEUE"), files=None)
    assert diagnosis.condition is Condition.INTERRUPTED


@pytest.mark.parametrize(
    ("files", "condition"),
    [(0, Condition.EMPTY), (4, Condition.EMPTY), (5, Condition.INTERRUPTED), (20, Condition.INTERRUPTED)],
)
def test_a_run_cut_short_is_empty_below_five_files(files: int, condition: Condition) -> None:
    assert verdict(order(GENERATING, *CUT_SHORT), files=files).condition is condition


def test_a_run_cut_short_with_uncounted_files_is_unknown() -> None:
    assert verdict(order(GENERATING, *CUT_SHORT), files=None).condition is Condition.UNKNOWN


def test_success_of_a_generating_order_is_interrupted() -> None:
    assert verdict(order(GENERATING, "START", "SUCCESS"), files=8).condition is Condition.INTERRUPTED


def test_building_after_a_cancel_is_held_until_enqueued() -> None:
    assert verdict(order(BUILDING, "START", "OPERATOR_CANCEL")).condition is Condition.HELD
    enqueued_since = order(BUILDING, "OPERATOR_CANCEL", "OPERATOR_ENQUEUE", "OPERATOR_ENQUEUE_FAILED")
    assert verdict(enqueued_since).condition is Condition.UNSTARTED


def test_building_with_a_complete_onboarding_is_unstarted() -> None:
    diagnosis = verdict(order(BUILDING))
    assert diagnosis.condition is Condition.UNSTARTED
    assert any("onboarding_completed_at" in text for text in diagnosis.evidence)


@pytest.mark.parametrize(
    "the_order",
    [
        order(OrderStatus.PENDING_PAYMENT, onboarding=Onboarding.MISSING),
        order(OrderStatus.PAID),
        order(OrderStatus.ONBOARDING_PENDING, idle=JUST_NOW),
        order(BUILDING, onboarding=Onboarding.PARTIAL),
        order(BUILDING, onboarding=Onboarding.MISSING, idle=JUST_NOW),
    ],
)
def test_before_the_onboarding_is_complete_it_waits(the_order: Order) -> None:
    assert verdict(the_order).condition is Condition.WAITING


@pytest.mark.parametrize("status", [OrderStatus.REVIEW, OrderStatus.DELIVERED])
def test_hollow_is_reported_only_with_check_hollow(status: OrderStatus) -> None:
    assert verdict(order(status), files=4, check_hollow=True).condition is Condition.HOLLOW
    assert verdict(order(status), files=5, check_hollow=True).condition is Condition.DONE
    assert verdict(order(status), files=4).condition is Condition.DONE
    assert verdict(order(status), files=None, check_hollow=True).condition is Condition.UNKNOWN


def test_cancelled_without_a_task_is_cancelled() -> None:
    assert verdict(order(OrderStatus.CANCELLED)).condition is Condition.CANCELLED


_FAULTS = {"duplicated", "ghost", "orphaned", "blocked", "failed", "interrupted", "empty", "unstarted", "hollow"}


@pytest.mark.parametrize("condition", list(Condition))
def test_faults_are_those_of_the_table(condition: Condition) -> None:
    if condition is Condition.UNKNOWN:
        assert condition.severity is Severity.UNKNOWN
    else:
        assert (condition.severity is Severity.FAULT) == (condition in _FAULTS)


_RUN_STEPS = ["START", "RESUME", "CLEANUP", "PHASE_1_ERROR", "GITHUB_ERROR", "WRITE_COMPLETE", *RunOutcome]
_JOURNAL_STEPS = [OPERATOR_ENQUEUE, Action.ENQUEUE.rollback_step, OPERATOR_RESET, OPERATOR_CANCEL, OPERATOR_REPAIR]
_STEPS = st.sampled_from([*_RUN_STEPS, *_JOURNAL_STEPS])
_ORDERS = st.builds(
    lambda status, onboarding, idle, steps: order(status, *steps, onboarding=onboarding, idle=idle),
    st.sampled_from([None, *OrderStatus]),
    st.sampled_from(Onboarding),
    st.one_of(st.none(), st.timedeltas(timedelta(seconds=-5), timedelta(days=400))),
    st.lists(_STEPS, max_size=12),
)
_TASKS = st.lists(
    st.builds(task, st.sampled_from(TaskState), st.uuids().map(str)), max_size=3, unique_by=lambda t: t.task_id
)
_FILES = st.one_of(st.none(), st.builds(SiteFiles, count=st.integers(0, 30), size=st.integers(0)))
_EVIDENCE = st.builds(
    Evidence,
    order_id=st.just(42),
    order=st.one_of(st.none(), _ORDERS),
    tasks=_TASKS,
    files=_FILES,
    unavailable=st.frozensets(st.sampled_from(Source)),
    check_hollow=st.booleans(),
)


@given(_EVIDENCE)
def test_any_evidence_gives_a_diagnosis_with_reasons(evidence: Evidence) -> None:
    diagnosis = diagnose(evidence)
    assert diagnosis.evidence
    assert all(text.strip() for text in diagnosis.evidence)


@given(_EVIDENCE)
def test_no_fault_without_database_and_broker(evidence: Evidence) -> None:
    if evidence.unavailable & {Source.DATABASE, Source.BROKER}:
        assert diagnose(evidence).condition is Condition.UNKNOWN


@given(_EVIDENCE)
def test_a_live_task_is_never_overlooked(evidence: Evidence) -> None:
    if evidence.tasks and diagnose(evidence).condition is not Condition.UNKNOWN:
        with_task = {"duplicated", "ghost", "orphaned", "running", "queued", "scheduled", "retrying"}
        assert diagnose(evidence).condition in with_task


@given(_ORDERS, _FILES)
def test_unknown_needs_a_null_status_or_uncounted_files(evidence: Order, files: SiteFiles) -> None:
    diagnosis = diagnose(Evidence(order_id=42, order=evidence, files=files))
    if diagnosis.condition is Condition.UNKNOWN:
        cut_short = evidence.status is GENERATING and files is None
        assert evidence.status is None or cut_short


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m"), (192, "3m 12s"), (11520, "3h 12m"), (90000, "1d 1h"), (-4, "0s")],
)
def test_ages_have_at_most_two_units(seconds: float, text: str) -> None:
    assert describe_age(timedelta(seconds=seconds)) == text


def test_readme_has_the_registry_as_a_table() -> None:
    _, _, table = README.partition("| condition | what it means |\n|---|---|\n")
    rows = table.partition("\n\n")[0].splitlines()
    assert rows == [f"| `{condition}` | {condition.description} |" for condition in Condition]
