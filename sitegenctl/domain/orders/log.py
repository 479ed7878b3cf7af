"""The generation log as it is read: levels, what to read of it, and which rows are new while it grows.

Owns no reading and no clock: times are handed in. What a row says of a run is ``run.py``'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sitegenctl.domain.orders.order import LogRow

#: Seconds within which a row that was given its id becomes visible: for so long rows with a lower id than
#: those already seen are still looked for. Ids are given when a row is written, not when it is committed.
LATE = 5.0

#: A reading made at one moment need not look back further than so many ids for rows that are committed late.
LOOK_BACK = 1000


class LogLevel(StrEnum):
    """The statuses of log rows, the mildest first."""

    INFO = "info"
    SUCCESS = "success"
    WARNING = "warning"
    ERROR = "error"

    @property
    def and_worse(self) -> frozenset[str] | None:
        """The statuses from this one on; None for all, those that are in no contract included."""
        ranks = list(LogLevel)
        return None if self is LogLevel.INFO else frozenset(ranks[ranks.index(self) :])

    def includes(self, status: str) -> bool:
        """Whether a row of this status is shown at this level."""
        return self.and_worse is None or status.lower() in self.and_worse


@dataclass(frozen=True, kw_only=True)
class LogQuery:
    """What to read of the logs.

    ``since`` is an age, measured by the database's own clock, or a moment; a moment without a zone is in the
    clock of the log's rows. ``last`` is the number of newest rows of each order, None for all.
    """

    since: timedelta | datetime | None = None
    level: LogLevel = LogLevel.INFO
    last: int | None = None


class Cursor:
    """Tells which rows are new while logs are read again and again, whatever order they are committed in.

    ``known`` holds for every order the id up to which its rows are known; ``seen`` are ids of rows known above
    that; nothing up to ``floor`` is looked for. ``now`` is a monotonic time in seconds.
    """

    def __init__(self, known: Mapping[int, int], *, seen: Iterable[int] = (), floor: int = 0, now: float) -> None:
        self._known = dict(known)
        self._seen = dict.fromkeys(seen, now)
        self._settled = max(min(self._known.values(), default=0), floor)

    @property
    def after_id(self) -> int:
        """Only rows with a higher id need to be read."""
        return self._settled

    def fresh(self, rows: Iterable[LogRow], *, now: float) -> list[LogRow]:
        """Those of the rows read after ``after_id`` that were not seen before, in their order."""
        new = [row for row in rows if row.log_id not in self._seen and row.log_id > self._known.get(row.order_id, 0)]
        self._seen.update((row.log_id, now) for row in new)
        old = [log_id for log_id, at in self._seen.items() if at < now - LATE]
        if old:
            # Whatever was to come between them has come.
            self._settled = max(self._settled, *old)
            self._seen = {log_id: at for log_id, at in self._seen.items() if log_id > self._settled}
        return new
