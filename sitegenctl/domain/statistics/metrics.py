"""What is measured for monitoring: one look at everything, and what the log has counted since its day began.

A counter must never go down, or whoever reads it takes it for begun anew. The log's rows of a day only become more:
so a run counts once under each outcome that it wrote, under the first of each; a run that wrote an ERROR and then a
SUCCESS is both. At midnight, on the log's own clock, all counters begin again at nought, as after a restart: what is
read depends on a day, and not on how long the system has been running.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sitegenctl.domain.diagnosis.condition import Condition, Severity, Source
from sitegenctl.domain.diagnosis.overview import Overview
from sitegenctl.domain.orders.run import RunOutcome
from sitegenctl.domain.orders.run_reader import LoggedRun
from sitegenctl.domain.statistics.statistics import TIMED_STAGES

#: Seconds up to which runs are counted: a generation takes minutes, and is stopped after ten.
RUN_BOUNDS = (5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 240.0, 300.0, 420.0, 540.0, 600.0)
STAGE_BOUNDS = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 240.0, 540.0)

#: Runs that were skipped took no time that anybody asks for.
TIMED_OUTCOMES = (RunOutcome.SUCCESS, RunOutcome.ERROR)


@dataclass(kw_only=True)
class Histogram:
    """Durations counted by how long they were: ``counts`` are those up to each bound, the last those beyond all.

    They are added up in whole ``microseconds``: a sum of fractions depends on their order, and might go down.
    """

    bounds: Sequence[float]
    counts: list[int] = field(default_factory=list)
    microseconds: int = 0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.microseconds += round(seconds * 1e6)


@dataclass(frozen=True, kw_only=True)
class RunTotals:
    """What the log has counted since a moment: runs by outcome, runs that were cut short, and how long they took."""

    outcomes: Mapping[RunOutcome, int]
    cut_short: int
    durations: Mapping[RunOutcome, Histogram]
    stages: Mapping[str, Histogram]


class RunMeter:
    """Counts runs from ``since`` on, a moment on the log's own clock."""

    def __init__(self, since: datetime) -> None:
        self._since = since
        self._outcomes: Counter[RunOutcome] = Counter()
        self._cut_short = 0
        self._durations = {outcome: Histogram(bounds=RUN_BOUNDS) for outcome in TIMED_OUTCOMES}
        self._stages = {stage: Histogram(bounds=STAGE_BOUNDS) for stage in TIMED_STAGES}

    def take(self, run: LoggedRun) -> None:
        """Count a run, as far as it wrote its outcomes since then."""
        if run.outcome is None:
            self._cut_short += not run.is_newest and self._is_counted(run.last_at)
            return
        for outcome, at in run.outcomes.items():
            if not self._is_counted(at):
                continue
            self._outcomes[outcome] += 1
            duration = run.duration_to(at)
            if outcome not in TIMED_OUTCOMES or duration is None:
                continue
            self._durations[outcome].observe(duration)
            if outcome is RunOutcome.SUCCESS:
                for stage, seconds in run.stages.items():
                    if stage in self._stages:
                        self._stages[stage].observe(seconds)

    def totals(self) -> RunTotals:
        """All that was counted."""
        return RunTotals(
            outcomes={outcome: self._outcomes[outcome] for outcome in RunOutcome},
            cut_short=self._cut_short,
            durations=self._durations,
            stages=self._stages,
        )

    def _is_counted(self, at: datetime | None) -> bool:
        return at is not None and at >= self._since


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One look at everything, for monitoring.

    ``unanswered`` says of each source that did not answer, or not fully, why; ``took`` are the seconds of each source's
    first answer, ``seconds`` those of the whole look. ``totals`` is None where the log could not be read.
    """

    seen: Overview
    totals: RunTotals | None
    unanswered: Mapping[Source, str]
    took: Mapping[Source, float]
    seconds: float

    @property
    def sources(self) -> dict[Source, bool]:
        """Whether each source answered fully. Without the broker no worker can be asked."""
        return {source: source in self.took and source not in self.unanswered for source in Source}

    def orders_by_condition(self) -> dict[Condition, int] | None:
        """How many orders are in each condition, none where all sources answered and nobody is; None if unknown.

        Of hollow orders nothing is told: they are looked for only where that is asked for.
        """
        by_condition = self.seen.by_condition
        if by_condition is None:
            return None
        found = {
            condition: orders if isinstance(orders, int) else len(orders) for condition, orders in by_condition.items()
        }
        if self.unanswered:
            return found
        return {condition: found.get(condition, 0) for condition in Condition if not condition.on_request}

    def longest_in_fault(self) -> dict[Condition, timedelta]:
        """For how long the order that has been still for longest has been so, by condition of those in fault."""
        longest: dict[Condition, timedelta] = {}
        for condition, orders in (self.seen.by_condition or {}).items():
            if condition.severity is not Severity.FAULT or isinstance(orders, int):
                continue
            known = (self.seen.snapshot.orders.get(order_id) for order_id in orders)
            idle = [order.idle for order in known if order is not None and order.idle is not None]
            if idle:
                longest[condition] = max(idle)
        return longest
