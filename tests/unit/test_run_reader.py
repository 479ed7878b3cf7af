"""Runs of many orders: when they began and ended, and the time that they spent in each stage."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import example, given, strategies as st

from sitegenctl.domain.orders.run import OUTCOME_STEPS, STARTS, RunOutcome
from sitegenctl.domain.orders.run_reader import LoggedRun, RunRow, RunStream, read_history
from tests.support.values import STEPS, T0


def runs_of(*rows: tuple[str, float], order_id: int = 42) -> list[LoggedRun]:
    """Return the runs of one order whose rows were written at these seconds."""
    stream = RunStream()
    over = [stream.feed(row(log_id, step, at, order_id)) for log_id, (step, at) in enumerate(rows, 1)]
    return [run for run in over if run is not None] + list(stream.close())


def row(log_id: int, step: str, at: float, order_id: int = 42) -> RunRow:
    message = f"failed at {at:g}" if step == "ERROR" else None
    return RunRow(log_id=log_id, order_id=order_id, step=step, at=T0 + timedelta(seconds=at), message=message)


@pytest.mark.parametrize(("repeated", "seconds"), [(True, 1200), (False, 0)])
def test_time_that_falls_within_a_run(repeated: bool, seconds: int) -> None:
    """Only at the end of daylight saving time a fall is an hour; another clock was merely corrected."""
    stream = RunStream()
    stream.feed(replace(row(1, "START", 0), is_repeated=repeated))
    stream.feed(replace(row(2, "SUCCESS", -2400), is_repeated=repeated))
    (run,) = stream.close()
    assert run.duration == seconds


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["OPERATOR_ENQUEUE:a", "START"], "a"),
        (["OPERATOR_ENQUEUE:a", "START", "START"], "a"),  # as Celery's retries do
        (["OPERATOR_ENQUEUE:a", "START", "OPERATOR_REPAIR:b", "START"], "b"),
        (["OPERATOR_ENQUEUE:a", "START", "OPERATOR_ENQUEUE:b", "OPERATOR_ENQUEUE_FAILED", "START"], "a"),
        (["OPERATOR_ENQUEUE:a", "OPERATOR_CANCEL", "OPERATOR_UNDO:b", "START"], "b"),
        (["OPERATOR_ENQUEUE:a", "OPERATOR_CANCEL", "OPERATOR_UNDO:b", "OPERATOR_UNDO_FAILED", "START"], "a"),
        (["START"], None),
    ],
)
def test_run_has_the_task_that_was_published_last(rows: list[str], expected: str | None) -> None:
    stream = RunStream()
    for number, (step, _, task_id) in enumerate((each.partition(":") for each in rows), 1):
        stream.feed(replace(row(number, step, number), task_id=task_id or None))
    (run,) = stream.close()
    assert run.enqueued_id == expected


def test_runs_and_stages_have_durations() -> None:
    (run,) = runs_of(
        *(("START", 0), ("PHASE_1_START", 2), ("AI_STRATEGY", 5), ("PHASE_1_COMPLETE", 9), ("FETCH_DATA", 10)),
        *(("TEMPLATE_START", 11), ("WRITE_FILES", 31), ("FINALIZE", 40), ("SUCCESS", 41), ("DNS_RECORD", 100)),
    )
    assert (run.outcome, run.duration, run.is_newest) == (RunOutcome.SUCCESS, 41, True)
    assert run.stages == {"starting": 2, "briefing": 8, "reading": 1, "building": 20, "writing": 9, "finishing": 1}


def test_a_failed_run_has_its_stage_and_error() -> None:
    (run,) = runs_of(("START", 0), ("FETCH_DATA", 1), ("BUILD_PROMPT", 2), ("SOMETHING_NEW", 3), ("ERROR", 32))
    assert run.stage is not None
    assert (run.outcome, run.duration, run.stage.name) == (RunOutcome.ERROR, 32, "building")
    assert run.error == "failed at 32"
    assert run.stages["building"] == 30


def test_a_resumed_run_is_one_with_its_preamble_and_its_start() -> None:
    preamble = [("RESUME", 0), ("RESUME_DECISION", 1), ("CLEANUP", 2), ("CLEANUP_WARNING", 2)]
    (run,) = runs_of(*preamble, ("START", 3), ("SUCCESS", 9))
    assert (run.duration, run.stages) == (9, {"starting": 9})


def test_the_next_start_ends_a_run_without_an_outcome() -> None:
    cut, done = runs_of(("START", 0), ("FETCH_DATA", 1), ("START", 600), ("SUCCESS", 640))
    assert (cut.outcome, cut.is_newest, cut.last_at) == (None, False, T0 + timedelta(seconds=1))
    assert (done.outcome, done.duration, done.is_newest) == (RunOutcome.SUCCESS, 40, True)


def test_the_last_outcome_counts_and_all_times_are_kept() -> None:
    (run,) = runs_of(("START", 0), ("ERROR", 5), ("ERROR", 6), ("SUCCESS", 9))
    assert (run.outcome, run.duration) == (RunOutcome.SUCCESS, 9)
    assert run.outcomes == {
        RunOutcome.ERROR: T0 + timedelta(seconds=5),
        RunOutcome.SUCCESS: T0 + timedelta(seconds=9),
    }


def test_a_failed_run_ended_with_its_first_error_row() -> None:
    (run,) = runs_of(("START", 0), ("ERROR", 5), ("ERROR", 65))
    assert (run.outcome, run.duration, run.error) == (RunOutcome.ERROR, 5, "failed at 65")


def test_a_later_skip_does_not_undo_a_success() -> None:
    made, skipped = runs_of(("START", 0), ("SUCCESS", 9), ("SKIP", 500))
    assert (made.outcome, made.duration) == (RunOutcome.SUCCESS, 9)
    assert (skipped.outcome, skipped.duration) == (RunOutcome.SKIP, None)
    (given_up,) = runs_of(("START", 0), ("FINALIZE", 5), ("SKIP", 6))
    assert given_up.outcome is RunOutcome.SKIP


def test_a_run_without_its_start_has_no_duration() -> None:
    (run,) = runs_of(("WRITE_FILES", 0), ("SUCCESS", 5))
    assert (run.outcome, run.duration) == (RunOutcome.SUCCESS, None)
    enqueued = runs_of(("OPERATOR_ENQUEUE", 0), ("PHASE_1_SKIP", 2), ("SUCCESS", 5))
    assert [run.duration for run in enqueued] == [3]


def test_a_rolled_back_enqueue_does_not_begin_a_run() -> None:
    (run,) = runs_of(("START", 0), ("OPERATOR_ENQUEUE", 1), ("OPERATOR_ENQUEUE_FAILED", 2), ("SUCCESS", 3))
    assert (run.outcome, run.duration) == (RunOutcome.SUCCESS, 3)


def test_a_rolled_back_enqueue_does_not_split_a_resumed_run() -> None:
    steps = ("RESUME", "OPERATOR_ENQUEUE", "OPERATOR_ENQUEUE_FAILED", "START")
    (run,) = runs_of(*((step, number) for number, step in enumerate(steps)))
    assert run.began_at == T0
    assert read_history(steps).attempts == 1


def test_a_separate_skip_is_no_attempt() -> None:
    history = read_history(("START", "ERROR", "SKIP"))
    assert history.last_run is not None
    assert (history.last_run.outcome, history.attempts) == (RunOutcome.SKIP, 1)


def test_orders_do_not_mix() -> None:
    stream = RunStream()
    for log_id, (step, at, order_id) in enumerate(
        [("START", 0, 1), ("START", 1, 2), ("ERROR", 2, 1), ("SUCCESS", 9, 2)]
    ):
        assert stream.feed(row(log_id, step, at, order_id)) is None
    assert [(run.order_id, run.outcome, run.duration) for run in stream.close()] == [
        (1, RunOutcome.ERROR, 2),
        (2, RunOutcome.SUCCESS, 8),
    ]


def test_unusable_times_do_not_affect_other_rows() -> None:
    stream = RunStream()
    stream.feed(row(1, "START", 10))
    stream.feed(RunRow(log_id=2, order_id=42, step="FETCH_DATA", at=None))
    stream.feed(row(3, "WRITE_FILES", 4))
    stream.feed(row(4, "SUCCESS", 5))
    (run,) = stream.close()
    assert (run.outcome, run.duration) == (RunOutcome.SUCCESS, 0)
    assert run.stages == {"reading": 0, "writing": 1}


def outcomes(runs: list[LoggedRun]) -> list[RunOutcome]:
    return [run.outcome for run in runs if run.outcome is not None]


@given(st.lists(st.sampled_from(STEPS), max_size=30))
@example(["RESUME", "OPERATOR_ENQUEUE", "OPERATOR_ENQUEUE_FAILED", "START"])
def test_stream_and_history_read_the_same_runs(steps: list[str]) -> None:
    runs = runs_of(*((step, number) for number, step in enumerate(steps)))
    history = read_history(steps)
    newest = [run for run in runs if run.is_newest]
    if history.last_run is not None:
        assert [run.outcome for run in newest] == [history.last_run.outcome]
    # What is begun since the last success is the last of all that was begun.
    assert len(runs) >= history.attempts
    assert len(newest) <= 1
    assert all(run.duration is None or run.duration >= 0 for run in runs)
    # A rollback follows its enqueue at once: no worker received that task.
    bounds = [step for step in steps if step.startswith("OPERATOR_") or step in STARTS | OUTCOME_STEPS]
    if not any(step.endswith("_FAILED") for step in steps):
        assert outcomes(runs_of(*((step, number) for number, step in enumerate(bounds)))) == outcomes(runs)
    # Each of them once: what an operator's rows divide, START and RESUME divide too.
    assert sum(len(run.outcomes) for run in runs) <= sum(step in set(RunOutcome) for step in steps)
