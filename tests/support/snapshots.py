"""Compare screenshots with the stored ones; ``UPDATE_SNAPSHOTS=1`` stores them."""

from __future__ import annotations

import os
import re
from pathlib import Path

STORED = Path(__file__).parents[1] / "tui" / "pictures"


def check(name: str, svg: str, left_at: Path) -> None:
    """Compare a screenshot with the stored one; one that differs is kept in ``left_at``."""
    drawn, stored = normalised(svg), STORED / f"{name}.svg"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        STORED.mkdir(exist_ok=True)
        stored.write_text(drawn, encoding="utf-8")
        return
    known = stored.read_text(encoding="utf-8") if stored.exists() else ""
    if drawn != known:
        different = left_at / f"{name}.svg"
        different.write_text(drawn, encoding="utf-8")
        raise AssertionError(f"{different} differs from {stored}; UPDATE_SNAPSHOTS=1 stores it")


def normalised(svg: str) -> str:
    """The screenshot without random ids and remote fonts."""
    svg = re.sub(r"terminal-\d+-", "terminal-", svg)
    svg = re.sub(r"@font-face \{.*?\}\n?", "", svg, flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"
