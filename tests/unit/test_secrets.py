from __future__ import annotations

import sys
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given, strategies as st

from sitegenctl.config.secrets import has_password, password_in, password_of, with_password, without_password
from sitegenctl.errors import UsageProblem


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("postgresql://crm@h:5432/d?x=1", "postgresql://crm:p%40%2F@h:5432/d?x=1"),
        ("postgresql+asyncpg://h/d", "postgresql+asyncpg://:p%40%2F@h/d"),
        ("redis://h:6379/0", "redis://:p%40%2F@h:6379/0"),
        ("redis://user:@h", "redis://user:p%40%2F@h"),
        ("unix:///run/redis.sock?db=1", "unix://:p%40%2F@/run/redis.sock?db=1"),
        ("redis://[::1]:6379/0", "redis://:p%40%2F@[::1]:6379/0"),
        ("sentinel://a:1/0;sentinel://b:2/0", "sentinel://:p%40%2F@a:1/0;sentinel://:p%40%2F@b:2/0"),
        ("redis://:own@h/0", "redis://:own@h/0"),
        ("redis://:o/w@n@h/0", "redis://:o/w@n@h/0"),
        ("unix:///run/redis.sock?password=own", "unix:///run/redis.sock?password=own"),
        ("no url", "no url"),
    ],
)
def test_password_is_added_to_urls_without_one(url: str, whole: str) -> None:
    assert with_password(url, "p@/") == whole


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_password_survives_a_url(password: str) -> None:
    url = with_password("postgresql://crm@host:5432/d", password)
    parts = urlsplit(url)
    assert (parts.username, unquote(parts.password or ""), parts.hostname, parts.port) == (
        "crm",
        password,
        "host",
        5432,
    )
    assert has_password(url)


def test_the_first_line_is_the_password(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    for content in ("s3 cret", "s3 cret\n", "s3 cret\r\nlogin: crm\n"):
        path.write_text(content, newline="")
        assert password_in(path, "redis_password_file") == "s3 cret"
    script = "print('s3 cret'); print('login: crm')"
    assert password_of((sys.executable, "-c", script), "redis_password_command") == "s3 cret"


def python(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", script)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (("/no/such/thing",), "thing can't be run: No such file"),
        (python("import sys; print('s3cret'); print('s3cret', file=sys.stderr); sys.exit(3)"), "failed (exit 3)"),
        (python("pass"), "the first line of"),
        (python("print(); print('s3cret')"), "the first line of"),
        (python("import sys; sys.stdout.buffer.write(b'\\xff')"), "is not valid UTF-8"),
        (python("while True: print('s3cret')"), "is too long for a password"),
        (python("import time; print('s3cret', flush=True); time.sleep(60)"), "took longer than 0.5 s"),
        (python("import os, time; print('s3cret', flush=True); os.close(1); time.sleep(60)"), "took longer than 0.5 s"),
    ],
    ids=["none", "failing", "silent", "empty line", "binary", "endless", "hanging", "closed"],
)
def test_failing_command_is_reported_without_its_output(
    command: tuple[str, ...], complaint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    with pytest.raises(UsageProblem) as caught:
        password_of(command, "redis_password_command", timeout=0.5 if "0.5" in complaint else 20)
    assert caught.value.message.startswith("redis_password_command: ")
    assert complaint in caught.value.message
    assert "s3cret" not in f"{caught.value.message} {caught.value.hint}"
    assert capfd.readouterr() == ("", "")
    assert time.monotonic() - began < 20


def test_command_runs_once_per_process(tmp_path: Path) -> None:
    count = tmp_path / "count"
    command = ("sh", "-c", f"echo x >> {count}; echo s3cret")
    assert {password_of(command, "redis_password_command") for _ in range(3)} == {"s3cret"}
    assert count.read_text() == "x\n"


@pytest.mark.parametrize("detach", ["", "os.setsid(); "], ids=["in its group", "detached"])
def test_child_that_keeps_stdout_open_does_not_delay(detach: str) -> None:
    """As an agent does that the command starts."""
    child = f"os.fork() or [{detach.replace('; ', ', ')} time.sleep(30), os._exit(0)]"
    script = f"import os, time; print('s3cret', flush=True); {child}"
    began = time.monotonic()
    assert password_of(python(script), "redis_password_command") == "s3cret"
    assert time.monotonic() - began < 25


def test_command_gets_no_stdin() -> None:
    assert password_of(python("import sys; print(len(sys.stdin.read()))"), "redis_password_command") == "0"


def test_invalid_password_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    with pytest.raises(UsageProblem, match=r"redis_password_file: .*kept can't be read: No such file"):
        password_in(path, "redis_password_file")
    path.write_text("\n")
    with pytest.raises(UsageProblem, match=r"the first line of .* is empty"):
        password_in(path, "redis_password_file")
    path.write_text("x" * 10_000)
    with pytest.raises(UsageProblem, match="too long for a password"):
        password_in(path, "redis_password_file")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:s3cret@h/d", "postgresql://u@h/d"),
        ("postgresql://u:s3@cr/et@h/d?sslmode=require&password=s3cret", "postgresql://u@h/d?sslmode=require"),
        ("redis://:s3cret@h/0?password=s3cret&db=1", "redis://@h/0?db=1"),
        ("sentinel://:s3cret@a/0;sentinel://:s3cret@b/0", "sentinel://@a/0;sentinel://@b/0"),
        ("redis://h/0", "redis://h/0"),
    ],
)
def test_password_is_removed_wherever_it_stands(url: str, expected: str) -> None:
    assert without_password(url) == expected
    assert "n3w" in with_password(without_password(url), "n3w")
