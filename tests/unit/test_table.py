from __future__ import annotations

import sys

import pytest
from rich.cells import cell_len

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.render.table import MAX_NAME, Column, Line, Screen, table

COLUMNS = [
    Column(heading="order", number=True),
    Column(heading="condition"),
    Column(heading="business", may_shrink=True),
    Column(heading="why", may_shrink=True, from_width=70, most=sys.maxsize),
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


def test_only_long_names_are_cut_where_there_is_room() -> None:
    long = Line(cells=["9" * 500, "condition", "日本" * 500, "a long reason " * 3])
    heading, first, second, last = table(COLUMNS, [*LINES, long], Screen(width=sys.maxsize, colour=False)).splitlines()
    order, _, name, reason = last.split(maxsplit=3)
    assert (cell_len(order), order[-1], name[-1]) == (MAX_NAME, "…", "…")
    assert cell_len(name) <= MAX_NAME
    assert reason == "a long reason a long reason a long reason"
    assert first.endswith("a long reason")
    assert max(map(cell_len, (heading, first, second, last))) <= 3 * MAX_NAME + 150
