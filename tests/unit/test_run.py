"""Runs, read from the log's steps."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sitegenctl.domain.orders.run import WORKER_DEAD, Announcement, Run, RunOutcome
from sitegenctl.domain.orders.run_reader import read_history
from sitegenctl.domain.orders.stage import stage_of

WHOLE = ("START", "PHASE_1_START", "PHASE_1_COMPLETE", "WRITE_COMPLETE", "FINALIZE", "SUCCESS")


@pytest.mark.parametrize(
    ("steps", "outcome", "attempts"),
    [
        (WHOLE, RunOutcome.SUCCESS, 0),
        (("START", "ERROR"), RunOutcome.ERROR, 1),
        (("START", "PHASE_1_START"), None, 1),
        # A child killed by the kernel is redelivered at once: two STARTs with no ERROR between are two runs.
        (("START", "PHASE_1_START", "START", "ERROR"), RunOutcome.ERROR, 2),
        (("RESUME", "RESUME_DECISION", "CLEANUP", "START", "ERROR"), RunOutcome.ERROR, 1),
        (("RESUME", "RESUME"), None, 2),
        # START isn't guaranteed.
        (("PHASE_1_START", "ERROR"), RunOutcome.ERROR, 1),
        # Judge by the step: rows of phases and integrations may carry status error in a run that succeeds.
        (("START", "PHASE_1_ERROR", "GITHUB_ERROR", "SUCCESS"), RunOutcome.SUCCESS, 0),
        (("START", "PHASE_1_ERROR"), None, 1),
        # A run's outcome is its last, and rows behind it still belong to it.
        (("START", "ERROR", "PAGES_ERROR"), RunOutcome.ERROR, 1),
        (("START", "ERROR", "SUCCESS"), RunOutcome.SUCCESS, 0),
        (("START", "ERROR", "START", "ERROR", "START", "PHASE_1_START"), None, 3),
        (("START", "ERROR", "START", "SUCCESS", "START", "ERROR"), RunOutcome.ERROR, 1),
        (("START", "SKIP"), RunOutcome.SKIP, 1),
        (("START", "ERROR", "OPERATOR_RESET", "START", "ERROR"), RunOutcome.ERROR, 1),
    ],
)
def test_outcome_and_attempts(steps: tuple[str, ...], outcome: RunOutcome | None, attempts: int) -> None:
    history = read_history(steps)
    assert history.last_run is not None
    assert (history.last_run.outcome, history.attempts) == (outcome, attempts)


def test_the_first_row_after_an_enqueue_begins_a_run() -> None:
    assert read_history(("START", "ERROR", "OPERATOR_ENQUEUE")).last_run is None
    history = read_history(("START", "ERROR", "OPERATOR_ENQUEUE", "PHASE_1_START"))
    assert history.last_run is not None
    assert history.last_run.outcome is None
    assert history.attempts == 2


def test_a_rolled_back_enqueue_is_ignored() -> None:
    history = read_history(("START", "ERROR", "OPERATOR_ENQUEUE", "OPERATOR_ENQUEUE_FAILED"))
    assert history.last_run is not None
    assert history.last_run.outcome is RunOutcome.ERROR
    assert history.last_journal == "OPERATOR_ENQUEUE_FAILED"


@pytest.mark.parametrize(
    ("step", "command", "attempts"),
    [
        ("OPERATOR_RESET", "reset", 1),
        ("OPERATOR_RESET", None, 1),
        *[("OPERATOR_RESET", command, 3) for command in ("maintain", "reset-empty")],
        *[("OPERATOR_ENQUEUE", command, 3) for command in ("maintain", "retry-failed", "enqueue", None)],
        *[("OPERATOR_REPAIR", command, 3) for command in ("maintain", "repair")],
        ("OPERATOR_CANCEL", "cancel", 3),
    ],
)
def test_only_a_person_s_reset_gives_new_attempts(step: str, command: str | None, attempts: int) -> None:
    steps = ("OPERATOR_ENQUEUE", "START", "START", step, "START")
    assert read_history(steps, ["start-stuck", command]).attempts == attempts


def test_an_empty_log_has_no_run() -> None:
    history = read_history(())
    assert (history.last_run, history.attempts, history.last_journal) == (None, 0, None)


def test_the_journal_decides_nothing_about_a_run() -> None:
    history = read_history(("START", "ERROR", "OPERATOR_REPAIR"))
    assert history.last_run is not None
    assert history.last_run.outcome is RunOutcome.ERROR
    assert history.last_journal == "OPERATOR_REPAIR"


@pytest.mark.parametrize(
    ("steps", "first"),
    [
        (("START", "PHASE_1_START"), 0),
        (("START", "PHASE_1_START", "START", "PHASE_1_START"), 2),
        (("RESUME", "RESUME_DECISION", "CLEANUP", "START", "PHASE_1_START"), 0),
        (("START", "ERROR", "OPERATOR_ENQUEUE", "PHASE_1_START", "FINALIZE"), 3),
        (("START", "ERROR", "OPERATOR_ENQUEUE", "OPERATOR_ENQUEUE_FAILED"), 0),
    ],
)
def test_run_began_with_its_first_row(steps: tuple[str, ...], first: int) -> None:
    ages = [timedelta(minutes=len(steps) - index) for index in range(len(steps))]
    last_run = read_history(steps, ages=ages).last_run
    assert last_run is not None
    assert last_run.began == ages[first]


@pytest.mark.parametrize(
    ("steps", "is_its_own"),
    [
        (("START", "PHASE_1_START"), True),
        (("RESUME", "RESUME_DECISION", "START"), True),
        (("START", "OPERATOR_ENQUEUE", "OPERATOR_ENQUEUE_FAILED"), True),
        # The newest START is that of an earlier run.
        (("START", "ERROR", "OPERATOR_ENQUEUE", "PHASE_1_START"), False),
        (("PHASE_1_START",), False),
    ],
)
def test_announcement_belongs_to_the_run_that_wrote_it(steps: tuple[str, ...], is_its_own: bool) -> None:
    last_run = read_history(steps, announcement=Announcement(task_id="t-1", takes_lock=True)).last_run
    assert last_run is not None
    assert (last_run.task_id, last_run.takes_lock) == (("t-1", True) if is_its_own else (None, False))


@pytest.mark.parametrize(
    ("steps", "command", "cut_short"),
    [
        (("START", "OPERATOR_REPAIR"), WORKER_DEAD, True),
        (("START", "OPERATOR_REPAIR_FAILED"), WORKER_DEAD, True),
        (("START", "OPERATOR_REPAIR"), "repair", False),
        (("START", "ERROR", "OPERATOR_REPAIR"), WORKER_DEAD, False),
        # The worker that a person took for dead writes again, or another run begins.
        (("START", "OPERATOR_REPAIR", "PHASE_1_START"), WORKER_DEAD, False),
        (("START", "OPERATOR_REPAIR", "START"), WORKER_DEAD, False),
    ],
)
def test_worker_dead_closes_an_open_run(steps: tuple[str, ...], command: str, cut_short: bool) -> None:
    last_run = read_history(steps, [command]).last_run
    assert last_run is not None
    assert last_run.cut_short is cut_short


def test_worker_dead_without_a_run_leaves_none() -> None:
    assert read_history(("OPERATOR_REPAIR",), [WORKER_DEAD]).last_run is None


def test_run_without_times_has_no_age() -> None:
    assert read_history(("START",)).last_run == Run(outcome=None, last_step="START", stage=stage_of("START"))


@pytest.mark.parametrize(
    ("steps", "cut_short"),
    [
        (["START", "OPERATOR_CANCEL"], True),
        (["START", "OPERATOR_CANCEL", "OPERATOR_CANCEL_FAILED"], False),
        (["START", "OPERATOR_CANCEL", "AI_STRATEGY"], False),  # it goes on in spite of it
        (["START", "OPERATOR_CANCEL", "START"], False),
        (["START", "OPERATOR_CANCEL", "AI_STRATEGY", "OPERATOR_CANCEL_FAILED"], False),
    ],
)
def test_a_cancel_that_succeeded_ends_the_run(steps: list[str], cut_short: bool) -> None:
    last_run = read_history(steps).last_run
    assert last_run is not None
    assert last_run.cut_short is cut_short
