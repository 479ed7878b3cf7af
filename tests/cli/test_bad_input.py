from __future__ import annotations

import io
import json
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from sitegenctl.cli import pattern
from sitegenctl.cli.order_selection import MAX_ORDERS, read_order_ids
from sitegenctl.errors import UsageProblem
from tests.support.commands import Console
from tests.support.world import World


def test_values_within_the_limits_are_accepted(world: World, console: Console) -> None:
    world.order(42)
    assert len(console.data("inspect", "orders", "--since", "36500d")["orders"]) == 1
    assert console.data("inspect", "orders", "--page", "1000000", "--limit", "10000")["orders"] == []
    assert console.data("inspect", "42", "--last", "1000000")["log"] == []


@pytest.mark.parametrize(
    "command",
    [
        ["inspect", "orders", "--search", "\udcff"],
        ["inspect", "task", "a\udcffb"],
        ["enqueue", "--search", "caf\udce9"],
        ["events", "--worker", "\udcff"],
        ["inspect", "\udcff"],
    ],
    ids=lambda command: " ".join(map(ascii, command)),
)
def test_bytes_that_are_no_text(world: World, command: Sequence[str]) -> None:
    process = world.run(*command)
    assert (process.returncode, process.stdout) == (2, "")
    assert "is not valid UTF-8" in process.stderr.splitlines()[0]
    assert json.loads(world.run(*command, "-o", "json").stdout)["exit_code"] == 2


def test_a_task_whose_id_is_no_text_is_nowhere(world: World, console: Console) -> None:
    """A journal of another program may contain one."""
    world.order(42, "GENERATING", steps=["OPERATOR_ENQUEUE"])
    world.sql("""UPDATE site_generation_logs SET details = '{"task_id": "a\\ud800b"}'""")
    assert console.data("inspect", "42")["condition"] == "interrupted"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("foo=x", "REDIS_URL: unknown option 'foo'"),
        ("socket_timeout=abc", "REDIS_URL: socket_timeout must be a number\n"),
        ("db=one", "REDIS_URL: db must be a number"),
        ("ssl_cert_reqs=none", "REDIS_URL: ssl_cert_reqs requires TLS"),
    ],
)
@pytest.mark.parametrize(
    "command", [["inspect"], ["inspect", "workers"], ["inspect", "task", "abc"], ["events"], ["doctor"]], ids=" ".join
)
def test_an_option_in_the_url_that_redis_has_not(
    world: World,
    console: Console,
    monkeypatch: pytest.MonkeyPatch,
    command: Sequence[str],
    options: str,
    complaint: str,
) -> None:
    monkeypatch.setenv("REDIS_URL", f"{world.redis_url}?{options}")
    code, stdout, stderr = console(*command)
    assert (code, stdout) == (2, "")
    assert stderr.startswith(f"error: {complaint}")


@pytest.mark.parametrize("command", [["inspect"], ["inspect", "workers"]], ids=" ".join)
def test_unknown_tls_option_is_refused(
    console: Console, monkeypatch: pytest.MonkeyPatch, command: Sequence[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", "rediss://127.0.0.1:1/0?ssl_foo=x")
    code, stdout, stderr = console(*command)
    assert (code, stdout) == (2, "")
    assert stderr.startswith("error: REDIS_URL: unknown option ")
    assert "ssl_foo" in stderr.splitlines()[0]


def test_unescaped_password_is_not_printed(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:pa?ss=word@127.0.0.1:6379/0")
    code, _, stderr = console("inspect")
    assert code == 2
    assert "percent-encoded" in stderr
    assert "word" not in stderr.replace("password", "")


def test_options_of_redis_py_in_the_url_are_ignored(
    world: World, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time limits are not ours, and what it reads as text we read as bytes."""
    world.order(42)
    world.enqueue(42)
    options = "socket_timeout=0.000001&decode_responses=True&protocol=3&client_name=crm"
    monkeypatch.setenv("REDIS_URL", f"{world.redis_url}?{options}")
    assert console.data("inspect", "42")["condition"] == "queued"


@pytest.mark.parametrize("variable", ["DATABASE_URL", "REDIS_URL", "SITEGENCTL_QUEUE"])
def test_setting_that_is_not_utf8_is_refused(console: Console, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "redis://h\udcff")
    code, _, stderr = console("inspect")
    assert code == 2
    assert f"({variable}): not valid UTF-8" in stderr.splitlines()[0]


@pytest.mark.parametrize(
    "command",
    [
        *(f"worker --concurrency={value}" for value in ("1_000", "٤", "0", "-1", "1001", "99999999999999999999", "x")),
        *(
            f"metrics --listen={value}"
            for value in ("abc", "99999", "٩٩", "127.0.0.1:٩", "a..:9", f"{'a' * 64}:9", "[::z]:9")
        ),
        *(f"maintain --jitter={value}" for value in ("1_0s", "٤s", "5", "1001h", "36501d", f"{'9' * 5000}s")),
        *(f"inspect orders --since={value}" for value in ("1_0s", "٤s", "36501d", "nan", "1e3s")),
        *("inspect --watch ٤s", "inspect --watch=1_0s", "inspect queue --limit=1_000", "inspect ٤٢", "enqueue 1_000"),
        *(f"retry-failed --match {value}" for value in ("(", "a{99999999999}", "a" * 501)),
    ],
    ids=lambda command: ascii(command)[:60],
)
def test_nonsense_is_refused_in_one_line(world: World, command: str) -> None:
    process = world.run(*command.split())
    assert (process.returncode, process.stdout) == (2, "")
    error, *hint = process.stderr.splitlines()
    assert error.startswith("error: ")
    assert len(error) < 700
    assert len(hint) <= 1
    assert "unexpected" not in error


@pytest.mark.parametrize("variable", ["DATABASE_URL", "REDIS_URL"])
@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_impossible_host_in_a_url_is_refused(world: World, variable: str, host: str) -> None:
    scheme = "postgresql" if variable == "DATABASE_URL" else "redis"
    process = world.run("inspect", **{variable: f"{scheme}://user@{host}:1/0"})
    assert process.returncode == 2
    assert "not a valid URL" in process.stderr.splitlines()[0]


@pytest.mark.parametrize("setting", ["GRACE", "HARD_TIME_LIMIT", "RECONNECT_TIME", "VISIBILITY_TIMEOUT", "PACE"])
def test_durations_of_settings_are_bounded(world: World, setting: str) -> None:
    assert world.run("inspect", **{f"SITEGENCTL_{setting}": "36500d"}).returncode == 0
    process = world.run("inspect", **{f"SITEGENCTL_{setting}": "999999999d"})
    assert process.returncode == 2
    assert "too large: at most 36500d" in process.stderr


def test_slow_regular_expression_is_interrupted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pattern, "_MAX_TIME", 0.2)
    world.order(42, "GENERATING", steps=["START"])
    message = "a" * 5000 + "!"
    world.sql(
        "INSERT INTO site_generation_logs (order_id, step, message, status) VALUES (42, 'ERROR', $1, 'error')", message
    )
    process = world.run("retry-failed", "--match", "(a+)+$", "--dry-run")
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("error: --match: searching takes longer than 0.2 s\nhint: avoid nested")
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert "42  would be retried" in world.run("retry-failed", "--force", "--match", "a!$", "--dry-run").stdout


class EndlessFile(io.StringIO):
    """A pipe without end."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line
        self.count = 0

    def read(self, size: int | None = -1) -> str:
        assert size is not None
        assert size > 0, "everything is read at once"
        self.count += size
        assert self.count < 50_000_000, "the limit is ignored"
        return (self.line * size)[:size]


@pytest.mark.parametrize("line", ["42\n", "# comment\n", "42 "])
def test_endless_list_of_orders_fails_fast(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr("sys.stdin", EndlessFile(line))
    with pytest.raises(UsageProblem, match="stdin is too long: at most 1000000 lines and 32 MiB in one call"):
        read_order_ids([], Path("-"))


def test_file_with_too_many_lines_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "orders"
    path.write_text("1\n" * MAX_ORDERS)
    assert read_order_ids([], path) == [1]
    path.write_text("1\n" * (MAX_ORDERS + 1) + "not an order")
    with pytest.raises(UsageProblem, match="too long"):
        read_order_ids([], path)
