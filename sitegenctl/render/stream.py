"""Lines of a stream: one at a time, each fitted to the screen or exact as JSON.

Tables, which need all their rows, are ``table.py``'s; documents ``output.py``'s.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

#: Below so many columns a line leaves out what can be spared.
NARROW = 60


def json_line(row: Mapping[str, Any]) -> str:
    """The row as a line of NDJSON, every text exact."""
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        # JSON can carry a lone surrogate, UTF-8 can't: escaped it is the same text.
        return json.dumps(row)
    return line


def fit(text: str, width: int) -> str:
    """Neutralised text cut to ``width`` columns of a terminal, in which some characters take two and some none."""
    if len(text) * 2 <= width:
        return text
    used = 0
    room = None
    for index, char in enumerate(text):
        # Where the ellipsis goes if the text turns out too long.
        if room is None and used + _columns(char) > width - 1:
            room = index
        used += _columns(char)
        if used > width:
            return text[:room] + "…"
    return text


def _columns(char: str) -> int:
    if char == "\ufe0f":  # makes a picture of the character before it, and that one wide
        return 1
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
