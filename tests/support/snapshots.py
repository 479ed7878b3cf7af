"""Pictures of the screen, compared with those stored beside the tests; ``UPDATE_SNAPSHOTS=1`` draws them anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

STORED = Path(__file__).parents[1] / "tui" / "pictures"


def check(name: str, svg: str, left_at: Path) -> None:
    """Compare a screenshot with the stored one of this name; one that differs is left to be looked at."""
    drawn, stored = normalised(svg), STORED / f"{name}.svg"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        STORED.mkdir(exist_ok=True)
        stored.write_text(drawn, encoding="utf-8")
        return
    known = stored.read_text(encoding="utf-8") if stored.exists() else ""
    if drawn != known:
        found = left_at / f"{name}.svg"
        found.write_text(drawn, encoding="utf-8")
        raise AssertionError(f"it looks otherwise: {found} is not {stored}; UPDATE_SNAPSHOTS=1 takes it over")


def normalised(svg: str) -> str:
    """The picture without what is made anew at each drawing: the ids, and what loads fonts from elsewhere."""
    svg = re.sub(r"terminal-\d+-", "terminal-", svg)
    svg = re.sub(r"@font-face \{.*?\}\n?", "", svg, flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"
