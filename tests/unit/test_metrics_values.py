"""Counters never decrease, and metrics of an unreachable source are absent."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, strategies as st
from prometheus_client.parser import text_string_to_metric_families

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.orders.run import RunOutcome
from sitegenctl.domain.orders.run_reader import RunRow
from sitegenctl.domain.statistics.metrics import RUN_BOUNDS, Histogram, Measurement, RunTotals
from sitegenctl.render.metrics import exposition
from tests.support.values import STEPS, T0, counted, measured

ROWS = st.lists(st.tuples(st.integers(1, 3), st.sampled_from(STEPS), st.floats(0, 900)), max_size=40)


def rows_of(steps: list[tuple[int, str, float]]) -> list[RunRow]:
    rows, at = [], T0 - timedelta(minutes=10)
    for log_id, (order_id, step, pause) in enumerate(steps):
        at += timedelta(seconds=pause)
        rows.append(RunRow(log_id=log_id, order_id=order_id, step=step, at=at, message=step))
    return rows


def numbers(totals: RunTotals) -> list[float]:
    """Return every value that is exported as a counter."""
    values: list[float] = [*totals.outcomes.values(), totals.cut_short]
    for histogram in (*totals.durations.values(), *totals.stages.values()):
        values += [*histogram.counts, histogram.microseconds]
    return values


@given(ROWS, st.integers(0, 40))
def test_no_counter_goes_down_as_the_log_grows(steps: list[tuple[int, str, float]], length: int) -> None:
    rows = rows_of(steps)
    before, after = numbers(counted(rows[:length])), numbers(counted(rows))
    assert all(earlier <= later for earlier, later in zip(before, after, strict=True))


def test_a_run_counts_once_per_outcome_since_midnight() -> None:
    steps = [(1, "START", 0), (1, "ERROR", 599), (1, "ERROR", 2), (1, "SUCCESS", 9), (2, "START", 0), (2, "SUCCESS", 5)]
    totals = counted(rows_of([(order, step, float(pause)) for order, step, pause in steps]))
    # The first ERROR was before midnight.
    assert totals.outcomes == {RunOutcome.SUCCESS: 2, RunOutcome.ERROR: 0, RunOutcome.SKIP: 0}
    assert sum(totals.durations[RunOutcome.SUCCESS].counts) == 2
    assert totals.durations[RunOutcome.SUCCESS].microseconds == 615_000_000


def test_durations_count_in_the_bucket_of_their_upper_bound() -> None:
    histogram = Histogram(bounds=RUN_BOUNDS)
    for seconds in (0.0, 5.0, 5.1, 600.0, 601.0):
        histogram.observe(seconds)
    assert (histogram.counts[0], histogram.counts[1], histogram.counts[-2], histogram.counts[-1]) == (2, 1, 1, 1)
    assert histogram.microseconds == 1_211_100_000


def samples(
    measurement: Measurement, *, context: str | None = None
) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = exposition(measurement, context=context, version="1.2.3")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_zero_is_exported_when_all_sources_respond() -> None:
    exported = samples(measured())
    assert exported[key("sitegenctl_orders", condition="failed", severity="fault")] == 2
    assert exported[key("sitegenctl_orders", condition="empty", severity="fault")] == 0
    assert exported[key("sitegenctl_orders", condition="hollow", severity="fault")] == 0
    assert exported[key("sitegenctl_queue_tasks", state="running")] == 0
    assert exported[key("sitegenctl_queue_oldest_task_age_seconds", state="running")] == 0
    # Two tasks wait, and their age is unknown.
    assert key("sitegenctl_queue_oldest_task_age_seconds", state="queued") not in exported
    assert exported[key("sitegenctl_orders_in_status", status="NULL")] == 1
    assert exported[key("sitegenctl_orders_in_status", status='od"d\n\\')] == 2


def test_metrics_of_an_unreachable_source_are_absent() -> None:
    exported = samples(measured(unanswered={Source.BROKER: "unreachable"}))
    names = {name for name, _ in exported}
    assert exported[key("sitegenctl_source_up", source="broker")] == 0
    assert exported[key("sitegenctl_source_up", source="database")] == 1
    assert "sitegenctl_queue_tasks" not in names
    assert "sitegenctl_workers" not in names
    # Known values are exported, the others are absent.
    assert exported[key("sitegenctl_orders", condition="failed", severity="fault")] == 2
    assert key("sitegenctl_orders", condition="empty", severity="fault") not in exported
    nothing = samples(measured(unanswered=dict.fromkeys(Source, "unreachable")))
    assert {name for name, _ in nothing} == {
        "sitegenctl_build_info",
        "sitegenctl_source_up",
        "sitegenctl_measurement_timestamp_seconds",
        "sitegenctl_measurement_duration_seconds",
    }


def test_a_context_is_a_label_of_everything() -> None:
    exported = samples(measured(totals=counted([])), context="shop")
    assert exported[key("sitegenctl_build_info", context="shop", version="1.2.3")] == 1
    assert all(("context", "shop") in labels for _, labels in exported)
    assert all("context" not in dict(labels) for _, labels in samples(measured(totals=counted([]))))
