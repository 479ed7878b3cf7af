from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from sitegenctl.cli.order_selection import MAX_ORDERS, read_order_ids
from sitegenctl.errors import UsageProblem


def test_numbers_and_ranges_each_once_in_the_order_given() -> None:
    assert read_order_ids(["42", "7-9", "8", "3,1"], None) == [42, 7, 8, 9, 3, 1]


def test_a_file_may_have_comments_and_any_white_space(tmp_path: Path) -> None:
    file = tmp_path / "orders.txt"
    file.write_text("# stuck since Monday\n42 43\n\n50-52  # Ana's\n")
    assert read_order_ids(["7"], file) == [7, 42, 43, 50, 51, 52]


def test_a_dash_is_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("1\n2\n"))
    assert read_order_ids(None, Path("-")) == [1, 2]


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("abc", "abc is not an order number"),
        ("-1", "-1 is not an order number"),
        ("0", "the smallest is 1"),
        ("9223372036854775808", "the largest is 9223372036854775807"),
        ("1-99999999999999999999999", "not an order number"),
        ("45-40", "reversed range"),
        ("4.5", "not an order number"),
        ("٤٢", "not an order number"),
        (f"1-{MAX_ORDERS + 1}", "more than"),
    ],
)
def test_a_bad_word_is_named(word: str, complaint: str) -> None:
    with pytest.raises(UsageProblem, match=complaint) as caught:
        read_order_ids(["42", word], None)
    assert caught.value.exit_code == 2


def test_a_bad_line_among_thousands_is_named_by_its_number(tmp_path: Path) -> None:
    file = tmp_path / "orders.txt"
    lines = [str(number) for number in range(1, 5001)]
    lines[3121] = "31x22"
    file.write_text("\n".join(lines))
    with pytest.raises(UsageProblem, match="line 3122: 31x22 is not an order number"):
        read_order_ids(None, file)


@pytest.mark.parametrize("content", [b"", b"\n  \n# only a comment\n", b"\xff\xfe\x00"])
def test_a_file_without_orders_is_an_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "orders.txt"
    file.write_bytes(content)
    with pytest.raises(UsageProblem, match=r"orders\.txt"):
        read_order_ids(["42"] if content else None, file)


def test_a_missing_file_and_no_order_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="cannot be read"):
        read_order_ids(None, tmp_path / "nowhere")
    with pytest.raises(UsageProblem, match="no orders selected"):
        read_order_ids([], None)


@given(st.lists(st.integers(1, 2_147_483_647), min_size=1))
def test_any_numbers_come_back(numbers: list[int]) -> None:
    assert read_order_ids([str(number) for number in numbers], None) == list(dict.fromkeys(numbers))
