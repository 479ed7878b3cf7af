"""How a site speaks: which language a brief calls for, in which tone, and the words of both.

The words themselves are in ``words``.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

from sitegenctl.domain.orders.generation_input import Brief
from sitegenctl.worker.generator.catalogue import ENGLISH, PORTUGUESE
from sitegenctl.worker.generator.sanitize import MAX_PHONE, line


class Tone(StrEnum):
    """How the site speaks, and how it is set."""

    PROFESSIONAL = "professional"
    FRIENDLY = "friendly"
    PREMIUM = "premium"


class Language(StrEnum):
    """A language the site can be in; the value is its HTML ``lang``."""

    ENGLISH = "en"
    PORTUGUESE = "pt-BR"


_WORDS = {Language.ENGLISH: ENGLISH, Language.PORTUGUESE: PORTUGUESE}

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


@dataclass(frozen=True, kw_only=True)
class Voice:
    """The words of one language said in one tone; called with a key and what its sentence needs."""

    language: Language
    tone: Tone

    def __call__(self, key: str, **values: object) -> str:
        """The words for ``key``, in this tone where tones differ. Raises KeyError for an unknown key."""
        words = _WORDS[self.language]
        sentence = words.get(f"{key}.{self.tone}") or words[key]
        # Only the sentence is a format string: what a customer typed is a value, whatever braces it has.
        said = sentence.format(**values)
        return said.replace("em Rio de Janeiro", "no Rio de Janeiro") if self.language != "en" else said

    def listing(self, items: list[str]) -> str:
        """The items as a running text: "a, b and c"."""
        if len(items) < 2:
            return "".join(items)
        return self("list_separator").join(items[:-1]) + self("list_end") + items[-1]


def voice_for(brief: Brief) -> Voice:
    """The language and tone for a brief; an unknown tone is taken as the professional one."""
    tone = brief.tone.strip().lower()
    language = Language.PORTUGUESE if is_brazilian(brief) else Language.ENGLISH
    return Voice(language=language, tone=Tone(tone) if tone in set(Tone) else Tone.PROFESSIONAL)


def is_brazilian(brief: Brief) -> bool:
    """Whether the business is in Brazil: by the country code of its phone, else by its state.

    Seven codes are states of Brazil and of the United States; there the shape of the phone number decides.
    """
    phone = line(brief.business_phone, MAX_PHONE)
    if phone.startswith(("+", "00")):
        return re.sub(r"\D", "", phone, flags=re.ASCII).removeprefix("00").startswith("55")
    parts = [_plain(part) for part in re.split(r"[-/,()]", brief.state)]
    if {"brasil", "brazil"} & set(parts) or set(_STATES.values()) & set(parts):
        return True
    codes = set(_STATES) & set(parts)
    return bool(codes - _ALSO_AMERICAN) or (bool(codes) and _BRAZILIAN_PHONE.fullmatch(phone) is not None)


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.strip().lower())
    return "".join(character for character in decomposed if not unicodedata.combining(character))
