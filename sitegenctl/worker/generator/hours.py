"""Opening hours: what customers typed per day, in the order of the week and, where unambiguous, as times."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
_CLOSED = frozenset({"closed", "fechado", "fechada"})
_ALL_DAY = frozenset({"24h", "24 h", "24 hours", "24 horas", "open 24 hours", "00:00-24:00"})
_TO = r"\s*(?:[-\u2013\u2014]|\b(?:to|until|ate|as|a)\b)\s*"
_TIME = r"(\d{1,2})(?:\s*(?::|h)\s*(\d{2})?)?\s*(am|pm)?"
_SPAN = re.compile(rf"{_TIME}{_TO}{_TIME}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class OpeningHours:
    """One line of the table: its days (0 is Monday), the typed day and hours, and their meaning.

    ``days`` is empty if the day was not understood. ``spans`` contains (opens, closes) as ``HH:MM``; it is None if the
    hours were not understood, and empty for a closed day.
    """

    days: tuple[int, ...]
    typed_day: str
    typed_hours: str
    spans: tuple[tuple[str, str], ...] | None


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
            lines.append(OpeningHours(days=days, typed_day=day, typed_hours=hours, spans=_spans(hours)))
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


def _spans(typed: str) -> tuple[tuple[str, str], ...] | None:
    plain = unaccented(typed).replace("a.m.", "am").replace("p.m.", "pm").strip(" .")
    if plain in _CLOSED:
        return ()
    if plain in _ALL_DAY:
        return (("00:00", "23:59"),)
    spans = []
    for part in re.split(r"\s*(?:,|;|/|&|\be\b|\band\b)\s*", plain):
        match = _SPAN.fullmatch(part)
        times = list(_times(match)) if match else []
        if len(times) != 2:
            return None
        spans.append((times[0], times[1]))
    return tuple(spans)


def _times(match: re.Match[str]) -> Iterator[str]:
    """Yield the two times of a span, or fewer if one is ambiguous, as in "9 - 5" and "9 - 5pm"."""
    halves = match[3], match[6]
    written_out = all(re.search(r"[:h]", half) for half in re.split(_TO, match[0], maxsplit=1))
    if (halves[0] is None) != (halves[1] is None) or (halves[0] is None and not written_out):
        return
    for hour_text, minute_text, half in (match.group(1, 2, 3), match.group(4, 5, 6)):
        hour, minute = int(hour_text), int(minute_text or 0)
        if half is not None and not 1 <= hour <= 12:
            return
        hour = hour % 12 + (12 if half == "pm" else 0) if half is not None else hour
        if hour < 24 and minute < 60:
            yield f"{hour:02d}:{minute:02d}"
