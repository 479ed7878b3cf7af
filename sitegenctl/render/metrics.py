"""A measurement as Prometheus metrics.

``sitegenctl_source_up`` is 0 for a source that did not respond; metrics that depend on it are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate
from operator import attrgetter
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from sitegenctl.domain.diagnosis.overview import Depth
from sitegenctl.domain.queue.task import TaskState
from sitegenctl.domain.statistics.metrics import Histogram, Measurement

#: Columns of CSV; each row is a sample.
METRIC_COLUMNS = ("metric", "labels", "value")

# Ends the help text of what the log of today counts.
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


@dataclass(frozen=True)
class Family:
    """A metric: its help text, its labels, and its samples.

    ``samples`` are read from a part of the measurement: one value, or values by label.
    """

    text: str
    labels: tuple[str, ...]
    samples: Callable[[Any], Any]
    kind: type[GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily] = GaugeMetricFamily


def _oldest_tasks(depth: Mapping[TaskState, Depth]) -> dict[str, float]:
    ages = {state: depth[state].oldest if state in depth else timedelta(0) for state in TaskState}
    return {state: age.total_seconds() for state, age in ages.items() if age is not None}


def _drain(measured: Measurement) -> dict[str, float] | None:
    snapshot = measured.overview.snapshot
    forecast = snapshot.forecast
    if forecast is None or forecast.obstacle is not None or (forecast.empty is None and snapshot.tasks):
        return None
    spans = attrgetter("low", "middle", "high")(forecast.empty) if forecast.empty is not None else (timedelta(0),) * 3
    return {quantile: span.total_seconds() for quantile, span in zip(("0.1", "0.5", "0.9"), spans, strict=True)}


def _of_all(measured: Measurement) -> Measurement:
    return measured


#: Every metric by name, grouped by the part of the measurement that it needs; without that part it is absent.
FAMILIES: tuple[tuple[Callable[[Measurement], Any], dict[str, Family]], ...] = (
    (
        _of_all,
        {
            "sitegenctl_source_up": Family(
                "Whether the source responded fully (1) or not (0); metrics that depend on it are then absent.",
                ("source",),
                lambda measured: measured.sources,
            ),
            "sitegenctl_source_latency_seconds": Family(
                "Time until the first response of the source.", ("source",), lambda measured: measured.took
            ),
        },
    ),
    (
        lambda measured: measured.overview.depth,
        {
            "sitegenctl_queue_tasks": Family(
                "Unfinished generation tasks by state.",
                ("state",),
                lambda depth: {state: depth[state].count if state in depth else 0 for state in TaskState},
            ),
            "sitegenctl_queue_oldest_task_age_seconds": Family(
                "Age of the oldest task in this state; 0 without any, absent where unknown.", ("state",), _oldest_tasks
            ),
        },
    ),
    (
        _drain,
        {
            "sitegenctl_queue_drain_seconds": Family(
                "Forecast of the time until every task has ended, by quantile; 0 without any, absent where unknown.",
                ("quantile",),
                lambda quantiles: quantiles,
            )
        },
    ),
    (
        lambda measured: measured.overview.foreign if measured.overview.depth is not None else None,
        {
            "sitegenctl_queue_foreign_messages": Family(
                "Messages in the queue that belong to no order.", (), lambda count: count
            )
        },
    ),
    (
        lambda measured: measured.overview.roster,
        {
            "sitegenctl_workers": Family(
                "Workers that responded to remote control.", (), lambda roster: len(roster.workers)
            ),
            "sitegenctl_workers_silent": Family(
                "Workers that are connected and did not respond.", (), lambda roster: roster.silent
            ),
            "sitegenctl_worker_processes": Family(
                "Tasks that the workers that responded can run at once.",
                (),
                lambda roster: sum(worker.concurrency or 0 for worker in roster.workers),
            ),
            "sitegenctl_worker_processes_busy": Family(
                "Tasks of any kind that these workers are running.",
                (),
                lambda roster: sum(len(worker.active) for worker in roster.workers),
            ),
        },
    ),
    (
        lambda measured: measured.overview.by_status,
        {
            "sitegenctl_orders_in_status": Family(
                "Orders by their status in the database.",
                ("status",),
                lambda by_status: {status or "NULL": count for status, count in by_status.items()},
            )
        },
    ),
    (
        lambda measured: measured if measured.overview.by_condition is not None else None,
        {
            "sitegenctl_orders": Family(
                "Orders by condition; severity fault needs attention.",
                ("condition", "severity"),
                lambda measured: {
                    (condition, condition.severity): count
                    for condition, count in measured.orders_by_condition().items()
                },
            ),
            "sitegenctl_orders_longest_in_fault_seconds": Family(
                "Time since the last change of the order in this condition that was unchanged for longest.",
                ("condition",),
                lambda measured: {each: idle.total_seconds() for each, idle in measured.longest_in_fault().items()},
            ),
        },
    ),
    (
        lambda measured: measured.overview.promises,
        {
            "sitegenctl_orders_late": Family(
                "Undelivered orders whose due date has passed.", (), lambda promises: promises.late
            ),
            "sitegenctl_orders_due_soon": Family(
                "Undelivered orders that are due within the time of the setting due_soon, without those that are late.",
                (),
                lambda promises: promises.due_soon,
            ),
        },
    ),
    (
        lambda measured: measured.overview.promises.will_be_late if measured.overview.promises is not None else None,
        {
            "sitegenctl_orders_will_be_late": Family(
                "Orders whose task ends after their due date by the forecast.", (), lambda count: count
            )
        },
    ),
    (
        lambda measured: measured.totals,
        {
            "sitegenctl_runs": Family(
                f"Generations that ended, by outcome, {_SINCE}.",
                ("outcome",),
                lambda totals: {outcome.lower(): count for outcome, count in totals.outcomes.items()},
                CounterMetricFamily,
            ),
            "sitegenctl_runs_cut_short": Family(
                f"Generations without an outcome before the next one of the order began, {_SINCE}.",
                (),
                lambda totals: totals.cut_short,
                CounterMetricFamily,
            ),
            "sitegenctl_run_duration_seconds": Family(
                f"Time from the beginning of a generation to its outcome, {_SINCE}.",
                ("outcome",),
                lambda totals: {outcome.lower(): durations for outcome, durations in totals.durations.items()},
                HistogramMetricFamily,
            ),
            "sitegenctl_run_stage_duration_seconds": Family(
                f"Time that successful generations spent in each stage, {_SINCE}.",
                ("stage",),
                lambda totals: totals.stages,
                HistogramMetricFamily,
            ),
        },
    ),
    (
        _of_all,
        {
            "sitegenctl_measurement_timestamp_seconds": Family(
                "Time of the measurement, by the clock of this machine.",
                (),
                lambda measured: measured.overview.snapshot.taken_at.timestamp(),
            ),
            "sitegenctl_measurement_duration_seconds": Family(
                "Duration of the measurement.", (), lambda measured: measured.seconds
            ),
        },
    ),
)


def families(measured: Measurement, *, context: str | None, version: str) -> Iterator[Metric]:
    """Every metric of the measurement, with the ``context`` as a label where there is one."""
    names, values = (["context"], [context]) if context is not None else ([], [])
    build = InfoMetricFamily("sitegenctl_build", "Version of sitegenctl.", labels=names)
    build.add_metric(values, {"version": version})
    yield build
    for read, group in FAMILIES:
        if (part := read(measured)) is None:
            continue
        for name, family in group.items():
            metric: Any = family.kind(name, family.text, labels=[*names, *family.labels])
            samples = family.samples(part)
            for own, sample in (samples if isinstance(samples, Mapping) else {(): samples}).items():
                _add(metric, [*values, *((own,) if isinstance(own, str) else own)], sample)
            yield metric


def _add(metric: Any, labels: Sequence[str], sample: float | Histogram) -> None:
    if isinstance(sample, Histogram):
        bounds = [*map(str, sample.bounds), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(sample.counts)), strict=True))
        metric.add_metric(labels, buckets=buckets, sum_value=sample.microseconds / 1e6)
    else:
        metric.add_metric(labels, float(sample))
