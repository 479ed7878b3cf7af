"""How the last minutes went: tasks that waited, and runs that ended, in equal spans of time until now.

What was seen is counted; what was before anybody looked is told from the generation log, which knows when runs began
and ended, and of those that an operator enqueued how long they waited. The backend writes no row when it enqueues:
of its orders the waiting before the first look isn't known, and the depth told is the least that it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sitegenctl.domain.orders.run import OPERATOR_ENQUEUE, OPERATOR_REPAIR, OPERATOR_RESET, OUTCOME_STEPS

#: How far back the plots go, and how long each of their bars is.
WINDOW = timedelta(minutes=30)
SPAN = timedelta(seconds=30)

_BEGINNINGS = frozenset({"START", "RESUME"})
_ENQUEUES = frozenset({OPERATOR_ENQUEUE, OPERATOR_RESET, OPERATOR_REPAIR})


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMark:
    """A row of the log without its text; ``age`` is by the database's clock, when it was read."""

    log_id: int
    order_id: int
    step: str
    age: timedelta


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One span: how many tasks waited at most, how many runs succeeded and failed.

    ``seen`` is False for a depth that is told from the log.
    """

    depth: int = 0
    succeeded: int = 0
    failed: int = 0
    seen: bool = False


def squeezed(bars: Sequence[Bar], most: int) -> Sequence[Bar]:
    """The same time in ``most`` bars or fewer, each as deep as the deepest of those that it stands for."""
    together = -(-len(bars) // max(most, 1))
    if together <= 1:
        return bars
    # From the newest on: what the oldest bar stands for may be shorter.
    first = len(bars) % together
    groups = [bars[:first], *(bars[start : start + together] for start in range(first, len(bars), together))]
    return [
        Bar(
            depth=max(bar.depth for bar in group),
            succeeded=sum(bar.succeeded for bar in group),
            failed=sum(bar.failed for bar in group),
            seen=any(bar.seen for bar in group),
        )
        for group in groups
        if group
    ]


class Pulse:
    """Collects what happens, and tells it as bars. Times are aware."""

    def __init__(self, *, window: timedelta = WINDOW, span: timedelta = SPAN) -> None:
        self._window = window
        self._span = span
        self._ended: deque[tuple[datetime, bool]] = deque()
        self._waits: deque[tuple[datetime, datetime]] = deque()
        self._depths: deque[tuple[datetime, int]] = deque()
        self._enqueued: dict[int, datetime] = {}
        self._newest = 0

    @property
    def newest(self) -> int:
        """The id of the newest row taken into account: only those behind it are news."""
        return self._newest

    def note_steps(self, marks: Iterable[StepMark], now: datetime) -> None:
        """Take log rows into account, oldest first; those that were already are left out."""
        for mark in marks:
            if mark.log_id <= self._newest:
                continue
            self._newest = mark.log_id
            at = now - mark.age
            if mark.step in _ENQUEUES:
                self._enqueued[mark.order_id] = at
            elif mark.step in _BEGINNINGS and (began := self._enqueued.pop(mark.order_id, None)) is not None:
                self._waits.append((began, at))
            elif mark.step in OUTCOME_STEPS:
                self._enqueued.pop(mark.order_id, None)
                self._ended.append((at, mark.step == "ERROR"))
        self._forget(now)

    def note_depth(self, waiting: int, now: datetime) -> None:
        """Take into account how many tasks wait now."""
        self._depths.append((now, waiting))
        self._forget(now)

    def bars(self, now: datetime) -> Sequence[Bar]:
        """The spans until now, the oldest first."""
        count = int(self._window / self._span)
        depth, succeeded, failed = [0] * count, [0] * count, [0] * count
        seen = [False] * count
        for at, has_failed in self._ended:
            if (place := self._place(at, now, count)) is not None:
                (failed if has_failed else succeeded)[place] += 1
        for at, waiting in self._depths:
            if (place := self._place(at, now, count)) is not None:
                depth[place] = max(depth[place], waiting) if seen[place] else waiting
                seen[place] = True
        waits = [*self._waits, *((began, now) for began in self._enqueued.values())]
        for place in range(count):
            if not seen[place]:
                end = now - self._span * (count - place - 1)
                depth[place] = sum(began < end and ended > end - self._span for began, ended in waits)
        return [
            Bar(depth=depth[place], succeeded=succeeded[place], failed=failed[place], seen=seen[place])
            for place in range(count)
        ]

    def _place(self, at: datetime, now: datetime, count: int) -> int | None:
        back = int((now - at) / self._span)
        return count - 1 - back if 0 <= back < count else None

    def _forget(self, now: datetime) -> None:
        oldest = now - self._window
        while self._ended and self._ended[0][0] < oldest:
            self._ended.popleft()
        while self._waits and self._waits[0][1] < oldest:
            self._waits.popleft()
        while self._depths and self._depths[0][0] < oldest:
            self._depths.popleft()
        if len(self._enqueued) > 10_000:
            self._enqueued = {order: at for order, at in self._enqueued.items() if at >= oldest}
