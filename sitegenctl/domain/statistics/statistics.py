"""Statistics of the runs in a window of time: numbers, durations, success rates and reasons of failure.

A run counts in the window in which it ended. All times are by the log's clock.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from sitegenctl.domain.orders.run import RunCounts, RunOutcome
from sitegenctl.domain.orders.run_reader import LoggedRun
from sitegenctl.domain.orders.stage import RUN_STAGES
from sitegenctl.domain.statistics.failure_reasons import reason_of
from sitegenctl.domain.statistics.log_window import LogWindow

#: Maximum number of different reasons; the others are counted together.
_MAX_REASONS = 2000
OTHER_REASONS = "(other reasons)"

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Durations:
    """The durations in seconds of runs, or of one stage of runs; percentiles by nearest rank."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    longest: float


@dataclass(kw_only=True)
class Reason:
    """A reason of failure: the number of runs, their orders, and the message of the newest run."""

    text: str
    count: int = 0
    order_ids: set[int] = field(default_factory=set)
    example: str = ""
    example_order: int = 0
    last_at: datetime | None = None

    @property
    def orders(self) -> int:
        """The number of orders."""
        return len(self.order_ids)


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """The runs from ``since`` to ``until``, by the log's clock."""

    since: datetime
    until: datetime
    runs: RunCounts
    orders: int
    cut_short: int  # without an outcome, and followed by another run
    untimed: int  # ended, but their beginning is unknown
    generated: Durations | None
    failures: Durations | None
    stages: Mapping[str, Durations]  # of runs that succeeded
    failed_in: Mapping[str, int]
    reasons: Sequence[Reason]
    hours: Mapping[datetime, RunCounts]  # in which a run ended, oldest first

    @property
    def length(self) -> timedelta:
        """The length of the window."""
        return self.until - self.since

    def per(self, span: timedelta) -> float | None:
        """The average number of sites generated in a span of time; None for an empty window."""
        return self.runs.succeeded * (span / self.length) if self.length else None

    @property
    def busiest_hour(self) -> tuple[datetime, RunCounts] | None:
        """The hour in which most runs ended, the first of equals; None without any."""
        return max(self.hours.items(), key=lambda hour: hour[1].ended, default=None)

    def by_day(self) -> dict[date, RunCounts]:
        """Every day from the first in which a run ended to the last of the window, including days without a run."""
        if not self.hours:
            return {}
        first = min(self.hours).date()
        count = (self.until.date() - first).days + 1
        days = {first + timedelta(days=number): RunCounts() for number in range(count)}
        for hour, counts in self.hours.items():
            days[hour.date()] += counts
        return days

    def by_hour_of_day(self) -> list[RunCounts]:
        """The runs that ended in each hour of the day, over all days."""
        hours = [RunCounts()] * 24
        for hour, counts in self.hours.items():
            hours[hour.hour] += counts
        return hours

    def in_spans(self, limit: int) -> tuple[timedelta, list[RunCounts]]:
        """The window in at most ``limit`` equal spans of whole hours, oldest first, and the length of a span."""
        first = _hour(self.since)
        count = int((_hour(self.until) - first) / _HOUR) + 1
        hours = math.ceil(count / max(limit, 1))
        spans = [RunCounts()] * math.ceil(count / hours)
        for hour, counts in self.hours.items():
            spans[int((hour - first) / _HOUR) // hours] += counts
        return _HOUR * hours, spans


class Collector:
    """Collects runs into ``Statistics``; it keeps a few numbers of each."""

    def __init__(self, window: LogWindow) -> None:
        self._window = window
        self._hours: dict[datetime, list[RunOutcome]] = {}
        self._orders: set[int] = set()
        self._cut_short = 0
        self._untimed = 0
        self._durations = {RunOutcome.SUCCESS: array("d"), RunOutcome.ERROR: array("d")}
        self._stages: dict[str, array[float]] = {}
        self._failed_in: Counter[str] = Counter()
        self._reasons: dict[str, Reason] = {}

    def add(self, run: LoggedRun) -> None:
        """Add a run, if it ended in the window."""
        ended = run.ended_at if run.outcome is not None else run.last_at
        if ended is None or not self._window.includes(ended):
            return
        if run.outcome is None:
            self._cut_short += not run.is_newest
            return
        self._hours.setdefault(_hour(ended), []).append(run.outcome)
        if run.outcome is RunOutcome.SKIP:
            return
        self._orders.add(run.order_id)
        if (duration := run.duration) is None:
            self._untimed += 1
        else:
            self._durations[run.outcome].append(duration)
        if run.outcome is RunOutcome.ERROR:
            self._failed_in[run.stage.name if run.stage is not None else "starting"] += 1
            message = run.error or ""
            text = reason_of(message)
            if text not in self._reasons and len(self._reasons) >= _MAX_REASONS:
                text = OTHER_REASONS
            reason = self._reasons.setdefault(text, Reason(text=text))
            reason.count += 1
            reason.order_ids.add(run.order_id)
            if reason.last_at is None or ended >= reason.last_at:
                reason.example, reason.example_order, reason.last_at = message, run.order_id, ended
        elif duration is not None:
            for stage, seconds in run.stages.items():
                self._stages.setdefault(stage, array("d")).append(seconds)

    def result(self) -> Statistics:
        """The statistics of the runs added."""
        hours = {hour: RunCounts.of(outcomes) for hour, outcomes in sorted(self._hours.items())}
        return Statistics(
            since=self._window.since,
            until=self._window.until,
            runs=sum(hours.values(), RunCounts()),
            orders=len(self._orders),
            cut_short=self._cut_short,
            untimed=self._untimed,
            generated=durations(self._durations[RunOutcome.SUCCESS]),
            failures=durations(self._durations[RunOutcome.ERROR]),
            stages={stage: known for stage in RUN_STAGES if (known := durations(self._stages.get(stage, ())))},
            failed_in=dict(self._failed_in.most_common()),
            reasons=sorted(self._reasons.values(), key=lambda reason: (-reason.count, reason.text)),
            hours=hours,
        )


def durations(seconds: Iterable[float]) -> Durations | None:
    """Summarise durations in seconds; None without any."""
    ordered = sorted(seconds)
    if not ordered:
        return None

    def percentile(percent: int) -> float:
        return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]

    return Durations(
        count=len(ordered),
        mean=math.fsum(ordered) / len(ordered),
        p50=percentile(50),
        p95=percentile(95),
        p99=percentile(99),
        longest=ordered[-1],
    )


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
