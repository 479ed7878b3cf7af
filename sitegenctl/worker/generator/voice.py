"""The language and the tone of a site, and its texts in them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources

from sitegenctl.domain.orders.generation import Brief
from sitegenctl.worker.generator.sanitize import MAX_PHONE, line, unaccented


class Tone(StrEnum):
    """The tone of the texts and of the design."""

    PROFESSIONAL = "professional"
    FRIENDLY = "friendly"
    PREMIUM = "premium"


class Language(StrEnum):
    """A language of the site; the value is its HTML ``lang``."""

    ENGLISH = "en"
    PORTUGUESE = "pt-BR"


_STATES = {
    "ac": "acre", "al": "alagoas", "am": "amazonas", "ap": "amapa", "ba": "bahia", "ce": "ceara",
    "df": "distrito federal", "es": "espirito santo", "go": "goias", "ma": "maranhao", "mg": "minas gerais",
    "ms": "mato grosso do sul", "mt": "mato grosso", "pa": "para", "pb": "paraiba", "pe": "pernambuco",
    "pi": "piaui", "pr": "parana", "rj": "rio de janeiro", "rn": "rio grande do norte", "ro": "rondonia",
    "rr": "roraima", "rs": "rio grande do sul", "sc": "santa catarina", "se": "sergipe", "sp": "sao paulo",
    "to": "tocantins",
}  # fmt: skip

# Alabama, Massachusetts, Mississippi, Montana, Pennsylvania, Puerto Rico, South Carolina.
_ALSO_AMERICAN = frozenset({"al", "ma", "ms", "mt", "pa", "pr", "sc"})

# A two-digit area code before eight or nine digits: unlike any North American number.
_BRAZILIAN_PHONE = re.compile(r"\(0?\d\d\)\s*9?\s?\d{4}[-.\s]?\d{4}|0?\d\d[-.\s]*9\s?\d{4}[-.\s]?\d{4}", re.ASCII)


@cache
def texts(language: Language) -> Mapping[str, str]:
    """Return the texts of a language by their keys."""
    file = resources.files(__package__) / "texts" / f"{language}.toml"
    return tomllib.loads(file.read_text("utf-8"))


@dataclass(frozen=True, kw_only=True)
class Voice:
    """The texts of one language in one tone; called with a key and the values that its text needs."""

    language: Language
    tone: Tone

    def __call__(self, key: str, **values: object) -> str:
        """Return the text for ``key``, in this tone where tones differ. Raises KeyError for an unknown key."""
        entries = texts(self.language)
        # Only the text is a format string; what the customer typed is a value, whatever braces it contains.
        text = (entries.get(f"{key}.{self.tone}") or entries[key]).format(**values)
        if self.language is Language.PORTUGUESE:
            return text.replace("em Rio de Janeiro", "no Rio de Janeiro")
        return text

    def enumeration(self, items: Sequence[str]) -> str:
        """Return the items as running text: "a, b and c"."""
        if len(items) < 2:
            return "".join(items)
        return self("list_separator").join(items[:-1]) + self("list_end") + items[-1]

    def days(self, days: Sequence[int]) -> str:
        """Return the name of a day of the week (0 is Monday), or of a range of days; empty for no days."""
        names = [self(f"{'short_day' if len(days) > 1 else 'day'}.{day}") for day in days]
        return self("day_range", first=names[0], last=names[-1]) if len(names) > 1 else "".join(names)


def voice_for(brief: Brief) -> Voice:
    """Return the language and tone for a brief; an unknown tone counts as professional."""
    tone = brief.tone.strip().lower()
    language = Language.PORTUGUESE if is_brazilian(brief) else Language.ENGLISH
    return Voice(language=language, tone=Tone(tone) if tone in set(Tone) else Tone.PROFESSIONAL)


def is_brazilian(brief: Brief) -> bool:
    """Whether the business is in Brazil, by the country code of its phone, else by its state.

    Seven codes are states of both Brazil and the United States; there the format of the phone number decides.
    """
    phone = line(brief.business_phone, MAX_PHONE)
    if phone.startswith(("+", "00")):
        return re.sub(r"\D", "", phone, flags=re.ASCII).removeprefix("00").startswith("55")
    parts = {unaccented(part.strip()) for part in re.split(r"[-/,()]", brief.state)}
    if parts & {"brasil", "brazil", *_STATES.values()}:
        return True
    codes = parts & set(_STATES)
    return bool(codes - _ALSO_AMERICAN) or (bool(codes) and _BRAZILIAN_PHONE.fullmatch(phone) is not None)
