"""Opening hours: what customers typed per day, in the order of the week."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sitegenctl.worker.generator.sanitize import line
from sitegenctl.worker.generator.voice import unaccented

_DAY_NAMES = (
    ("monday", "mon", "segunda", "seg"),
    ("tuesday", "tue", "tues", "terca", "ter"),
    ("wednesday", "wed", "quarta", "qua"),
    ("thursday", "thu", "thur", "thurs", "quinta", "qui"),
    ("friday", "fri", "sexta", "sex"),
    ("saturday", "sat", "sabado", "sab"),
    ("sunday", "sun", "domingo", "dom"),
)
_DAYS = {name: (day,) for day, names in enumerate(_DAY_NAMES) for name in names}
_WEEKDAYS, _WEEKEND, _WEEK = tuple(range(5)), (5, 6), tuple(range(7))
_GROUPS = {
    **dict.fromkeys(("weekdays", "weekday", "dias uteis"), _WEEKDAYS),
    **dict.fromkeys(("weekend", "weekends", "fim de semana"), _WEEKEND),
    **dict.fromkeys(("daily", "every day", "todos os dias"), _WEEK),
}


@dataclass(frozen=True, kw_only=True)
class OpeningHours:
    """One line of the table: its days (0 is Monday; none if not understood), and the typed day and hours."""

    days: tuple[int, ...]
    typed_day: str
    typed_hours: str


def opening_hours(typed: Mapping[str, str]) -> list[OpeningHours]:
    """Return the week from Monday on, neighbouring days with equal hours in one line, then what was not understood."""
    entries = [(_days(day), day, hours) for day, hours in ((line(d, 40), line(h, 80)) for d, h in typed.items())]
    lines: list[OpeningHours] = []
    for days, day, hours in sorted(entries, key=lambda entry: entry[0][0] if entry[0] else len(_DAY_NAMES)):
        if not day or not hours:
            continue
        last = lines[-1] if lines else None
        if last and days and last.days and last.typed_hours == hours and days[0] == last.days[-1] + 1:
            lines[-1] = replace(last, days=last.days + days)
        else:
            lines.append(OpeningHours(days=days, typed_day=day, typed_hours=hours))
    return lines


def _days(typed: str) -> tuple[int, ...]:
    plain = re.sub(r"[\s-]*feira\b|\.", "", unaccented(typed)).strip()
    if plain in _GROUPS:
        return _GROUPS[plain]
    ends = [_DAYS.get(end) for end in re.split(r"\s*[-\u2013\u2014]\s*|\s+(?:to|a|ate|through)\s+", plain)]
    if len(ends) == 1 and ends[0]:
        return ends[0]
    if len(ends) == 2 and ends[0] and ends[1] and ends[0] < ends[1]:
        return tuple(range(ends[0][0], ends[1][0] + 1))
    return ()
