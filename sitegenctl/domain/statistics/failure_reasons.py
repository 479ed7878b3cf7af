"""Why generations fail: messages that differ in numbers and names alone are one reason."""

from __future__ import annotations

import re

#: A reason is told in so many characters.
LONGEST = 300

# What the generator puts before and behind what went wrong.
_PREFIX = re.compile(r"^(?:generation failed|error)\s*:\s*", re.IGNORECASE)
_ATTEMPT = re.compile(r"\s*\((?:attempt|try) \d+\b[^()]*\)\s*$", re.IGNORECASE)

# In this order: what one leaves behind must not be taken for another. Quantifiers are bounded: a message is anybody's.
_FOLDED = (
    (re.compile(r"\b[a-z][a-z0-9+.-]{1,15}://[^\s'\"<>]{1,500}", re.IGNORECASE), "<url>"),
    (re.compile(r"[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,8}"), "<email>"),
    (re.compile(r"\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b0x[0-9a-f]{1,32}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b(?=[0-9a-f]{0,64}[0-9])(?=[0-9a-f]{0,64}[a-f])[0-9a-f]{8,64}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"(?<!\w)/(?:[\w.@+-]{1,255}/){1,32}[\w.@+-]{0,255}"), "<path>"),
    (re.compile(r"(?<!\w)(['\"])(?=[^'\"]{0,80}\w)[^'\"]{2,80}\1(?!\w)"), r"\1…\1"),
    (re.compile(r"\d+(?:[.,:]\d+)*"), "N"),
)


def essence(message: str) -> str:
    """What went wrong, in the message's own words and on one line."""
    # Only so much is looked at: what comes behind is a traceback, or nothing that anybody wrote by hand.
    text = " ".join(message[: LONGEST * 4].split())
    return _ATTEMPT.sub("", _PREFIX.sub("", text))


def reason_of(message: str) -> str:
    """What an ERROR's message says went wrong, with numbers, ids, quoted names, addresses and paths folded together.

    ``Generation failed: order 42: timed out after 30.5 s (attempt 2, retry in 60 s)`` is ``order N: timed out after
    N s``. A message that says nothing is ``(no message)``.
    """
    text = essence(message)
    for pattern, stand_in in _FOLDED:
        text = pattern.sub(stand_in, text)
    if len(text) > LONGEST:
        text = text[: LONGEST - 1].rstrip() + "…"
    return text or "(no message)"
