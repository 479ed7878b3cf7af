"""Neutralise untrusted text, fit text to the terminal, and format times.

What customers typed may contain escape sequences, bidirectional overrides or newlines. JSON has it exactly; every other
output is neutralised here.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

# C0 and C1 controls and DEL, line and paragraph separators, bidirectional marks, embeddings, overrides and isolates,
# zero-width characters and tags (which hide text), and lone surrogates (which cannot be encoded).
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f]"
)

# Terminals disagree about the width of emoji with these, and what is drawn beside them would leave residue: variation
# selectors, keycaps and skin tones are dropped, flags become letters.
_OF_UNCERTAIN_WIDTH: dict[int, str | None] = {
    **dict.fromkeys((*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), *range(0x1F3FB, 0x1F400), 0x20E3)),
    **{0x1F1E6 + place: letter for place, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ")},
}

# Joins emoji to one (a family); many terminals draw them one by one.
_EMOJI = "[\u2190-\u2bff\U0001f000-\U0001faff]"
_JOINER = re.compile(f"(?<={_EMOJI})\u200d(?={_EMOJI})")

_BREAKS = re.compile("[\t-\r\x85\u2028\u2029]+")

#: Minimum width: room for a wide character and its indent.
_MIN_WIDTH = 4

#: Narrower lines leave out columns and details.
NARROW = 60

#: Minimum width of a message beside its prefix.
_MIN_ROOM = 26


def neutralise(text: str) -> str:
    r"""The text with everything that could move the cursor or hide text escaped, as in ``\x1b``.

    Line breaks and tabs become spaces. Emoji are simplified to those whose width is the same on every terminal.
    """
    if not text.isascii():
        text = _JOINER.sub("", text.translate(_OF_UNCERTAIN_WIDTH))
    text = _BREAKS.sub(" ", text)
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def columns(text: str, within: int = 0) -> int:
    """The width of the neutralised text in terminal columns: a character takes none, one or two.

    A text that certainly fits ``within`` columns is not counted: the result is then at most ``within``.
    """
    if text.isascii() or len(text) * 2 <= within:
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def fit(text: str, width: int) -> str:
    """The neutralised text, cut to ``width`` columns with an ellipsis."""
    if columns(text, width) <= width:
        return text
    from rich.cells import set_cell_size

    # A wide character that would stick out becomes a space.
    return set_cell_size(text, max(width - 1, 0)).rstrip() + "…"


def shorten(text: str, width: int) -> str:
    """The text, neutralised and cut to ``width`` columns with an ellipsis."""
    return fit(neutralise(text), width)


def wrap(text: str, width: int, *, indent: int = 0) -> list[str]:
    """Wrap the neutralised text to ``width`` columns, all lines but the first indented."""
    width = max(width, _MIN_WIDTH)
    if columns(text, width) <= width:
        return [text]
    # Imported only here: these imports take longer than most commands.
    from rich.console import Console
    from rich.text import Text

    console = Console()
    indent = min(indent, width // 2)
    first = Text(text).wrap(console, width)[0].plain
    lines = [first.rstrip()]
    if rest := text[len(first) :].strip():
        lines += [" " * indent + line.plain.rstrip() for line in Text(rest).wrap(console, width - indent)]
    return lines


def hanging(prefix: str, message: str, width: int) -> list[str]:
    """A neutralised message after its prefix, wrapped to ``width`` columns with a hanging indent.

    Where the prefix leaves too little room, the indent is two columns.
    """
    column = columns(prefix)
    room = width - column
    if room < _MIN_ROOM:
        return wrap(f"{prefix}{message}".rstrip(), width, indent=2)
    first, *rest = wrap(message, room)
    return [f"{prefix}{first}".rstrip(), *(" " * column + line for line in rest)]


def folded(line: str, width: int) -> list[str]:
    """Wrap the neutralised line to ``width`` columns, its continuations indented by four more."""
    return wrap(line, width, indent=len(line) - len(line.lstrip()) + 4)


def iso(time: datetime | None) -> str | None:
    """The time for JSON."""
    return time.isoformat() if time else None


def seconds(span: timedelta | None) -> float | None:
    """The span in seconds for JSON."""
    return None if span is None else span.total_seconds()


def clock(time: datetime | None) -> str:
    """Date and time to the second; "-" for none."""
    return time.strftime("%Y-%m-%d %H:%M:%S") if time else "-"
