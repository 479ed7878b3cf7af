"""Reasons of failures, from the messages of ERROR rows."""

from __future__ import annotations

import re

from sitegenctl.domain.statistics.log_window import MAX_ERROR

#: Maximum length of a reason.
MAX_REASON = 300

# What the generator adds before and after the cause.
_PREFIX = re.compile(r"^(?:generation failed|error)\s*:\s*", re.IGNORECASE)
_ATTEMPT = re.compile(r"\s*\((?:attempt|try) \d+\b[^()]*\)\s*$", re.IGNORECASE)

# Order matters: a replacement must not match a later pattern. Quantifiers are bounded, because messages are untrusted.
_PLACEHOLDERS = (
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
    """The cause of a failure in the words of its message, on one line."""
    # The rest of a longer message is a traceback, or nothing that explains it.
    text = " ".join(message[:MAX_ERROR].split())
    return _ATTEMPT.sub("", _PREFIX.sub("", text))


def reason_of(message: str) -> str:
    """The reason in an ERROR's message, with placeholders for numbers, ids, quoted names, addresses and paths.

    ``Generation failed: order 42: timed out after 30.5 s (attempt 2, retry in 60 s)`` is ``order N: timed out after
    N s``. An empty message is ``(no message)``.
    """
    text = essence(message)
    for pattern, placeholder in _PLACEHOLDERS:
        text = pattern.sub(placeholder, text)
    if len(text) > MAX_REASON:
        text = text[: MAX_REASON - 1].rstrip() + "…"
    return text or "(no message)"
