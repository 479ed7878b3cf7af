"""Throughput of the last minutes as bars: observed depths, or depths derived from the log."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta

from hypothesis import given, strategies as st

from sitegenctl.domain.orders.run_reader import RunRow
from sitegenctl.domain.statistics.throughput import SPAN, WINDOW, Bar, Throughput

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BARS = int(WINDOW / SPAN)


def mark(log_id: int, step: str, age: timedelta, order_id: int = 42) -> RunRow:
    return RunRow(log_id=log_id, order_id=order_id, step=step, age=age)


def at(bars: list[Bar], age: timedelta) -> Bar:
    """Return the bar of the span that is ``age`` old."""
    return bars[BARS - 1 - int(age / SPAN)]


def bars_of(*marks: RunRow, now: datetime = NOW) -> list[Bar]:
    pulse = Throughput()
    pulse.note_rows(marks, now)
    return list(pulse.bars(now))


def test_the_whole_window_in_spans_the_newest_last() -> None:
    bars = bars_of(mark(1, "SUCCESS", timedelta(0)))
    assert len(bars) == BARS == 60
    assert bars[-1] == Bar(succeeded=1)
    assert set(bars[:-1]) == {Bar()}


def test_runs_are_counted_where_they_ended() -> None:
    bars = bars_of(
        mark(1, "ERROR", 20 * MINUTE, order_id=1),
        mark(2, "SUCCESS", 5 * MINUTE, order_id=2),
        mark(3, "SUCCESS", 5 * MINUTE, order_id=3),
        mark(4, "PHASE_1_ERROR", 1 * MINUTE, order_id=4),  # ends nothing
    )
    assert (at(bars, 20 * MINUTE).failed, at(bars, 20 * MINUTE).succeeded) == (1, 0)
    assert at(bars, 5 * MINUTE).succeeded == 2
    assert sum(bar.succeeded + bar.failed for bar in bars) == 3


def test_a_failed_run_with_two_error_rows_counts_once() -> None:
    steps = ("START", "ERROR", "ERROR", "START", "ERROR", "OPERATOR_ENQUEUE", "START", "SUCCESS")
    bars = bars_of(*(mark(number, step, (20 - number) * MINUTE) for number, step in enumerate(steps, 1)))
    assert [(bar.succeeded, bar.failed) for bar in bars if bar.succeeded or bar.failed] == [(0, 1), (0, 1), (1, 0)]
    assert (at(bars, 18 * MINUTE).failed, at(bars, 17 * MINUTE).failed) == (1, 0)


def test_a_skipped_run_is_neither_generated_nor_failed() -> None:
    bars = bars_of(mark(1, "START", 2 * MINUTE), mark(2, "SKIP", MINUTE), mark(3, "SKIP", MINUTE, order_id=43))
    assert set(bars) == {Bar()}


def test_depth_before_the_first_reading_comes_from_waits() -> None:
    bars = bars_of(
        mark(1, "OPERATOR_ENQUEUE", 10 * MINUTE, order_id=1),
        mark(2, "OPERATOR_RESET", 8 * MINUTE, order_id=2),
        mark(3, "START", 6 * MINUTE, order_id=1),
        mark(4, "RESUME", 4 * MINUTE, order_id=2),
    )
    depths = [bar.depth for bar in bars]
    assert at(bars, 9 * MINUTE).depth == 1
    assert at(bars, 7 * MINUTE).depth == 2
    assert at(bars, 5 * MINUTE).depth == 1
    assert (depths[0], depths[-1], max(depths)) == (0, 0, 2)
    assert not any(bar.observed for bar in bars)


def test_an_enqueued_order_without_a_start_still_waits() -> None:
    bars = bars_of(mark(1, "OPERATOR_REPAIR", 2 * MINUTE))
    assert [bar.depth for bar in bars[-4:]] == [1, 1, 1, 1]
    assert bars[-6].depth == 0


def test_an_order_enqueued_by_the_backend_adds_no_wait() -> None:
    assert {bar.depth for bar in bars_of(mark(1, "START", 5 * MINUTE), mark(2, "SUCCESS", MINUTE))} == {0}


def test_an_observed_depth_overrides_the_log() -> None:
    pulse = Throughput()
    pulse.note_rows([mark(1, "OPERATOR_ENQUEUE", 3 * MINUTE)], NOW)
    pulse.note_depth(7, NOW)
    pulse.note_depth(9, NOW + timedelta(seconds=1))
    pulse.note_depth(3, NOW + timedelta(seconds=2))
    bars = list(pulse.bars(NOW + timedelta(seconds=2)))
    assert bars[-1] == Bar(depth=9, observed=True)  # the most of its span
    assert bars[-3] == Bar(depth=1, observed=False)


def test_an_observed_empty_queue_overrides_the_log() -> None:
    """A task revoked without a log row: only the reading of the queue shows it."""
    pulse = Throughput()
    pulse.note_rows([mark(1, "OPERATOR_ENQUEUE", 3 * MINUTE)], NOW)
    pulse.note_depth(0, NOW)
    assert pulse.bars(NOW)[-1] == Bar(depth=0, observed=True)


def test_rows_are_counted_once() -> None:
    pulse = Throughput()
    rows = [mark(5, "SUCCESS", MINUTE, order_id=1), mark(6, "ERROR", MINUTE, order_id=2)]
    for _ in range(3):
        pulse.note_rows(rows, NOW)
    assert pulse.newest == 6
    assert sum(bar.succeeded + bar.failed for bar in pulse.bars(NOW)) == 2


def test_bars_shift_and_expire() -> None:
    pulse = Throughput()
    pulse.note_rows([mark(1, "SUCCESS", timedelta(0))], NOW)
    pulse.note_depth(4, NOW)
    for minutes in (0, 10, 29):
        then = NOW + minutes * MINUTE
        assert at(list(pulse.bars(then)), minutes * MINUTE) == Bar(depth=4, succeeded=1, observed=True)
    assert set(pulse.bars(NOW + WINDOW)) == {Bar()}


def test_a_clock_set_back_is_no_error() -> None:
    pulse = Throughput()
    pulse.note_depth(4, NOW)
    pulse.note_rows([mark(1, "SUCCESS", timedelta(0))], NOW)
    assert {bar.succeeded for bar in pulse.bars(NOW - 10 * MINUTE)} == {0}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["START", "RESUME", "SUCCESS", "ERROR", "SKIP", "OPERATOR_ENQUEUE", "WRITE_FILES"]),
            st.integers(0, 4000),
            st.integers(1, 4),
        )
    )
)
def test_any_log_makes_bars(rows: list[tuple[str, int, int]]) -> None:
    marks = [mark(n, step, timedelta(seconds=age), order) for n, (step, age, order) in enumerate(rows, 1)]
    bars = bars_of(*marks)
    assert len(bars) == BARS
    ended = sum(step in ("SUCCESS", "ERROR") and timedelta(seconds=age) < WINDOW for step, age, _ in rows)
    assert sum(bar.succeeded + bar.failed for bar in bars) <= ended
    assert all(0 <= bar.depth <= len(rows) for bar in bars)


def test_memory_stays_flat_over_hours_of_work() -> None:
    pulse = Throughput()

    def half_hours(first: int, count: int) -> int:
        log_id = first * 18000
        for second in range(first * 1800, (first + count) * 1800, 5):
            now = NOW + timedelta(seconds=second)
            steps = []
            for step in ("OPERATOR_ENQUEUE", "START", "SUCCESS"):
                log_id += 1
                steps.append(mark(log_id, step, timedelta(0), order_id=second))
            # Enqueued, and never logged again.
            steps.append(mark(log_id + 1, "OPERATOR_ENQUEUE", timedelta(0), order_id=10_000_000 + second))
            log_id += 1
            pulse.note_rows(steps, now)
            pulse.note_depth(second % 7, now)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        early = half_hours(0, 2)
        late = half_hours(2, 20)
    finally:
        tracemalloc.stop()
    assert late < early + 2_000_000
