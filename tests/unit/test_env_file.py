from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from sitegenctl.config.env_file import read_env_file
from sitegenctl.errors import UsageProblem

KNOWN = ("DATABASE_URL", "REDIS_URL")


def read(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "crm.env"
    path.write_bytes(text.encode())
    return read_env_file(path, KNOWN)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("DATABASE_URL=postgresql://u:p@h/d", "postgresql://u:p@h/d"),
        ("export DATABASE_URL=x", "x"),
        ("  DATABASE_URL = x  ", "x"),
        ("DATABASE_URL=x # why", "x"),
        ("DATABASE_URL=p#ss # why", "p#ss"),
        ("DATABASE_URL=a b  c", "a b  c"),
        ("DATABASE_URL='$x ${Y} # \\n \"'", '$x ${Y} # \\n "'),
        ('DATABASE_URL="a # b"  # why', "a # b"),
        (r'DATABASE_URL="say \"x\" \\ \$ \d"', r'say "x" \ $ \d'),
        ('DATABASE_URL="two\nlines"', "two\nlines"),
        (r'DATABASE_URL="two\nlines"', "two\nlines"),
        ("DATABASE_URL=pa$word", "pa$word"),
        ("P=s3cret\nDATABASE_URL=u:${P}@h", "u:s3cret@h"),
        ('P=s3cret\nDATABASE_URL="u:${P}@h"', "u:s3cret@h"),
        ("P=s3cret\nDATABASE_URL='u:${P}@h'", "u:${P}@h"),
        ('P=s3cret\nDATABASE_URL="u:\\${P}@h"', "u:${P}@h"),
        ('P=1\nDATABASE_URL="a\\\\${P}"', "a\\1"),
        ('P=1\nDATABASE_URL="a\\\\\\${P}"', "a\\${P}"),
        ("P=1\nDATABASE_URL=a\\${P}", "a\\1"),
        ("P='\\d\\n${Q}'\nDATABASE_URL=\"${P}\"", "\\d\\n${Q}"),
        ('DATABASE_URL="${P:-say \\"x\\" \\$}"', 'say "x" $'),
        ('P="\\b"\nDATABASE_URL=x', "x"),
        ('DATABASE_URL="\\b"\nDATABASE_URL=x', "x"),
        ("DATABASE_URL='p\\bss'", "p\\bss"),
        ("DATABASE_URL=p\\bss", "p\\bss"),
        ("DATABASE_URL=${P:-fallback}", "fallback"),
        ("P=\nDATABASE_URL=${P:-fallback}", "fallback"),
        ("P=\nDATABASE_URL=x${P-fallback}", "x"),
        ("DATABASE_URL=$(rm -rf /) `id`", "$(rm -rf /) `id`"),
        ("DATABASE_URL=first\nDATABASE_URL=second", "second"),
        ("DATABASE_URL\nDATABASE_URL=x", "x"),
        ("\ufeff# a comment\r\n\r\nDATABASE_URL=x\r\nOTHER=y\r\n", "x"),
        ("OTHER=${NOWHERE}\nDATABASE_URL=x", "x"),
        ("dotted.name=1\nDATABASE_URL=x", "x"),
    ],
)
def test_values_are_parsed(tmp_path: Path, line: str, value: str) -> None:
    assert read(tmp_path, line) == {"DATABASE_URL": value}


def test_only_known_variables_are_read(tmp_path: Path) -> None:
    text = "PATH=/evil\nLD_PRELOAD=x\nREDIS_URL=redis://r\nDATABASE_URL=\n"
    assert read(tmp_path, text) == {"REDIS_URL": "redis://r"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "sets no variable that sitegenctl knows"),
        ("OTHER=s3cret", "sets no variable that sitegenctl knows"),
        ("DATABASE_URL=x\ns3cret value", "line 2: not a valid NAME=value"),
        ('A=1\n\nDATABASE_URL="s3cret', "line 3: not a valid NAME=value"),
        ("DATABASE_URL='s3cret' more", "line 1: not a valid NAME=value"),
        ("DATABASE_URL=s3cret${LATER}\nLATER=1", "DATABASE_URL refers to LATER, which the file does not set before it"),
        ('A=1\n\nDATABASE_URL="s3cret\\b"', "line 3: DATABASE_URL has a backslash escape for a control character"),
        ('P="s3cret\\v"\nDATABASE_URL=${P}', "line 2: DATABASE_URL has a backslash escape for a control character"),
        ('DATABASE_URL="${P:-s3cret\\a}"', "line 1: DATABASE_URL has a backslash escape for a control character"),
        ("A=" + "s3cret" * 200_000, "is too large for an environment file"),
    ],
)
def test_errors_do_not_quote_values(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        read(tmp_path, text)
    assert complaint in caught.value.message
    assert "s3cret" not in f"{caught.value.message} {caught.value.hint}"
    assert "\n" not in caught.value.message


def test_unreadable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="can't be read: No such file"):
        read_env_file(tmp_path / "nowhere", KNOWN)
    with pytest.raises(UsageProblem, match="can't be read: Is a directory"):
        read_env_file(tmp_path, KNOWN)
    (tmp_path / "binary").write_bytes(b"DATABASE_URL=\xff\xfe")
    with pytest.raises(UsageProblem, match="not valid UTF-8"):
        read_env_file(tmp_path / "binary", KNOWN)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="'\\")))
def test_single_quoted_value_is_literal(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.env"
    path.write_bytes(f"DATABASE_URL=x\nREDIS_URL='{value}'".encode())
    assert read_env_file(path, KNOWN).get("REDIS_URL", "") == value


@given(st.text())
def test_any_text_is_parsed_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "odd.env"
    path.write_bytes(f"REDIS_URL=x\n{text}".encode(errors="replace"))
    with contextlib.suppress(UsageProblem):
        assert "REDIS_URL" in read_env_file(path, KNOWN)
