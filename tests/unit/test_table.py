from __future__ import annotations

import sys

import pytest
from rich.cells import cell_len

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.render.table import Column, Line, Screen, table

COLUMNS = [
    Column(heading="order", number=True),
    Column(heading="condition"),
    Column(heading="business", may_shrink=True),
    Column(heading="why", may_shrink=True, from_width=70),
]
LINES = [
    Line(cells=["1049", "interrupted", "Padaria São João & Filhos 日本 " * 3, "a long reason " * 9]),
    Line(cells=["7", "ghost", "\x1b[2J\nforged", "short"], severity=Severity.FAULT),
]


@pytest.mark.parametrize("width", [32, 40, 69, 70, 80, 120, 200])
def test_only_shrinkable_columns_are_truncated(width: int) -> None:
    heading, first, second = table(COLUMNS, LINES, Screen(width=width, colour=False)).splitlines()
    assert all(cell_len(line) <= width for line in (heading, first, second))
    assert heading.split() == ["order", "condition", "business", "why"][: 4 if width >= 70 else 3]
    assert first.split()[:2] == ["1049", "interrupted"]
    assert second.split()[:2] == ["7", "ghost"]
    if width < 120:
        assert first.endswith("…")
    assert second.isprintable()


def test_without_a_terminal_nothing_is_cut() -> None:
    text = table(COLUMNS, LINES, Screen(width=sys.maxsize, colour=False))
    assert "…" not in text
    assert len(text.splitlines()) == 3
