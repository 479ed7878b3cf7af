"""Untrusted text made safe to show, and times in words.

What customers typed may hold anything: escape sequences that repaint the screen, bidi overrides that turn a
line around, newlines that forge rows. JSON carries it exactly; every other output goes through here.
"""

from __future__ import annotations

import re
import textwrap
from datetime import datetime, timedelta

# C0 and C1 controls and DEL; line and paragraph separators; bidi marks, embeddings, overrides and isolates;
# zero-width characters and tags, which hide text; lone surrogates, which no terminal takes.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def neutralise(text: str) -> str:
    r"""The text with everything that could move the cursor or hide something written out, as in ``\x1b``."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def shorten(text: str, width: int) -> str:
    """The neutralised text, cut to ``width`` characters with an ellipsis."""
    safe = neutralise(text)
    return safe if len(safe) <= width else safe[: width - 1] + "…"


def folded(line: str, width: int) -> list[str]:
    """The line, folded between words where it is longer than ``width``, its continuations set in a little."""
    if len(line) <= width:
        return [line]
    indent = len(line) - len(line.lstrip())
    return textwrap.wrap(line, width, subsequent_indent=" " * min(indent + 4, width // 2), break_on_hyphens=False) or [
        line
    ]


def iso(time: datetime | None) -> str | None:
    """The time as JSON has it."""
    return time.isoformat() if time else None


def seconds(span: timedelta | None) -> float | None:
    """The span as JSON has it."""
    return None if span is None else span.total_seconds()


def clock(time: datetime | None) -> str:
    """Date and time to the second; "-" for none."""
    return time.strftime("%Y-%m-%d %H:%M:%S") if time else "-"
