from __future__ import annotations

import sys
from datetime import datetime, timedelta

import pytest
from hypothesis import given, strategies as st
from rich.cells import cell_len

from sitegenctl.domain.orders.log import LATE, Cursor, LogLevel
from sitegenctl.domain.orders.order import LogRow
from sitegenctl.render.log import log_lines
from sitegenctl.render.text import neutralise


def row(log_id: int, order_id: int = 42, **fields: object) -> LogRow:
    known = {"step": "STEP", "message": "m", "status": "info", "created_at": None, **fields}
    return LogRow(log_id=log_id, order_id=order_id, **known)


def ids(rows: list[LogRow]) -> list[int]:
    return [each.log_id for each in rows]


def test_a_level_includes_higher_ones_and_info_everything() -> None:
    assert [level for level in LogLevel if LogLevel.WARNING.includes(level)] == ["warning", "error"]
    assert LogLevel.INFO.includes("of no contract")
    assert LogLevel.ERROR.includes("ERROR")
    assert not LogLevel.SUCCESS.includes("of no contract")


def test_a_row_committed_late_is_new_once() -> None:
    cursor = Cursor({42: 10}, now=0)
    assert ids(cursor.fresh([row(9), row(12), row(13)], now=1)) == [12, 13]
    assert ids(cursor.fresh([row(11), row(12), row(13)], now=2)) == [11]
    assert cursor.after_id == 10
    assert cursor.fresh([row(11), row(12), row(13)], now=2 + LATE) == []
    assert cursor.after_id == 13
    assert ids(cursor.fresh([row(14)], now=20)) == [14]


def test_earlier_rows_of_an_order_are_not_new() -> None:
    cursor = Cursor({1: 50, 2: 5}, seen=[51, 60], now=0)
    assert cursor.after_id == 5
    assert ids(cursor.fresh([row(6, 2), row(40, 1), row(51, 1), row(60, 2), row(61, 1)], now=0)) == [6, 61]


@given(st.lists(st.lists(st.integers(1, 60), max_size=8), max_size=12), st.integers(0, 30))
def test_every_row_above_the_known_id_is_read_once(commits: list[list[int]], known: int) -> None:
    """Rows become visible in any order, a second apart, each reading sees all above ``after_id``."""
    cursor = Cursor({42: known}, now=0)
    visible: set[int] = set()
    seen: list[int] = []
    for now, committed in enumerate(commits[: int(LATE)], 1):
        visible.update(committed)
        seen += ids(cursor.fresh([row(i) for i in sorted(visible) if i > cursor.after_id], now=now))
    assert sorted(seen) == sorted(i for i in visible if i > known)


LONG = ["plain " * 50, "日本語" * 50, "🍞" * 300, "e\u0301" * 300, "\x1b[2J" * 50, "x" * 500, "/a/path" * 90]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("message", LONG)
def test_a_long_message_is_wrapped_without_loss(width: int, message: str) -> None:
    lines = log_lines(row(1, message=message, step="ERROR", created_at=datetime(2026, 1, 1)), width=width)  # noqa: DTZ001
    assert len(lines) > 1
    assert all(cell_len(line) <= width and line.isprintable() for line in lines)
    shown = "".join("".join(lines).split())
    assert shown == f"00:00:00ERROR{''.join(neutralise(message).split())}"


@pytest.mark.parametrize(("width", "indent"), [(80, 34), (200, 34), (60, 34), (59, 19), (40, 2), (20, 2)])
def test_wrapped_lines_are_indented(width: int, indent: int) -> None:
    first, *rest = log_lines(row(1, message="word " * 100, step="ERROR"), width=width)
    assert first.startswith("  --:--:--   ERROR")
    if indent > 2:
        assert first.index("word") == indent
    assert {len(line) - len(line.lstrip()) for line in rest} == {indent}


def test_without_a_terminal_a_row_is_one_line() -> None:
    (line,) = log_lines(row(1, message="\x1b[2J日本 \n" * 100_000), width=sys.maxsize)
    assert line.isprintable()
    assert line.count("日本") == 100_000


def test_a_row_of_another_day_has_its_date() -> None:
    at = datetime(2026, 1, 2, 0, 10)  # noqa: DTZ001 - the log's own clock
    assert log_lines(row(1, created_at=at, age=timedelta(hours=1)), width=80)[0].startswith("  00:10:00 ")
    assert log_lines(row(1, created_at=at, age=timedelta(hours=24)), width=80)[0].startswith("  2026-01-02 00:10:00 ")
    assert log_lines(row(1), width=80)[0].startswith("  --:--:-- ")
