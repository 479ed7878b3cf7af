"""Measurements for monitoring: the overview, and counters of the runs in the log since midnight.

A counter must never go down: Prometheus would take that for a restart. Rows are only added to the log of a day, so a
run counts under each outcome that it wrote, once each; one with an ERROR and then a SUCCESS counts under both. All
counters restart at zero at midnight by the log's clock, so that the cost depends on a day of log only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sitegenctl.domain.diagnosis.condition import Condition, Severity, Source
from sitegenctl.domain.diagnosis.overview import Overview
from sitegenctl.domain.orders.run import RunOutcome
from sitegenctl.domain.orders.run_reader import LoggedRun
from sitegenctl.domain.orders.stage import RUN_STAGES

#: Buckets in seconds: a generation takes minutes, and is stopped after ten.
RUN_BOUNDS = (5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 240.0, 300.0, 420.0, 540.0, 600.0)
STAGE_BOUNDS = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 240.0, 540.0)

#: Outcomes whose duration is measured; a skipped run takes no time.
TIMED_OUTCOMES = (RunOutcome.SUCCESS, RunOutcome.ERROR)


@dataclass(kw_only=True)
class Histogram:
    """Durations by bucket."""

    bounds: Sequence[float]
    counts: list[int] = field(default_factory=list)  # up to each bound, and above all of them
    microseconds: int = 0  # a sum of floats depends on their order, and might go down

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.microseconds += round(seconds * 1e6)


class RunTotals:
    """Runs since a point in time by the log's clock: by outcome, those that were cut short, and their durations."""

    def __init__(self, since: datetime) -> None:
        self._since = since
        self.outcomes = dict.fromkeys(RunOutcome, 0)
        self.cut_short = 0
        self.durations = {outcome: Histogram(bounds=RUN_BOUNDS) for outcome in TIMED_OUTCOMES}
        self.stages = {stage: Histogram(bounds=STAGE_BOUNDS) for stage in RUN_STAGES}

    def add(self, run: LoggedRun) -> None:
        """Count the outcomes of a run in that time."""
        if run.outcome is None:
            self.cut_short += not run.is_newest and self._is_counted(run.last_at)
            return
        for outcome, at in run.outcomes.items():
            if not self._is_counted(at):
                continue
            self.outcomes[outcome] += 1
            duration = run.duration_to(at)
            if outcome not in TIMED_OUTCOMES or duration is None:
                continue
            self.durations[outcome].observe(duration)
            if outcome is RunOutcome.SUCCESS:
                for stage, seconds in run.stages.items():
                    if stage in self.stages:
                        self.stages[stage].observe(seconds)

    def _is_counted(self, at: datetime | None) -> bool:
        return at is not None and at >= self._since


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Everything that monitoring measures."""

    overview: Overview
    totals: RunTotals | None  # None where the log could not be read
    unanswered: Mapping[Source, str]  # why each source did not respond, or not fully
    took: Mapping[Source, float]  # seconds of each source's first response
    seconds: float  # of the whole measurement

    @property
    def sources(self) -> dict[Source, bool]:
        """Whether each source responded fully. Without the broker no worker can be asked."""
        return {source: source in self.took and source not in self.unanswered for source in Source}

    def orders_by_condition(self) -> dict[Condition, int] | None:
        """The number of orders in each condition, 0 included where all sources responded; None if unknown."""
        by_condition = self.overview.by_condition
        if by_condition is None:
            return None
        counts = {
            condition: orders if isinstance(orders, int) else len(orders) for condition, orders in by_condition.items()
        }
        if self.unanswered:
            return counts
        return {condition: counts.get(condition, 0) for condition in Condition}

    def longest_in_fault(self) -> dict[Condition, timedelta]:
        """How long the order that was unchanged for longest was so, by condition in fault."""
        longest: dict[Condition, timedelta] = {}
        for condition, orders in (self.overview.by_condition or {}).items():
            if condition.severity is not Severity.FAULT or isinstance(orders, int):
                continue
            known = (self.overview.snapshot.orders.get(order_id) for order_id in orders)
            idle = [order.idle for order in known if order is not None and order.idle is not None]
            if idle:
                longest[condition] = max(idle)
        return longest
