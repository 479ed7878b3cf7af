"""Sanitizing what customers typed: texts, addresses, numbers, opening hours. Escaping is left to the templates."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote, urlsplit

MAX_LINE = 120
MAX_PARAGRAPH = 2000
MAX_PARAGRAPHS = 40
MAX_SLUG = 60
MAX_PHONE = 60
_MAX_URL = 2000

# Bidirectional controls can make a reader see other words than the browser follows; the others are invisible.
_INVISIBLE = frozenset("\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
_WHITESPACE = frozenset("\t\r\n\v\f\x85\u2028\u2029")
_BREAKS = re.compile(r"[\r\n\v\f\x85\u2028\u2029]+")
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?", re.ASCII)
_PHONE = re.compile(r"\s*(\+?[\d\s().-]+?)\s*(?:(?:ext|x|ramal)\.?\s*\d*)?\s*", re.ASCII | re.IGNORECASE)
_BARE_DOMAIN = re.compile(r"(?:[a-z0-9-]+\.)+[a-z]{2,}(?:[/?#].*)?", re.ASCII | re.IGNORECASE)
_HANDLE = re.compile(r"@?([A-Za-z0-9._-]{1,60})", re.ASCII)
_PROFILES = {
    "facebook": "https://www.facebook.com/",
    "instagram": "https://www.instagram.com/",
    "linkedin": "https://www.linkedin.com/in/",
    "youtube": "https://www.youtube.com/@",
    "tiktok": "https://www.tiktok.com/@",
}

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


def line(typed: str | None, limit: int = MAX_LINE) -> str:
    """Return the text as one line of at most ``limit`` characters, without invisible ones."""
    return _shortened(" ".join(_visible(typed or "").split()), limit)


def paragraphs(typed: str | None) -> tuple[str, ...]:
    """Return the non-empty lines of the text, each as ``line`` returns it."""
    lines = (line(part, MAX_PARAGRAPH) for part in _BREAKS.split(typed or ""))
    return tuple(filter(None, lines))[:MAX_PARAGRAPHS]


def excerpt(text: str, limit: int) -> str:
    """Return the beginning of a line: whole sentences if one fits, else whole words and an ellipsis."""
    if len(text) <= limit:
        return text
    sentence_end = max(text.rfind(mark, 0, limit) for mark in (". ", "! ", "? "))
    return text[: sentence_end + 1] if sentence_end >= limit // 3 else _shortened(text, limit)


def slugs(names: Iterable[str], fallback: str) -> list[str]:
    """Return one slug per name, in order: ``[a-z0-9-]``, 1 to ``MAX_SLUG`` characters, all different.

    A name without any such character becomes ``<fallback>-<position from 1>``.
    """
    result: list[str] = []
    for position, name in enumerate(names, start=1):
        ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
        stem = re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-") or f"{fallback}-{position}"
        slug, number = stem[:MAX_SLUG].rstrip("-"), 2
        while slug in result:
            suffix = f"-{number}"
            slug, number = stem[: MAX_SLUG - len(suffix)].rstrip("-") + suffix, number + 1
        result.append(slug)
    return result


def web_address(typed: str | None) -> str | None:
    """Return the percent-encoded address if it is an absolute http or https one without credentials, else None."""
    text = (typed or "").strip()
    if not text or len(text) > _MAX_URL or text != _visible(text) or re.search(r"[\s\\]", text):
        return None
    if _BARE_DOMAIN.fullmatch(text):
        text = f"https://{text}"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # reading the port validates it
    except ValueError:
        return None
    if parts.scheme.lower() not in {"http", "https"} or not host:
        return None
    # No credentials: text before an @ can look like the host.
    if not re.fullmatch(r"[\w.-]+(?::\d+)?|\[[0-9a-fA-F:.]+\](?::\d+)?", parts.netloc):
        return None
    return quote(text, safe="%/:?#[]@!$&()*+,;=~-._")


def profile_address(network: str, typed: str | None) -> str | None:
    """Return the address of a profile in a social network, typed as an address or as ``@name``."""
    address = web_address(typed)
    if address is not None:
        return address
    base, handle = _PROFILES.get(network.lower()), _HANDLE.fullmatch((typed or "").strip())
    return base + handle[1] if base and handle else None


def site_address(typed: str) -> str:
    """Return the absolute base of the site without final slash, query or fragment; empty if it is invalid."""
    address = web_address(typed) or ""
    return address.split("#")[0].split("?")[0].rstrip("/").removesuffix("/index.html")


def mail_link(typed: str | None) -> str | None:
    """Return a ``mailto:`` link, or None if this is not an e-mail address."""
    text = (typed or "").strip()
    return "mailto:" + quote(text, safe="@+.-_") if _EMAIL.fullmatch(text) else None


def phone_digits(typed: str | None) -> str | None:
    """Return the first number as digits, with its ``+`` if it has one; None if it cannot be dialled."""
    match = _PHONE.fullmatch(re.split(r"[/,;|]", line(typed, MAX_PHONE), maxsplit=1)[0])
    if match is None:
        return None
    digits = re.sub(r"\D", "", match[1], flags=re.ASCII)
    if not 3 <= len(digits) <= 15:
        return None
    return "+" + digits if match[1].startswith("+") else digits


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


def unaccented(text: str) -> str:
    """Return the text in lower case without accents."""
    decomposed = unicodedata.normalize("NFKD", text.lower())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


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


def _visible(text: str) -> str:
    """Return the text without invisible characters; each line break and tab becomes a space."""
    spaced = (" " if character in _WHITESPACE else character for character in text)
    return "".join(character for character in spaced if not _is_invisible(character))


def _is_invisible(character: str) -> bool:
    code = ord(character)
    is_noncharacter = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    return is_noncharacter or character in _INVISIBLE or unicodedata.category(character) in {"Cc", "Cs"}


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head = text[: limit - 1]
    cut = head.rfind(" ")
    return head[: cut if cut > limit // 2 else None].rstrip(" ,;:-") + "…"
