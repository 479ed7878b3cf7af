"""Comparing clocks of different machines."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sitegenctl.domain.diagnosis.describe import describe_age

#: Clocks that differ by more are not the same time: an age taken from both is wrong.
CLOCK_TOLERANCE: Final = timedelta(minutes=1)


def clock_problem(here: datetime, database: datetime) -> str | None:
    """Why times written on this machine can't be judged by the database's clock; None if they can."""
    difference = here - database
    if abs(difference) <= CLOCK_TOLERANCE:
        return None
    way = "ahead of" if difference > timedelta(0) else "behind"
    return f"this machine's clock is {describe_age(abs(difference))} {way} the database's: ages of files are uncertain"
