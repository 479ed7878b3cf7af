"""Runs summed up, and why they failed."""

from __future__ import annotations

import time
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from sitegenctl.domain.orders.run import RunCounts, RunOutcome
from sitegenctl.domain.orders.run_reader import LoggedRun
from sitegenctl.domain.orders.stage import stage_of
from sitegenctl.domain.statistics.failure_reasons import MAX_REASON, reason_of
from sitegenctl.domain.statistics.log_window import LogWindow
from sitegenctl.domain.statistics.statistics import Collector, Statistics, durations
from sitegenctl.render.statistics import bar, brief, rate_words, sparkline

UNTIL = datetime.fromisoformat("2026-03-08T12:30")
HOUR = timedelta(hours=1)


def run(
    outcome: RunOutcome | None = RunOutcome.SUCCESS,
    *,
    ago: timedelta = HOUR,
    seconds: float | None = 60,
    order_id: int = 42,
    error: str | None = None,
    is_newest: bool = True,
) -> LoggedRun:
    ended = UNTIL - ago
    return LoggedRun(
        order_id=order_id,
        outcome=outcome,
        outcomes={outcome: ended} if outcome else {},
        began_at=None if seconds is None else ended - timedelta(seconds=seconds),
        last_at=ended,
        stages={"building": 40.0, "writing": 20.0},
        stage=stage_of("WRITE_FILES"),
        error=error,
        is_newest=is_newest,
    )


def collected(*runs: LoggedRun, days: float = 7) -> Statistics:
    collector = Collector(
        LogWindow(since=UNTIL - timedelta(days=days), until=UNTIL, read_at=UNTIL, first_id=1, last_id=99)
    )
    for each in runs:
        collector.add(each)
    return collector.result()


def test_a_run_counts_where_it_ended() -> None:
    statistics = collected(
        run(ago=timedelta(days=7, seconds=1)),
        run(ago=timedelta(days=7)),
        run(RunOutcome.ERROR, ago=timedelta(0), error="no"),
        run(ago=-timedelta(seconds=1)),
    )
    assert statistics.runs == RunCounts(succeeded=1, failed=1)


def test_skipped_runs_take_no_time_and_no_part_in_success() -> None:
    statistics = collected(run(), run(RunOutcome.SKIP, seconds=1), run(RunOutcome.SKIP, seconds=None))
    assert (statistics.runs.skipped, statistics.runs.success_rate, statistics.untimed, statistics.orders) == (
        2,
        1.0,
        0,
        1,
    )
    assert statistics.generated is not None
    assert statistics.generated.count == 1


def test_only_older_runs_without_an_outcome_are_cut_short() -> None:
    assert collected(run(None, is_newest=False), run(None, is_newest=True)).cut_short == 1


def test_a_run_without_a_start_counts_without_duration() -> None:
    statistics = collected(run(seconds=None), run(seconds=10))
    assert (statistics.runs.succeeded, statistics.untimed) == (2, 1)
    assert statistics.generated is not None
    assert (statistics.generated.count, statistics.stages["building"].count) == (1, 1)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_percentiles_are_the_smallest_sufficient_duration(seconds: list[float]) -> None:
    percentiles = durations(seconds)
    assert percentiles is not None
    for percent, value in ((50, percentiles.p50), (95, percentiles.p95), (99, percentiles.p99)):
        assert value in seconds
        assert sum(each <= value for each in seconds) >= len(seconds) * percent / 100
        assert sum(each < value for each in seconds) < len(seconds) * percent / 100
    assert percentiles.longest == max(seconds)


def test_no_runs_are_no_durations_and_no_rate() -> None:
    statistics = collected()
    assert (statistics.generated, statistics.runs.success_rate, statistics.by_day(), statistics.busiest_hour) == (
        None,
        None,
        {},
        None,
    )


def test_days_without_a_run_are_there_from_the_first_on() -> None:
    statistics = collected(run(ago=timedelta(days=3)), run(RunOutcome.ERROR, ago=timedelta(days=1), error="no"))
    assert statistics.by_day() == {
        date(2026, 3, 5): RunCounts(succeeded=1),
        date(2026, 3, 6): RunCounts(),
        date(2026, 3, 7): RunCounts(failed=1),
        date(2026, 3, 8): RunCounts(),
    }
    assert statistics.by_hour_of_day()[12] == RunCounts(succeeded=1, failed=1)


@given(st.lists(st.floats(0, 7 * 86400), max_size=50), st.integers(1, 200))
def test_spans_cover_every_run_within_the_limit(ages: list[float], most: int) -> None:
    statistics = collected(*(run(ago=timedelta(seconds=age)) for age in ages))
    span, spans = statistics.in_spans(most)
    assert len(spans) <= most
    assert sum(spans, RunCounts()) == statistics.runs
    assert span * len(spans) >= statistics.length


def test_a_century_is_summed_up_as_fast_as_a_day() -> None:
    statistics = collected(run(), days=36500)
    began = time.perf_counter()
    span, spans = statistics.in_spans(72)
    assert (len(spans), sum(spans, RunCounts())) == (72, statistics.runs)
    assert span > timedelta(days=365)
    assert len(statistics.by_day()) == 1
    assert time.perf_counter() - began < 1


def test_throughput_is_over_the_whole_window() -> None:
    statistics = collected(run(), run(ago=2 * HOUR), run(ago=2 * HOUR), days=1)
    assert (statistics.per(timedelta(days=1)), statistics.per(HOUR)) == (3, 3 / 24)
    assert statistics.busiest_hour == (datetime.fromisoformat("2026-03-08T10:00"), RunCounts(succeeded=2))


def test_reasons_are_counted_with_the_newest_for_an_example() -> None:
    statistics = collected(
        run(RunOutcome.ERROR, ago=HOUR, order_id=7, error="Generation failed: timed out after 30 s"),
        run(RunOutcome.ERROR, ago=3 * HOUR, order_id=8, error="timed out after 45.5 s"),
        run(RunOutcome.ERROR, ago=2 * HOUR, order_id=8, error="no space"),
    )
    first, second = statistics.reasons
    assert (first.text, first.count, first.orders) == ("timed out after N s", 2, 2)
    assert (first.example, first.example_order) == ("Generation failed: timed out after 30 s", 7)
    assert (second.text, second.count) == ("no space", 1)
    assert statistics.failed_in == {"writing": 3}


def test_distinct_reasons_over_the_limit_are_counted_together() -> None:
    words = ["".join(chr(97 + number // 26**place % 26) for place in range(4)) for number in range(2500)]
    statistics = collected(*(run(RunOutcome.ERROR, error=f"odd {word}") for word in words))
    assert len(statistics.reasons) == 2001
    assert (statistics.reasons[0].text, statistics.reasons[0].count) == ("(other reasons)", 500)
    assert sum(reason.count for reason in statistics.reasons) == 2500


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("Generation failed: AI provider answered 429: retry after 60 s", "AI provider answered N: retry after N s"),
        ("order 42 is gone (attempt 2, retry in 60 s)", "order N is gone"),
        ("order #42 is gone (attempt 3, no retry left)", "order #N is gone"),
        ("task 50b0d20b-e2a7-408e-9992-cb25ac2df641 lost", "task <id> lost"),
        ("commit deadbeef01 rejected", "commit <id> rejected"),
        ("facade decade", "facade decade"),
        ("<Thing at 0x7f3a2b10>", "<Thing at <id>>"),
        ("GET https://api.example.com/v1/x?k=1 failed: 502", "GET <url> failed: N"),
        ("mail to ana.souza@example.com.br bounced", "mail to <email> bounced"),
        ("can't write /app/generated_sites/project_42/index.html: full", "can't write <path>: full"),
        ("Template 'clinic-soft' not found", "Template '…' not found"),
        ("Expecting ',' delimiter: line 1 column 9", "Expecting ',' delimiter: line N column N"),
        ("it can't be, and won't be", "it can't be, and won't be"),
        ("first\n  second\tthird", "first second third"),
        ("", "(no message)"),
        ("Generation failed: ", "(no message)"),
        ("Error: 12:30:59 1,234.5", "N N"),
    ],
)
def test_reasons_ignore_numbers_and_names(message: str, reason: str) -> None:
    assert reason_of(message) == reason


@given(st.text())
def test_any_message_is_a_short_reason_of_one_line(message: str) -> None:
    reason = reason_of(message)
    assert 0 < len(reason) <= MAX_REASON
    assert "\n" not in reason


@pytest.mark.parametrize(
    "evil", ["a" * 10**6, "'" * 10**6, "/a" * 10**6, "0" * 10**6 + "x", "x@" * 10**6, "(attempt 1" * 9**5]
)
def test_no_message_takes_long(evil: str) -> None:
    began = time.perf_counter()
    reason_of(evil)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    ("tally", "words"),
    [
        (RunCounts(), "-"),
        (RunCounts(succeeded=3), "100%"),
        (RunCounts(succeeded=2, failed=1), "66.7%"),
        (RunCounts(succeeded=99999, failed=1), "99.9%"),
        (RunCounts(failed=1), "0%"),
    ],
)
def test_a_rate_with_a_failure_is_below_100_percent(tally: RunCounts, words: str) -> None:
    assert rate_words(tally) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0ms"), (0.12, "120ms"), (0.9996, "1.0s"), (3.14, "3.1s"), (9.96, "10s"), (59.6, "1m"), (3725, "1h 2m")],
)
def test_durations_are_short_to_read(seconds: float, words: str) -> None:
    assert brief(seconds) == words


def test_small_values_are_visible_in_plots() -> None:
    assert sparkline([0, 1, 1000]) == " ▁█"
    assert (bar(0, 10, 8), bar(0.001, 10, 8), bar(5, 10, 8), bar(10, 10, 8)) == ("", "▏", "████", "████████")
    assert bar(1, 0, 8) == ""
