"""Counters that never go down, and what is told while a source is away."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, strategies as st
from prometheus_client.parser import text_string_to_metric_families

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.orders.run import RunOutcome
from sitegenctl.domain.orders.run_reader import RunRow
from sitegenctl.domain.statistics.metrics import RUN_BOUNDS, Histogram, Measurement, RunTotals
from sitegenctl.render.metrics import exposition
from tests.support.log_rows import STEPS, T0
from tests.support.metrics_values import counted, measured

ROWS = st.lists(st.tuples(st.integers(1, 3), st.sampled_from(STEPS), st.floats(0, 900)), max_size=40)


def rows_of(steps: list[tuple[int, str, float]]) -> list[RunRow]:
    rows, at = [], T0 - timedelta(minutes=10)
    for log_id, (order_id, step, pause) in enumerate(steps):
        at += timedelta(seconds=pause)
        rows.append(RunRow(log_id=log_id, order_id=order_id, step=step, at=at, message=step))
    return rows


def numbers(totals: RunTotals) -> list[float]:
    """Everything that is told as a counter."""
    told: list[float] = [*totals.outcomes.values(), totals.cut_short]
    for histogram in (*totals.durations.values(), *totals.stages.values()):
        told += [*histogram.counts, histogram.microseconds]
    return told


@given(ROWS, st.integers(0, 40))
def test_no_counter_goes_down_as_the_log_grows(steps: list[tuple[int, str, float]], seen: int) -> None:
    rows = rows_of(steps)
    before, after = numbers(counted(rows[:seen])), numbers(counted(rows))
    assert all(earlier <= later for earlier, later in zip(before, after, strict=True))


def test_a_run_counts_once_under_each_outcome_that_it_wrote_since_midnight() -> None:
    steps = [(1, "START", 0), (1, "ERROR", 599), (1, "ERROR", 2), (1, "SUCCESS", 9), (2, "START", 0), (2, "SUCCESS", 5)]
    totals = counted(rows_of([(order, step, float(pause)) for order, step, pause in steps]))
    # The first ERROR was before midnight.
    assert totals.outcomes == {RunOutcome.SUCCESS: 2, RunOutcome.ERROR: 0, RunOutcome.SKIP: 0}
    assert sum(totals.durations[RunOutcome.SUCCESS].counts) == 2
    assert totals.durations[RunOutcome.SUCCESS].microseconds == 615_000_000


def test_a_duration_is_counted_up_to_the_bound_that_it_is_not_longer_than() -> None:
    histogram = Histogram(bounds=RUN_BOUNDS)
    for seconds in (0.0, 5.0, 5.1, 600.0, 601.0):
        histogram.observe(seconds)
    assert (histogram.counts[0], histogram.counts[1], histogram.counts[-2], histogram.counts[-1]) == (2, 1, 1, 1)
    assert histogram.microseconds == 1_211_100_000


def samples(told: Measurement, *, context: str | None = None) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = exposition(told, context=context, version="1.2.3")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_where_all_sources_answer_nought_is_told_as_nought() -> None:
    told = samples(measured())
    assert told[key("sitegenctl_orders", condition="failed", severity="fault")] == 2
    assert told[key("sitegenctl_orders", condition="empty", severity="fault")] == 0
    assert key("sitegenctl_orders", condition="hollow", severity="fault") not in told
    assert told[key("sitegenctl_queue_tasks", state="running")] == 0
    assert told[key("sitegenctl_queue_oldest_task_age_seconds", state="running")] == 0
    # Two wait, and nobody knows since when.
    assert key("sitegenctl_queue_oldest_task_age_seconds", state="queued") not in told
    assert told[key("sitegenctl_orders_in_status", status="NULL")] == 1
    assert told[key("sitegenctl_orders_in_status", status='od"d\n\\')] == 2


def test_what_a_source_that_is_away_would_have_told_is_absent() -> None:
    told = samples(measured(unanswered={Source.BROKER: "away"}))
    names = {name for name, _ in told}
    assert told[key("sitegenctl_source_up", source="broker")] == 0
    assert told[key("sitegenctl_source_up", source="database")] == 1
    assert "sitegenctl_queue_tasks" not in names
    assert "sitegenctl_workers" not in names
    # What is known is told, and nothing is said of the rest.
    assert told[key("sitegenctl_orders", condition="failed", severity="fault")] == 2
    assert key("sitegenctl_orders", condition="empty", severity="fault") not in told
    nothing = samples(measured(unanswered=dict.fromkeys(Source, "away")))
    assert {name for name, _ in nothing} == {
        "sitegenctl_build_info",
        "sitegenctl_source_up",
        "sitegenctl_measurement_timestamp_seconds",
        "sitegenctl_measurement_duration_seconds",
    }


def test_a_context_is_a_label_of_everything() -> None:
    told = samples(measured(totals=counted([])), context="shop")
    assert told[key("sitegenctl_build_info", context="shop", version="1.2.3")] == 1
    assert all(("context", "shop") in labels for _, labels in told)
    assert all("context" not in dict(labels) for _, labels in samples(measured(totals=counted([]))))
