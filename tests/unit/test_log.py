"""Levels, and which rows of a growing log are new."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from sitegenctl.domain.log import LATE, Cursor, LogLevel
from sitegenctl.domain.order import LogRow
from sitegenctl.render.log import log_line
from sitegenctl.render.stream import fit


def row(log_id: int, order_id: int = 42, **fields: object) -> LogRow:
    known = {"step": "STEP", "message": "m", "status": "info", "created_at": None, **fields}
    return LogRow(log_id=log_id, order_id=order_id, **known)  # type: ignore[arg-type]


def ids(rows: list[LogRow]) -> list[int]:
    return [each.log_id for each in rows]


def test_a_level_takes_what_is_worse_and_info_takes_all() -> None:
    assert [level for level in LogLevel if LogLevel.WARNING.includes(level)] == ["warning", "error"]
    assert LogLevel.INFO.includes("of no contract")
    assert LogLevel.ERROR.includes("ERROR")
    assert not LogLevel.SUCCESS.includes("of no contract")


def test_a_row_is_new_once_however_late_its_id_is_committed() -> None:
    cursor = Cursor({42: 10}, now=0)
    assert ids(cursor.fresh([row(9), row(12), row(13)], now=1)) == [12, 13]
    assert ids(cursor.fresh([row(11), row(12), row(13)], now=2)) == [11]
    assert cursor.after_id == 10
    assert cursor.fresh([row(11), row(12), row(13)], now=2 + LATE) == []
    assert cursor.after_id == 13
    assert ids(cursor.fresh([row(14)], now=20)) == [14]


def test_what_an_order_had_before_stays_unseen() -> None:
    cursor = Cursor({1: 50, 2: 5}, seen=[51, 60], now=0)
    assert cursor.after_id == 5
    assert ids(cursor.fresh([row(6, 2), row(40, 1), row(51, 1), row(60, 2), row(61, 1)], now=0)) == [6, 61]


@given(st.lists(st.lists(st.integers(1, 60), max_size=8), max_size=12), st.integers(0, 30))
def test_no_row_is_seen_twice_and_none_above_the_known_is_missed(commits: list[list[int]], known: int) -> None:
    """Rows become visible in any order, a second apart, each reading sees all above ``after_id``."""
    cursor = Cursor({42: known}, now=0)
    visible: set[int] = set()
    seen: list[int] = []
    for now, committed in enumerate(commits[: int(LATE)], 1):
        visible.update(committed)
        seen += ids(cursor.fresh([row(i) for i in sorted(visible) if i > cursor.after_id], now=now))
    assert sorted(seen) == sorted(i for i in visible if i > known)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("message", ["plain " * 50, "日本語" * 50, "🍞" * 300, "e\u0301" * 300, "\x1b[2J" * 50])
def test_a_line_never_takes_more_columns_than_there_are(width: int, message: str) -> None:
    from rich.cells import cell_len

    line = log_line(row(1, message=message, created_at=datetime(2026, 1, 1)), width=width)  # noqa: DTZ001
    assert cell_len(line) <= width
    assert line.endswith("…")
    assert line.isprintable()


def test_what_fits_is_not_cut() -> None:
    assert fit("日本", 4) == "日本"
    assert fit("日本", 3) == "日…"
    assert fit("abc", 3) == "abc"
    assert fit("abcd", 3) == "ab…"


def test_a_row_of_another_day_has_its_date() -> None:
    at = datetime(2026, 1, 2, 0, 10)  # noqa: DTZ001 - the log's own clock
    assert log_line(row(1, created_at=at, age=timedelta(hours=1)), width=80).startswith("  00:10:00 ")
    assert log_line(row(1, created_at=at, age=timedelta(hours=24)), width=80).startswith("  2026-01-02 00:10:00 ")
    assert log_line(row(1), width=80).startswith("  --:--:-- ")
