"""What the terminal is like."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from sitegenctl.render.table import Screen


def is_interactive() -> bool:
    """Whether a person can answer: both stdin and stdout are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def can_draw() -> bool:
    """Whether a full screen can be shown, which is drawn on stderr."""
    return is_interactive() and sys.stderr.isatty()


def is_served() -> bool:
    """Whether a browser is at the other end of stdin and stdout."""
    return os.environ.get("TEXTUAL_DRIVER") == "textual.drivers.web_driver:WebDriver"


def say_interrupted() -> None:
    """Say it, unless a browser is served: then it is the server that was interrupted, and says so for all."""
    if not is_served():
        print("interrupted", file=sys.stderr)


def width(stream: TextIO | None = None) -> int:
    """Columns to fit lines into: the terminal's; without one as many as it takes, so that nothing is cut.

    ``stream`` is where the lines go, if not to stdout.
    """
    return shutil.get_terminal_size().columns if (stream or sys.stdout).isatty() else sys.maxsize


def screen() -> Screen:
    """What the output goes to: colours only on a terminal, and not where NO_COLOR asks for none."""
    from sitegenctl.render.table import Screen

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    height = shutil.get_terminal_size().lines if sys.stdout.isatty() else sys.maxsize
    return Screen(width=width(), height=height, colour=colour)
