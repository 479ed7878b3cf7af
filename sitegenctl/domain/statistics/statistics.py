"""How generation went over a stretch of time: how many, how long, how well, and why not.

Pure: runs are handed in one by one, as ``run_stream.py`` tells them from the log. A run counts where it ended. All
times are on the log's own clock.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from sitegenctl.domain.orders.run import RunOutcome
from sitegenctl.domain.orders.run_reader import LoggedRun
from sitegenctl.domain.statistics.failure_reasons import reason_of

#: The stages that take time, in the order of a run; ``stage.py`` tells them from the steps.
TIMED_STAGES = ("starting", "briefing", "reading", "building", "writing", "publishing", "finishing")

#: A run that began before the window is read from its beginning if it took no longer than this.
LEAD = timedelta(hours=1)

#: So many different reasons are told apart; messages that nobody could fold are counted together.
_MOST_REASONS = 2000
OTHER_REASONS = "(other reasons)"

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class LogWindow:
    """A stretch of the log: ``since`` and ``until`` on its own clock, and the ids between which its rows are.

    The first id is that of a row before ``since``, where runs may have begun that ended behind it.
    """

    since: datetime
    until: datetime
    first_id: int
    last_id: int

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return max(self.until - self.since, timedelta(0))


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Runs that ended, by how they did."""

    succeeded: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def ended(self) -> int:
        """Runs that tried to make a site."""
        return self.succeeded + self.failed

    @property
    def success_rate(self) -> float | None:
        """The part of them that succeeded, from 0 to 1; None without any."""
        return self.succeeded / self.ended if self.ended else None

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            succeeded=self.succeeded + other.succeeded,
            failed=self.failed + other.failed,
            skipped=self.skipped + other.skipped,
        )


@dataclass(frozen=True, kw_only=True)
class Durations:
    """How long so many runs, or one stage of them, took, in seconds.

    A percentile is the duration of a run: the shortest of those than which so many percent took no longer.
    """

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    longest: float


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why runs failed: how many, of how many orders, and the newest of them in its own words."""

    text: str
    count: int
    orders: int
    example: str
    example_order: int
    last_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """How it went from ``since`` to ``until``, on the log's own clock.

    ``cut_short`` runs wrote no outcome, and another began behind them. ``untimed`` ones ended in SUCCESS or ERROR, and
    their beginning isn't known. ``hours`` has the hours in which any run ended, the oldest first; ``stages`` are of
    runs that succeeded.
    """

    since: datetime
    until: datetime
    runs: Tally
    orders: int
    cut_short: int
    untimed: int
    generated: Durations | None
    failures: Durations | None
    stages: Mapping[str, Durations]
    failed_in: Mapping[str, int]
    reasons: Sequence[Reason]
    hours: Mapping[datetime, Tally]

    @property
    def length(self) -> timedelta:
        """How long the window is."""
        return self.until - self.since

    def per(self, span: timedelta) -> float | None:
        """Sites generated in so much time, on the average of the whole window; None for a window of no length."""
        return self.runs.succeeded * (span / self.length) if self.length else None

    @property
    def busiest_hour(self) -> tuple[datetime, Tally] | None:
        """The hour in which most runs ended, the first of several; None without any."""
        return max(self.hours.items(), key=lambda hour: hour[1].ended, default=None)

    def by_day(self) -> dict[date, Tally]:
        """Every day from the first in which a run ended to the window's last, those without a run too."""
        if not self.hours:
            return {}
        days = dict.fromkeys(_days(min(self.hours).date(), self.until.date()), Tally())
        for hour, tally in self.hours.items():
            days[hour.date()] += tally
        return days

    def by_hour_of_day(self) -> list[Tally]:
        """What ended at each of the 24 hours of the day, over all days."""
        hours = [Tally()] * 24
        for hour, tally in self.hours.items():
            hours[hour.hour] += tally
        return hours

    def in_spans(self, most: int) -> tuple[timedelta, list[Tally]]:
        """The window in ``most`` equal spans or fewer of whole hours, the oldest first, and how long each is."""
        first = _hour(self.since)
        count = int((_hour(self.until) - first) / _HOUR) + 1
        together = -(-count // max(most, 1))
        spans = [Tally()] * -(-count // together)
        for hour, tally in self.hours.items():
            spans[int((hour - first) / _HOUR) // together] += tally
        return _HOUR * together, spans


@dataclass
class _ReasonSoFar:
    count: int = 0
    orders: set[int] = field(default_factory=set)
    example: str = ""
    example_order: int = 0
    last_at: datetime | None = None


class Collector:
    """Collects runs into ``Statistics``; of each it keeps no more than a few numbers."""

    def __init__(self, window: LogWindow) -> None:
        self._window = window
        self._hours: dict[datetime, Counter[RunOutcome]] = {}
        self._orders: set[int] = set()
        self._cut_short = 0
        self._untimed = 0
        self._durations = {RunOutcome.SUCCESS: array("d"), RunOutcome.ERROR: array("d")}
        self._stages: dict[str, array[float]] = {}
        self._failed_in: Counter[str] = Counter()
        self._reasons: dict[str, _ReasonSoFar] = {}

    def take(self, run: LoggedRun) -> None:
        """Take a run into account, if it ended in the window."""
        ended = run.ended_at if run.outcome is not None else run.last_at
        if ended is None or not self._window.since <= ended <= self._window.until:
            return
        if run.outcome is None:
            self._cut_short += not run.is_newest
            return
        self._hours.setdefault(_hour(ended), Counter())[run.outcome] += 1
        if run.outcome is RunOutcome.SKIP:
            return
        self._orders.add(run.order_id)
        if (duration := run.duration) is None:
            self._untimed += 1
        else:
            self._durations[run.outcome].append(duration)
        if run.outcome is RunOutcome.ERROR:
            self._note_failure(run, ended)
        elif duration is not None:
            for stage, seconds in run.stages.items():
                self._stages.setdefault(stage, array("d")).append(seconds)

    def result(self) -> Statistics:
        """All that was collected."""
        hours = {
            hour: Tally(
                succeeded=counts[RunOutcome.SUCCESS],
                failed=counts[RunOutcome.ERROR],
                skipped=counts[RunOutcome.SKIP],
            )
            for hour, counts in sorted(self._hours.items())
        }
        return Statistics(
            since=self._window.since,
            until=self._window.until,
            runs=sum(hours.values(), Tally()),
            orders=len(self._orders),
            cut_short=self._cut_short,
            untimed=self._untimed,
            generated=durations(self._durations[RunOutcome.SUCCESS]),
            failures=durations(self._durations[RunOutcome.ERROR]),
            stages={stage: told for stage in TIMED_STAGES if (told := durations(self._stages.get(stage, ())))},
            failed_in=dict(self._failed_in.most_common()),
            reasons=sorted(
                (
                    Reason(
                        text=text,
                        count=found.count,
                        orders=len(found.orders),
                        example=found.example,
                        example_order=found.example_order,
                        last_at=found.last_at,
                    )
                    for text, found in self._reasons.items()
                ),
                key=lambda reason: (-reason.count, reason.text),
            ),
            hours=hours,
        )

    def _note_failure(self, run: LoggedRun, ended: datetime) -> None:
        self._failed_in[run.last_stage or "starting"] += 1
        message = run.error or ""
        text = reason_of(message)
        if text not in self._reasons and len(self._reasons) >= _MOST_REASONS:
            text = OTHER_REASONS
        reason = self._reasons.setdefault(text, _ReasonSoFar())
        reason.count += 1
        reason.orders.add(run.order_id)
        if reason.last_at is None or ended >= reason.last_at:
            reason.example, reason.example_order, reason.last_at = message, run.order_id, ended


def durations(seconds: Iterable[float]) -> Durations | None:
    """Sum up how long runs took; None for none at all."""
    ordered = sorted(seconds)
    if not ordered:
        return None

    def percentile(percent: int) -> float:
        # The nearest rank: no run is told to have taken what none took.
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


def _days(first: date, last: date) -> Iterable[date]:
    return (first + timedelta(days=number) for number in range((last - first).days + 1))
