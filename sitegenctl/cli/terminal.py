"""Properties of the terminal, and what is printed on Ctrl-C."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from sitegenctl.render.table import Screen


def is_interactive() -> bool:
    """Whether stdin and stdout are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def can_draw() -> bool:
    """Whether a full-screen application can run: Textual draws on stderr."""
    return is_interactive() and sys.stderr.isatty()


def is_served() -> bool:
    """Whether this process is the live view of one browser, started by ``live --web``."""
    return os.environ.get("TEXTUAL_DRIVER") == "textual.drivers.web_driver:WebDriver"


def print_interrupted() -> None:
    """Print ``interrupted``, except in a browser's process: its server prints it once for all."""
    if not is_served():
        print("interrupted", file=sys.stderr)


def forget_exported_size() -> None:
    """Have libraries ask the terminal for its size, which exported COLUMNS and LINES do not follow."""
    if sys.stdout.isatty() or sys.stderr.isatty():
        for name in ("COLUMNS", "LINES"):
            os.environ.pop(name, None)


def width(stream: TextIO | None = None) -> int:
    """Columns of the terminal that the stream (default stdout) is; without one, no limit, so that nothing is cut."""
    return _size(stream or sys.stdout).columns


def _size(stream: TextIO) -> os.terminal_size:
    if not stream.isatty():
        return os.terminal_size((sys.maxsize, sys.maxsize))
    size = os.get_terminal_size(stream.fileno())
    # A serial console does not know its size.
    return os.terminal_size((size.columns or 80, size.lines or 24))


def screen() -> Screen:
    """The size of stdout and whether it takes colours, which NO_COLOR switches off."""
    from sitegenctl.render.table import Screen

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    size = _size(sys.stdout)
    return Screen(width=size.columns, height=size.lines, colour=colour)
