"""A measurement as Prometheus metrics.

``sitegenctl_source_up`` is 0 for a source that did not respond; metrics that depend on it are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from sitegenctl.domain.orders.run import RunOutcome
from sitegenctl.domain.queue.task import TaskState
from sitegenctl.domain.statistics.metrics import Histogram, Measurement, RunTotals

#: Columns of CSV; each row is a sample.
METRIC_COLUMNS = ("metric", "labels", "value")

_OUTCOMES = {RunOutcome.SUCCESS: "success", RunOutcome.ERROR: "error", RunOutcome.SKIP: "skip"}
_SINCE = "since midnight by the clock of the generation log"


class Collector:
    """Measures for a registry of prometheus_client whenever it is scraped."""

    def __init__(self, measure: Callable[[], Measurement], *, context: str | None, version: str) -> None:
        self._measure = measure
        self._context = context
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """One measurement."""
        return families(self._measure(), context=self._context, version=self._version)


def registry(collector: Collector) -> CollectorRegistry:
    """A registry with this collector only."""
    only = CollectorRegistry(auto_describe=False)
    only.register(collector)
    return only


def exposition(measured: Measurement, *, context: str | None, version: str) -> str:
    """The measurement in Prometheus' text format."""
    return generate_latest(registry(Collector(lambda: measured, context=context, version=version))).decode()


def metric_rows(measured: Measurement, *, context: str | None, version: str) -> list[dict[str, Any]]:
    """A row for each sample; JSON cannot represent infinity."""
    return [
        {
            "metric": sample.name,
            "labels": dict(sample.labels),
            "value": sample.value if math.isfinite(sample.value) else None,
        }
        for family in families(measured, context=context, version=version)
        for sample in family.samples
    ]


def families(measured: Measurement, *, context: str | None, version: str) -> Iterator[Metric]:
    """Every metric of the measurement, with the ``context`` as a label where there is one."""
    made = _Families(context)
    yield made.info("sitegenctl_build", "Version of sitegenctl.", version=version)
    yield from _sources(made, measured)
    yield from _queue(made, measured)
    yield from _workers(made, measured)
    yield from _orders(made, measured)
    if measured.totals is not None:
        yield from _runs(made, measured.totals)
    yield made.gauge(
        "sitegenctl_measurement_timestamp_seconds",
        "Time of the measurement, by the clock of this machine.",
        measured.overview.snapshot.taken_at.timestamp(),
    )
    yield made.gauge("sitegenctl_measurement_duration_seconds", "Duration of the measurement.", measured.seconds)


def _sources(made: _Families, measured: Measurement) -> Iterator[Metric]:
    yield made.gauges(
        "sitegenctl_source_up",
        "Whether the source responded fully (1) or not (0); metrics that depend on it are then absent.",
        "source",
        ((str(source), float(up)) for source, up in measured.sources.items()),
    )
    yield made.gauges(
        "sitegenctl_source_latency_seconds",
        "Time until the first response of the source.",
        "source",
        ((str(source), took) for source, took in measured.took.items()),
    )


def _queue(made: _Families, measured: Measurement) -> Iterator[Metric]:
    depth = measured.overview.depth
    if depth is None:
        return
    yield made.gauges(
        "sitegenctl_queue_tasks",
        "Unfinished generation tasks by state.",
        "state",
        ((str(state), float(depth[state].count) if state in depth else 0.0) for state in TaskState),
    )
    ages = {state: depth[state].oldest if state in depth else None for state in TaskState}
    yield made.gauges(
        "sitegenctl_queue_oldest_task_age_seconds",
        "Age of the oldest task in this state; 0 without any, absent where unknown.",
        "state",
        (
            (str(state), age.total_seconds() if age is not None else 0.0)
            for state, age in ages.items()
            if age is not None or state not in depth
        ),
    )
    if measured.overview.foreign is not None:
        yield made.gauge(
            "sitegenctl_queue_foreign_messages",
            "Messages in the queue that belong to no order.",
            measured.overview.foreign,
        )


def _workers(made: _Families, measured: Measurement) -> Iterator[Metric]:
    roster = measured.overview.roster
    if roster is None:
        return
    yield made.gauge("sitegenctl_workers", "Workers that responded to remote control.", len(roster.workers))
    yield made.gauge("sitegenctl_workers_silent", "Workers that are connected and did not respond.", roster.silent)
    yield made.gauge(
        "sitegenctl_worker_processes",
        "Tasks that the workers that responded can run at once.",
        sum(worker.concurrency or 0 for worker in roster.workers),
    )
    yield made.gauge(
        "sitegenctl_worker_processes_busy",
        "Tasks of any kind that these workers are running.",
        sum(len(worker.active) for worker in roster.workers),
    )


def _orders(made: _Families, measured: Measurement) -> Iterator[Metric]:
    if (by_status := measured.overview.by_status) is not None:
        yield made.gauges(
            "sitegenctl_orders_in_status",
            "Orders by their status in the database.",
            "status",
            ((str(status or "NULL"), float(count)) for status, count in by_status.items()),
        )
    if (by_condition := measured.orders_by_condition()) is not None:
        family = made.empty(
            "sitegenctl_orders",
            "Orders by condition; severity fault needs attention.",
            "condition",
            "severity",
        )
        for condition, count in by_condition.items():
            made.add(family, float(count), str(condition), str(condition.severity))
        yield family
        yield made.gauges(
            "sitegenctl_orders_longest_in_fault_seconds",
            "Time since the last change of the order in this condition that was unchanged for longest.",
            "condition",
            ((str(condition), idle.total_seconds()) for condition, idle in measured.longest_in_fault().items()),
        )


def _runs(made: _Families, totals: RunTotals) -> Iterator[Metric]:
    outcomes = CounterMetricFamily(
        "sitegenctl_runs",
        f"Generations that ended, by outcome, {_SINCE}.",
        labels=made.labels("outcome"),
    )
    for outcome, count in totals.outcomes.items():
        made.add(outcomes, float(count), _OUTCOMES[outcome])
    yield outcomes
    cut_short = CounterMetricFamily(
        "sitegenctl_runs_cut_short",
        f"Generations without an outcome before the next one of the order began, {_SINCE}.",
        labels=made.labels(),
    )
    made.add(cut_short, float(totals.cut_short))
    yield cut_short
    yield made.histograms(
        "sitegenctl_run_duration_seconds",
        f"Time from the beginning of a generation to its outcome, {_SINCE}.",
        "outcome",
        ((_OUTCOMES[outcome], durations) for outcome, durations in totals.durations.items()),
    )
    yield made.histograms(
        "sitegenctl_run_stage_duration_seconds",
        f"Time that successful generations spent in each stage, {_SINCE}.",
        "stage",
        totals.stages.items(),
    )


class _Families:
    """Makes metric families with the context as their first label, where there is one."""

    def __init__(self, context: str | None) -> None:
        self._context = [context] if context is not None else []

    def labels(self, *own: str) -> list[str]:
        return [*(["context"] if self._context else []), *own]

    def add(self, family: Any, value: float, *own: str) -> None:
        family.add_metric([*self._context, *own], value)

    def empty(self, name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(name, text, labels=self.labels(*labels))

    def gauge(self, name: str, text: str, value: float) -> GaugeMetricFamily:
        family = self.empty(name, text)
        self.add(family, float(value))
        return family

    def gauges(self, name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> GaugeMetricFamily:
        family = self.empty(name, text, label)
        for own, value in values:
            self.add(family, value, own)
        return family

    def info(self, name: str, text: str, **values: str) -> InfoMetricFamily:
        family = InfoMetricFamily(name, text, labels=self.labels())
        family.add_metric(self._context, values)
        return family

    def histograms(
        self, name: str, text: str, label: str, values: Iterable[tuple[str, Histogram]]
    ) -> HistogramMetricFamily:
        family = HistogramMetricFamily(name, text, labels=self.labels(label))
        for own, histogram in values:
            bounds = [*map(str, histogram.bounds), "+Inf"]
            counts = list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))
            family.add_metric([*self._context, own], buckets=counts, sum_value=histogram.microseconds / 1e6)
        return family
