"""The last minutes: tasks that waited and runs that ended, in equal spans of time.

Observed depths are counted. Depths from before the first observation are derived from the generation log, which has the
waiting time of orders that an operator enqueued. The backend logs no enqueue, so a derived depth is a lower bound.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sitegenctl.domain.orders.run import (
    OPERATOR_ENQUEUE,
    OPERATOR_REPAIR,
    OPERATOR_RESET,
    OUTCOME_STEPS,
    STARTS,
    RunCounts,
    RunOutcome,
)
from sitegenctl.domain.orders.run_reader import LoggedRun, RunRow, RunStream

#: The length of the plots, and of each bar.
WINDOW = timedelta(minutes=30)
SPAN = timedelta(seconds=30)

_ENQUEUES = frozenset({OPERATOR_ENQUEUE, OPERATOR_RESET, OPERATOR_REPAIR})


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One span: the maximum number of waiting tasks, and the runs that succeeded and failed."""

    depth: int = 0
    succeeded: int = 0
    failed: int = 0
    observed: bool = False  # False for a depth that is derived from the log


def merge_bars(bars: Sequence[Bar], limit: int) -> Sequence[Bar]:
    """The same time in at most ``limit`` bars, each as deep as the deepest of those that it replaces."""
    size = math.ceil(len(bars) / max(limit, 1))
    if size <= 1:
        return bars
    # Only the oldest bar may be shorter.
    first = len(bars) % size
    groups = [bars[:first], *(bars[start : start + size] for start in range(first, len(bars), size))]
    return [
        Bar(
            depth=max(bar.depth for bar in group),
            succeeded=sum(bar.succeeded for bar in group),
            failed=sum(bar.failed for bar in group),
            observed=any(bar.observed for bar in group),
        )
        for group in groups
        if group
    ]


class Throughput:
    """Collects steps and depths into bars. Times are aware."""

    def __init__(self, *, window: timedelta = WINDOW, span: timedelta = SPAN) -> None:
        self._window = window
        self._span = span
        self._runs = RunStream()
        self._over: deque[LoggedRun] = deque()  # runs before the newest one of their order
        self._waits: deque[tuple[datetime, datetime]] = deque()
        self._depths: deque[tuple[datetime, int]] = deque()
        self._enqueued: dict[int, datetime] = {}
        #: The id of the newest row noted.
        self.newest = 0

    def note_rows(self, rows: Iterable[RunRow], now: datetime) -> None:
        """Note log rows with their ages, oldest first; those noted before are ignored."""
        for row in rows:
            if row.log_id <= self.newest or row.age is None:
                continue
            self.newest = row.log_id
            at = now - row.age
            if (run := self._runs.feed(replace(row, at=at))) is not None:
                self._over.append(run)
            if row.step in _ENQUEUES:
                self._enqueued[row.order_id] = at
            elif row.step in STARTS and (began := self._enqueued.pop(row.order_id, None)) is not None:
                self._waits.append((began, at))
            elif row.step in OUTCOME_STEPS:
                self._enqueued.pop(row.order_id, None)
        self._forget(now)

    def note_depth(self, waiting: int, now: datetime) -> None:
        """Note how many tasks wait now."""
        self._depths.append((now, waiting))
        self._forget(now)

    def bars(self, now: datetime) -> Sequence[Bar]:
        """The spans until now, oldest first."""
        count = int(self._window / self._span)
        depth, observed = [0] * count, [False] * count
        ended: list[list[RunOutcome]] = [[] for _ in range(count)]
        for run in (*self._over, *self._runs.newest()):
            if run.outcome is None or run.ended_at is None:
                continue
            if (place := self._place(run.ended_at, now, count)) is not None:
                ended[place].append(run.outcome)
        for at, waiting in self._depths:
            if (place := self._place(at, now, count)) is not None:
                depth[place] = max(depth[place], waiting) if observed[place] else waiting
                observed[place] = True
        waits = [*self._waits, *((began, now) for began in self._enqueued.values())]
        for place in range(count):
            if not observed[place]:
                end = now - self._span * (count - place - 1)
                depth[place] = sum(began < end and ended > end - self._span for began, ended in waits)
        runs = [RunCounts.of(outcomes) for outcomes in ended]
        return [
            Bar(
                depth=depth[place],
                succeeded=runs[place].succeeded,
                failed=runs[place].failed,
                observed=observed[place],
            )
            for place in range(count)
        ]

    def _place(self, at: datetime, now: datetime, count: int) -> int | None:
        back = int((now - at) / self._span)
        return count - 1 - back if 0 <= back < count else None

    def _forget(self, now: datetime) -> None:
        oldest = now - self._window
        self._runs.forget(oldest)
        while self._over and (self._over[0].last_at or oldest) < oldest:
            self._over.popleft()
        while self._waits and self._waits[0][1] < oldest:
            self._waits.popleft()
        while self._depths and self._depths[0][0] < oldest:
            self._depths.popleft()
        if len(self._enqueued) > 10_000:
            self._enqueued = {order: at for order, at in self._enqueued.items() if at >= oldest}
