"""Properties of the terminal, and what is printed on Ctrl-C."""

from __future__ import annotations

import os
import shutil
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


def width(stream: TextIO | None = None) -> int:
    """Columns of the terminal that the stream (default stdout) is; without one, no limit, so that nothing is cut."""
    return shutil.get_terminal_size().columns if (stream or sys.stdout).isatty() else sys.maxsize


def screen() -> Screen:
    """The size of stdout and whether it takes colours, which NO_COLOR switches off."""
    from sitegenctl.render.table import Screen

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    height = shutil.get_terminal_size().lines if sys.stdout.isatty() else sys.maxsize
    return Screen(width=width(), height=height, colour=colour)
