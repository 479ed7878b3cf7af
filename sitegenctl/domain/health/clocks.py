"""Clocks of different machines, and the check that they agree."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.diagnosis.remedy import Remedy
from sitegenctl.domain.health.check import Finding, check, failed, ok, unchecked, warning
from sitegenctl.domain.health.postgres import PostgresFacts
from sitegenctl.domain.health.redis import RedisFacts
from sitegenctl.domain.health.text import listed, milliseconds

#: Clocks that differ by more make ages meaningless; from the second on, due times and graces are inexact.
CLOCK_TOLERANCE: Final = timedelta(minutes=1)
_SKEW_WARNING = timedelta(seconds=2)

_THIS_MACHINE = "this machine"


def clock_problem(local: datetime, database: datetime) -> str | None:
    """Why times written on this machine can't be judged by the database's clock; None if they can."""
    difference = local - database
    if abs(difference) <= CLOCK_TOLERANCE:
        return None
    age, direction = describe_age(abs(difference)), "ahead of" if difference > timedelta(0) else "behind"
    return f"this machine's clock is {age} {direction} the database's: ages of files are uncertain"


@check("clocks", Source.DATABASE, quick=True)
def clocks(postgres: PostgresFacts | None = None, redis: RedisFacts | None = None) -> Finding:
    """Fails if this machine, PostgreSQL and Redis differ by more than a minute; warns from 2 s."""
    servers = {"PostgreSQL": postgres, "Redis": redis}
    offsets = {name: facts.offset for name, facts in servers.items() if facts is not None}
    unknown = [name for name, facts in servers.items() if facts is None]
    if not offsets:
        return unchecked("the time of no server is known")
    times = {_THIS_MACHINE: timedelta(0), **offsets}
    spread = max(times.values()) - min(times.values())
    if spread > _SKEW_WARNING:
        judge = failed if spread > CLOCK_TOLERANCE else warning
        remedy = Remedy.shell("chronyc", "makestep", advice=f"set the clock of {_wrong_clock(times)}")
        return judge(*(_difference(name, offset) for name, offset in offsets.items()), remedy=remedy)
    if unknown:
        return unchecked(f"{listed(list(offsets))} and this machine agree; the time of {listed(unknown)} is not known")
    return ok(f"within {milliseconds(spread)} of each other")


def _wrong_clock(times: Mapping[str, timedelta]) -> str:
    """The machine whose clock differs from all others; of two clocks it is not known which is wrong."""
    middle = sorted(times.values())[len(times) // 2]
    wrong = [name for name, offset in times.items() if abs(offset - middle) > _SKEW_WARNING]
    if len(times) < 3 or len(wrong) != 1:
        return "the machine that is off"
    return wrong[0] if wrong[0] == _THIS_MACHINE else f"the machine of {wrong[0]}"


def _difference(name: str, offset: timedelta) -> str:
    seconds = abs(offset).total_seconds()
    span = milliseconds(abs(offset)) if seconds < 1 else f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"
    return f"{name} is {span} {'ahead of' if offset > timedelta(0) else 'behind'} this machine"
