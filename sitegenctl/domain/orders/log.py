"""Queries of the generation log: levels, and which rows are new while it grows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sitegenctl.domain.orders.order import LogRow

#: Seconds for which rows with a lower id than those already read are still read: a row gets its id when it is written,
#: and becomes visible when it is committed.
LATE = 5.0

#: Number of ids within which rows that are committed late are still read.
LOOK_BACK = 1000


class LogLevel(StrEnum):
    """The statuses of log rows, least severe first."""

    INFO = "info"
    SUCCESS = "success"
    WARNING = "warning"
    ERROR = "error"

    @property
    def and_worse(self) -> frozenset[str] | None:
        """This status and the more severe ones; None for all, including unknown ones."""
        ranks = list(LogLevel)
        return None if self is LogLevel.INFO else frozenset(ranks[ranks.index(self) :])

    def includes(self, status: str) -> bool:
        """Whether a row of this status is shown at this level."""
        return self.and_worse is None or status.lower() in self.and_worse


@dataclass(frozen=True, kw_only=True)
class LogQuery:
    """What to read of the logs."""

    since: timedelta | datetime | None = None  # an age by the database's clock, or a time in the log's
    level: LogLevel = LogLevel.INFO
    last: int | None = None  # newest rows of each order; None: all


class Cursor:
    """Finds the new rows when logs are polled, whatever order the rows are committed in.

    ``known`` has for every order the id up to which its rows are known, ``seen`` the ids of known rows above that; rows
    up to ``floor`` are not read. ``now`` is a monotonic time in seconds.
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
        """The new ones of the rows read after ``after_id``, in their order."""
        new = [row for row in rows if row.log_id not in self._seen and row.log_id > self._known.get(row.order_id, 0)]
        self._seen.update((row.log_id, now) for row in new)
        old = [log_id for log_id, at in self._seen.items() if at < now - LATE]
        if old:
            # Rows between them would have been committed by now.
            self._settled = max(self._settled, *old)
            self._seen = {log_id: at for log_id, at in self._seen.items() if log_id > self._settled}
        return new
