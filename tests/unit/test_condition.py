from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from sitegenctl.domain.diagnosis.condition import Condition, Diagnosis, Evidence, Severity, Source, diagnose
from sitegenctl.domain.diagnosis.describe import describe_age, describe_time
from sitegenctl.domain.orders.order import JournalEntry, Onboarding, Order, OrderStatus
from sitegenctl.domain.orders.run import (
    OPERATOR_CANCEL,
    OPERATOR_ENQUEUE,
    OPERATOR_REPAIR,
    OPERATOR_RESET,
    RunOutcome,
)
from sitegenctl.domain.orders.site import SiteFiles
from sitegenctl.domain.plans.enqueue import plan_retry
from sitegenctl.domain.plans.plan import Action
from sitegenctl.domain.queue.task import LiveTask, TaskState
from sitegenctl.render.command import hint_text
from tests.support.values import NOW, order, snapshot, task

NOW_AGO = NOW - timedelta(hours=1)
JUST_NOW = timedelta(seconds=5)


def verdict(the_order: Order | None, *tasks: LiveTask, files: int | None = 0, **facts: object) -> Diagnosis:
    counted = None if files is None else SiteFiles(count=files, size=files * 100)
    return diagnose(Evidence(order_id=42, order=the_order, tasks=tasks, files=counted, **facts))


UNTIL = NOW + timedelta(minutes=3)
GENERATING, BUILDING = OrderStatus.GENERATING, OrderStatus.BUILDING
ENDED = (OrderStatus.CANCELLED, OrderStatus.REVIEW, OrderStatus.DELIVERED)
CUT_SHORT = ("OPERATOR_ENQUEUE", "START", "PHASE_1_START")
ENDED_BADLY = ("OPERATOR_ENQUEUE", "START", "PHASE_1_START", "ERROR")


@pytest.mark.parametrize(
    ("the_order", "files", "condition"),
    [
        (order(42, None), 0, Condition.UNKNOWN),
        (order(42, GENERATING, *CUT_SHORT, run_lock_held=True), 0, Condition.RUNNING),
        # A run that ended in an error has failed, whatever files there are.
        (order(42, GENERATING, *ENDED_BADLY), None, Condition.FAILED),
        (order(42, GENERATING, *ENDED_BADLY), 0, Condition.FAILED),
        (order(42, GENERATING, *ENDED_BADLY), 20, Condition.FAILED),
        # No row at all, or none since the last enqueue.
        (order(42, GENERATING), None, Condition.INTERRUPTED),
        (order(42, GENERATING, *ENDED_BADLY, "OPERATOR_ENQUEUE"), None, Condition.INTERRUPTED),
        (order(42, GENERATING, "START", "SUCCESS"), 8, Condition.INTERRUPTED),
        # A run that was cut short: fewer than five files are an empty site.
        (order(42, GENERATING, *CUT_SHORT), 0, Condition.EMPTY),
        (order(42, GENERATING, *CUT_SHORT), 4, Condition.EMPTY),
        (order(42, GENERATING, *CUT_SHORT), 5, Condition.INTERRUPTED),
        (order(42, GENERATING, *CUT_SHORT), 20, Condition.INTERRUPTED),
        (order(42, GENERATING, *CUT_SHORT), None, Condition.UNKNOWN),
        # Only a missing onboarding blocks generation, also within the grace period.
        (order(42, GENERATING, *ENDED_BADLY, onboarding=Onboarding.MISSING), 0, Condition.BLOCKED),
        (order(42, GENERATING, *ENDED_BADLY, onboarding=Onboarding.PARTIAL), 0, Condition.FAILED),
        (order(42, GENERATING, *ENDED_BADLY, onboarding=Onboarding.MISSING, idle=JUST_NOW), 0, Condition.BLOCKED),
        (order(42, GENERATING, onboarding=Onboarding.PARTIAL, idle=JUST_NOW), 0, Condition.SETTLING),
        # A failure is shown at once, a run that was cut short after the grace period.
        (order(42, GENERATING, *ENDED_BADLY, idle=JUST_NOW), 0, Condition.FAILED),
        (order(42, GENERATING, *CUT_SHORT, idle=JUST_NOW), 0, Condition.SETTLING),
        (order(42, GENERATING, *ENDED_BADLY, "OPERATOR_ENQUEUE", idle=JUST_NOW), 0, Condition.SETTLING),
        (order(42, BUILDING, *ENDED_BADLY, idle=JUST_NOW), 0, Condition.SETTLING),
        # After a cancel, a building order is held until it is enqueued.
        (order(42, BUILDING, "START", "OPERATOR_CANCEL"), 0, Condition.HELD),
        (order(42, BUILDING, "OPERATOR_CANCEL", "OPERATOR_ENQUEUE", "OPERATOR_ENQUEUE_FAILED"), 0, Condition.UNSTARTED),
        # Before its onboarding is complete, an order waits.
        (order(42, OrderStatus.PENDING_PAYMENT, onboarding=Onboarding.MISSING), 0, Condition.WAITING),
        (order(42, OrderStatus.PAID), 0, Condition.WAITING),
        (order(42, OrderStatus.ONBOARDING_PENDING, idle=JUST_NOW), 0, Condition.WAITING),
        (order(42, BUILDING, onboarding=Onboarding.PARTIAL), 0, Condition.WAITING),
        (order(42, BUILDING, onboarding=Onboarding.MISSING, idle=JUST_NOW), 0, Condition.WAITING),
        (order(42, OrderStatus.CANCELLED), 0, Condition.CANCELLED),
    ],
)
def test_condition_without_a_live_task(the_order: Order, files: int | None, condition: Condition) -> None:
    assert verdict(the_order, files=files).condition is condition


@pytest.mark.parametrize(
    ("the_order", "state", "condition"),
    [
        *((order(42, status), TaskState.QUEUED, Condition.GHOST) for status in ENDED),
        (order(42, OrderStatus.REVIEW, idle=JUST_NOW), TaskState.RUNNING, Condition.RUNNING),
        *(
            (order(42, status, *ENDED_BADLY), state, condition)
            for status in (GENERATING, BUILDING)
            for state, condition in (
                (TaskState.ORPHANED, Condition.ORPHANED),
                (TaskState.RUNNING, Condition.RUNNING),
                (TaskState.QUEUED, Condition.QUEUED),
                (TaskState.RESERVED, Condition.QUEUED),
                (TaskState.SCHEDULED, Condition.SCHEDULED),
                (TaskState.RETRYING, Condition.RETRYING),
            )
        ),
    ],
)
def test_condition_with_a_live_task(the_order: Order, state: TaskState, condition: Condition) -> None:
    assert verdict(the_order, task(state)).condition is condition


@pytest.mark.parametrize("status", ENDED[1:])
@pytest.mark.parametrize(
    ("files", "check_hollow", "condition"),
    [
        (4, True, Condition.HOLLOW),
        (5, True, Condition.DONE),
        (4, False, Condition.DONE),
        (None, True, Condition.UNKNOWN),
    ],
)
def test_finished_order_is_hollow_only_if_checked(
    status: OrderStatus, files: int | None, check_hollow: bool, condition: Condition
) -> None:
    assert verdict(order(42, status), files=files, check_hollow=check_hollow).condition is condition


@pytest.mark.parametrize("source", [Source.DATABASE, Source.BROKER])
@pytest.mark.parametrize("status", OrderStatus)
def test_without_database_or_broker_all_is_unknown(source: Source, status: OrderStatus) -> None:
    diagnosis = verdict(order(42, status, *ENDED_BADLY), files=20, unavailable=frozenset({source}))
    assert diagnosis.condition is Condition.UNKNOWN
    assert source in diagnosis.evidence[0]


def test_a_task_a_silent_worker_may_have_is_unknown() -> None:
    for until in (None, UNTIL):
        diagnosis = verdict(order(42, GENERATING), task(TaskState.UNACCOUNTED, until=until), taken_at=NOW)
        assert (diagnosis.condition, diagnosis.until) == (Condition.UNKNOWN, until)
        assert "--worker-dead" in (hint_text(diagnosis.remedy) or "")


def test_evidence_of_an_unaccounted_task_has_both_times() -> None:
    live = task(TaskState.UNACCOUNTED, until=UNTIL, delivered_at=NOW - timedelta(minutes=7))
    (evidence,) = verdict(order(42, GENERATING), live, taken_at=NOW).evidence
    assert evidence == (
        "task t1 unaccounted: delivered 7m ago; no worker that responds has it; a worker that is shutting down, paused"
        f" or cut off may still be running it until {describe_time(UNTIL, NOW)}"
    )


@pytest.mark.parametrize("status", [GENERATING, BUILDING])
def test_unreadable_message_makes_candidate_orders_unknown(status: OrderStatus) -> None:
    assert verdict(order(42, status), files=8, unattributed=1).condition is Condition.UNKNOWN
    assert verdict(order(42, status), task(TaskState.QUEUED), unattributed=1).condition is Condition.QUEUED
    assert verdict(order(42, OrderStatus.REVIEW), files=8, unattributed=1).condition is Condition.DONE


@pytest.mark.parametrize("status", [GENERATING, BUILDING])
@pytest.mark.parametrize("files", [0, 8])
def test_run_that_may_go_on_is_unknown(status: OrderStatus, files: int) -> None:
    the_order = order(42, status, *CUT_SHORT)
    diagnosis = verdict(the_order, files=files, may_be_running=True, possible_until=UNTIL, taken_at=NOW)
    assert (diagnosis.condition, diagnosis.until) == (Condition.UNKNOWN, UNTIL)
    assert status is BUILDING or "last step PHASE_1_START" in diagnosis.evidence[0]


@pytest.mark.parametrize("status", [OrderStatus.CANCELLED, OrderStatus.PAID, BUILDING])
def test_an_order_is_held_wherever_an_operator_sent_it(status: OrderStatus) -> None:
    journal = JournalEntry(step=OPERATOR_CANCEL, after=status)
    diagnosis = verdict(order(42, status, "START", "ERROR", OPERATOR_CANCEL, journal=journal))
    assert diagnosis.condition is Condition.HELD
    moved = verdict(order(42, OrderStatus.PENDING_PAYMENT, OPERATOR_CANCEL, journal=journal))
    assert moved.condition is Condition.WAITING


def test_a_held_order_shows_that_beat_will_start_it() -> None:
    ready = order(42, BUILDING, OPERATOR_CANCEL, onboarding_completed_at=NOW.replace(tzinfo=None))
    assert any("beat" in text for text in verdict(ready).evidence)
    assert not any("beat" in text for text in verdict(order(42, BUILDING, OPERATOR_CANCEL)).evidence)


@pytest.mark.parametrize(
    ("dates", "authoritative", "condition"),
    [
        ({"enqueued_at": NOW_AGO}, True, Condition.GHOST),
        ({"delivered_at": NOW_AGO}, True, Condition.GHOST),
        ({"enqueued_at": NOW}, True, Condition.UNKNOWN),
        ({"enqueued_at": None}, True, Condition.UNKNOWN),
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
    diagnosis = verdict(order(42, GENERATING), task(TaskState.RUNNING, "a"), task(TaskState.QUEUED, "b"))
    assert diagnosis.condition is Condition.DUPLICATED
    assert diagnosis.severity is Severity.FAULT
    assert {"a" in text or "b" in text for text in diagnosis.evidence[1:]} == {True}


def test_evidence_of_an_orphan_has_its_proof() -> None:
    diagnosis = verdict(order(42, GENERATING), task(TaskState.ORPHANED, reason="its time limit has passed"))
    assert (diagnosis.condition, diagnosis.evidence[-1]) == (
        Condition.ORPHANED,
        "no worker that responds has it; its time limit has passed",
    )


def test_a_ghost_shows_what_the_generator_will_do() -> None:
    diagnosis = verdict(order(42, OrderStatus.CANCELLED), task(TaskState.RUNNING))
    assert diagnosis.condition is Condition.GHOST
    assert diagnosis.evidence[-1] == "when it ends, the generator sets the order to REVIEW"
    assert hint_text(diagnosis.remedy) == "sitegenctl cancel 42 --terminate"


def test_grace_ends_exactly_when_it_is_over() -> None:
    grace = timedelta(minutes=2)
    at_the_end = order(42, GENERATING, *CUT_SHORT, idle=grace)
    before = order(42, GENERATING, *CUT_SHORT, idle=grace - timedelta(milliseconds=1))
    assert verdict(at_the_end, grace=grace, files=8).condition is Condition.INTERRUPTED
    assert verdict(before, grace=grace).condition is Condition.SETTLING


@pytest.mark.parametrize(
    ("attempts", "idle", "wait"),
    [(1, JUST_NOW, "1m 55s"), (2, timedelta(minutes=3), "1m"), (1, timedelta(minutes=2), None)],
)
def test_a_failure_shows_when_its_next_attempt_is_permitted(attempts: int, idle: timedelta, wait: str | None) -> None:
    failed = order(42, GENERATING, *ENDED_BADLY * attempts, idle=idle)
    diagnosis = verdict(failed, grace=timedelta(minutes=2))
    retry = "sitegenctl retry-failed 42"
    if wait is None:
        assert diagnosis.evidence[0] == "the last run ended in ERROR, and nothing will retry it"
        assert hint_text(diagnosis.remedy) == retry
        return
    assert diagnosis.evidence[0].startswith(f"the last run ended in ERROR; the next attempt is permitted in {wait}")
    assert hint_text(diagnosis.remedy) == f"wait {wait}; then: {retry}"
    # The plan skips it for the same time.
    observed = snapshot(failed, grace=timedelta(minutes=2))
    plan = plan_retry(
        observed, max_attempts=3, match=None, older_than=timedelta(0), force=False, new_task_id=lambda: "T"
    )
    assert f"the next is due in {wait}" in plan.left_alone[0].reason


def test_exhausted_attempts_have_no_next_attempt() -> None:
    diagnosis = verdict(order(42, GENERATING, *ENDED_BADLY * 3, idle=JUST_NOW))
    assert (diagnosis.condition, diagnosis.evidence[-1]) == (Condition.FAILED, "attempts exhausted (3 of 3)")


def test_building_with_a_complete_onboarding_is_unstarted() -> None:
    diagnosis = verdict(order(42, BUILDING))
    assert diagnosis.condition is Condition.UNSTARTED
    assert any("onboarding_completed_at" in text for text in diagnosis.evidence)


_FAULTS = {"duplicated", "ghost", "orphaned", "blocked", "failed", "interrupted", "empty", "unstarted", "hollow"}


@pytest.mark.parametrize("condition", list(Condition))
def test_faults_are_those_of_the_table(condition: Condition) -> None:
    if condition is Condition.UNKNOWN:
        assert condition.severity is Severity.UNKNOWN
    else:
        is_fault = condition.severity is Severity.FAULT
        assert is_fault == (condition in _FAULTS), f"{condition} is {condition.severity}: correct it, or _FAULTS"


_RUN_STEPS = ["START", "RESUME", "CLEANUP", "PHASE_1_ERROR", "GITHUB_ERROR", "WRITE_COMPLETE", *RunOutcome]
_JOURNAL_STEPS = [OPERATOR_ENQUEUE, Action.ENQUEUE.rollback_step, OPERATOR_RESET, OPERATOR_CANCEL, OPERATOR_REPAIR]
_STEPS = st.sampled_from([*_RUN_STEPS, *_JOURNAL_STEPS])
_ORDERS = st.builds(
    lambda status, onboarding, idle, steps: order(42, status, *steps, onboarding=onboarding, idle=idle),
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


@pytest.mark.parametrize(
    ("state", "options"),
    [
        (TaskState.QUEUED, ()),
        (TaskState.RUNNING, (("terminate", True),)),
        (TaskState.UNACCOUNTED, (("worker_dead", True),)),
    ],
)
def test_remedy_of_a_missing_order_is_not_refused(state: TaskState, options: tuple[tuple[str, bool], ...]) -> None:
    diagnosis = verdict(None, task(state), taken_at=NOW)
    assert diagnosis.condition is Condition.GHOST
    assert diagnosis.remedy is not None
    assert diagnosis.remedy.options == options
