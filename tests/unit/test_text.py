from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given, strategies as st
from rich.cells import cell_len

from sitegenctl.render.output import Report, write
from sitegenctl.render.text import fit, hanging, neutralise, shorten, wrap

HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07",
    "line\nforged row",
    "a\rb\tc\x00d",
    "\u202egnp.exe",
    "\u2066isolate\u2069",
    "\x9b31mC1",
    "zero\u200bwidth\ufeff",
    "joi\u200dned",
    "tag\U000e0041",
    "\ud800 lone surrogate",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_moves_the_cursor_or_hides_is_left(text: str) -> None:
    safe = neutralise(text)
    assert safe.isprintable()
    safe.encode("utf-8")


@pytest.mark.parametrize("text", ["Padaria São João & Filhos", "[bold]not markup[/bold]", "日本語 🍞", "O'Neil"])
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert neutralise(text) == text


@pytest.mark.parametrize("text", ["two\nlines", "two\r\n\r\nlines", "two\tlines", "two\u2028lines", "two\x0b\x85lines"])
def test_line_breaks_become_a_space(text: str) -> None:
    assert neutralise(text) == "two lines"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Clínica ❤️ Vida", "Clínica ❤ Vida"),
        ("☎️ 1️⃣2️⃣#️⃣", "☎ 12#"),
        ("🇧🇷 Brasil", "BR Brasil"),
        ("👍🏽 ok ✌🏿", "👍 ok ✌"),
        ("葛\U000e0100城", "葛城"),
        ("☺\ufe0e", "☺"),
        ("👩🏽\u200d👩\u200d👧 ❤️\u200d🔥", "👩👩👧 ❤🔥"),
    ],
)
def test_emoji_have_one_width_on_every_terminal(text: str, shown: str) -> None:
    assert neutralise(text) == shown
    assert cell_len(shown) == sum(map(cell_len, shown))


@given(st.text())
def test_no_control_character_survives(text: str) -> None:
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in neutralise(text))


def test_long_text_is_cut_to_its_columns() -> None:
    assert shorten("🍞" * 10_000, 20) == "🍞" * 9 + "…"
    assert shorten("short", 20) == "short"
    assert shorten("a\x1bb", 20) == "a\\x1bb"


def test_short_text_is_not_truncated() -> None:
    assert fit("日本", 4) == "日本"
    assert fit("日本", 3) == "日…"
    assert fit("日本語", 4) == "日…"
    assert fit("abc", 3) == "abc"
    assert fit("abcd", 3) == "ab…"


@given(st.text(), st.integers(20, 120), st.integers(0, 120), st.text(max_size=60))
def test_wrapping_loses_nothing_and_fits(text: str, width: int, indent: int, prefix: str) -> None:
    safe, before = neutralise(text), neutralise(prefix)
    for lines, whole in ((wrap(safe, width, indent=indent), safe), (hanging(before, safe, width), before + safe)):
        assert all(cell_len(line) <= width for line in lines)
        assert "".join("".join(lines).split()) == "".join(whole.split())


def report(rows: list[dict[str, object]]) -> Report:
    return Report(command="inspect", data=rows, rows=rows, text=lambda: "text\n")


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(cell: str) -> None:
    stream = io.StringIO(newline="")
    write(report([{"name": cell}]), "csv", stream)
    (row,) = csv.DictReader(io.StringIO(stream.getvalue(), newline=""))
    assert row["name"] == f"'{cell}"


@pytest.mark.parametrize("text", HOSTILE)
def test_json_carries_text_exactly(text: str) -> None:
    stream = io.StringIO()
    write(report([{"name": text}]), "json", stream)
    assert json.loads(stream.getvalue())["data"] == [{"name": text}]
