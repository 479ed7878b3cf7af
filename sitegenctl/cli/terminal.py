"""What the terminal is like."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sitegenctl.render.table import Screen


def is_interactive() -> bool:
    """Whether a person can answer: both stdin and stdout are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def width() -> int:
    """Columns to fit lines into: the terminal's; without one as many as it takes, so that nothing is cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000


def screen() -> Screen:
    """What the output goes to: colours only on a terminal, and not where NO_COLOR asks for none."""
    from sitegenctl.render.table import Screen

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Screen(width=width(), colour=colour)
