"""What the terminal is like."""

from __future__ import annotations

import shutil
import sys


def is_interactive() -> bool:
    """Whether a person can answer: both stdin and stdout are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def width() -> int:
    """Columns to fit lines into: the terminal's; without one as many as it takes, so that nothing is cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
