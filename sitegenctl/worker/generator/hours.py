"""Opening hours: what customers typed per day, put in the week's order and, where it is plain, read.

Owns the names of days in both languages and the reading of times. What can't be read is still shown as typed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sitegenctl.worker.generator.sanitize import line

_DAY_NAMES = (
    ("monday", "mon", "segunda", "seg"),
    ("tuesday", "tue", "tues", "terca", "ter"),
    ("wednesday", "wed", "quarta", "qua"),
    ("thursday", "thu", "thur", "thurs", "quinta", "qui"),
    ("friday", "fri", "sexta", "sex"),
    ("saturday", "sat", "sabado", "sab"),
    ("sunday", "sun", "domingo", "dom"),
)
_DAYS = {name: day for day, names in enumerate(_DAY_NAMES) for name in names}
_GROUPS = {
    "weekdays": range(5),
    "weekday": range(5),
    "dias uteis": range(5),
    "weekend": range(5, 7),
    "weekends": range(5, 7),
    "fim de semana": range(5, 7),
    "daily": range(7),
    "every day": range(7),
    "todos os dias": range(7),
}
_CLOSED = frozenset({"closed", "fechado", "fechada"})
_ALL_DAY = frozenset({"24h", "24 h", "24 hours", "24 horas", "open 24 hours", "00:00-24:00"})
_TO = r"\s*(?:[-\u2013\u2014]|\b(?:to|until|ate|as|a)\b)\s*"
_TIME = r"(\d{1,2})(?:\s*(?::|h)\s*(\d{2})?)?\s*(am|pm)?"
_SPAN = re.compile(rf"{_TIME}{_TO}{_TIME}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class OpeningHours:
    """One line of the table: the days it is about (0 is Monday), what was typed for them, and what it means.

    ``days`` is empty when the day was not understood; ``typed_day`` is then what stands for it. ``spans`` holds
    (opens, closes) as ``HH:MM``; it is None when the hours were not understood, and empty when closed.
    """

    days: tuple[int, ...]
    typed_day: str
    typed_hours: str
    spans: tuple[tuple[str, str], ...] | None


def opening_hours(typed: Mapping[str, str]) -> list[OpeningHours]:
    """The week from Monday on, neighbours with the same hours in one line; then what was not understood."""
    lines: list[OpeningHours] = []
    for day, hours in sorted(((line(d, 40), line(h, 80)) for d, h in typed.items()), key=_position):
        if not day or not hours:
            continue
        days, last = _days(day), lines[-1] if lines else None
        if last and days and last.days and last.typed_hours == hours and days[0] == last.days[-1] + 1:
            lines[-1] = _line(last.days + days, last.typed_day, hours)
        else:
            lines.append(_line(days, day, hours))
    return lines


def _line(days: tuple[int, ...], day: str, hours: str) -> OpeningHours:
    return OpeningHours(days=days, typed_day=day, typed_hours=hours, spans=_spans(hours))


def _position(entry: tuple[str, str]) -> int:
    days = _days(entry[0])
    return days[0] if days else len(_DAY_NAMES)


def _days(typed: str) -> tuple[int, ...]:
    plain = re.sub(r"[\s-]*feira\b|\.", "", _unaccented(typed)).strip()
    if plain in _GROUPS:
        return tuple(_GROUPS[plain])
    ends = [_DAYS.get(end) for end in re.split(r"\s*[-\u2013\u2014]\s*|\s+(?:to|a|ate|through)\s+", plain)]
    if len(ends) == 1 and ends[0] is not None:
        return (ends[0],)
    if len(ends) == 2 and ends[0] is not None and ends[1] is not None and ends[0] < ends[1]:
        return tuple(range(ends[0], ends[1] + 1))
    return ()


def _unaccented(typed: str) -> str:
    decomposed = unicodedata.normalize("NFKD", typed.lower())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def _spans(typed: str) -> tuple[tuple[str, str], ...] | None:
    plain = _unaccented(typed).replace("a.m.", "am").replace("p.m.", "pm").strip(" .")
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
    """The two times of a span, or fewer where one is ambiguous: "9 - 5" and "9 - 5pm" could mean anything."""
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
