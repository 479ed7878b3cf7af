from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

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
        ("socket_timeout=abc", "REDIS_URL: socket_timeout must be a number, not 'abc'"),
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
