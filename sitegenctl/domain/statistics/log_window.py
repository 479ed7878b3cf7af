"""The part of the generation log that statistics and history read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

#: A run that began up to this long before the window is read from its beginning.
LEAD = timedelta(hours=1)

#: Characters of an ERROR's message that its reason is derived from.
MAX_ERROR = 1200


@dataclass(frozen=True, kw_only=True)
class LogWindow:
    """A window of the log, ``since`` and ``until`` by its clock; ``read_at`` is when it was read."""

    since: datetime
    until: datetime
    read_at: datetime
    first_id: int  # of a row before `since`: runs that ended in the window may have begun there
    last_id: int

    def includes(self, at: datetime) -> bool:
        """Whether a time is in the window."""
        return self.since <= at <= self.until
