from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sitegenctl import __version__
from tests.support import processes
from tests.support.terminal import on_terminal
from tests.support.world import World, eventually


def envelope(process: subprocess.CompletedProcess[str]) -> dict[str, object]:
    """The JSON envelope on stdout, checked for what every envelope has."""
    result = json.loads(process.stdout)
    assert set(result) == {"schema", "command", "ok", "exit_code", "data", "errors"}
    assert result["schema"] == "sitegenctl/1"
    assert result["exit_code"] == process.returncode
    assert result["ok"] == (process.returncode == 0)
    for error in result["errors"]:
        assert set(error) == {"message", "hint", "source"}
    return result


CLIENTS = ("celery", "kombu", "redis", "sqlalchemy", "rq")


@pytest.mark.parametrize(
    ("lines", "heavy", "shown"),
    [
        (
            [
                *("", "--help", "--version", "enqueue --help", "demo up --help", "logs --help", "events --help"),
                *("inspect orders --help", "doctor --help", "metrics --help", "config init --help"),
            ],
            (*CLIENTS, "asyncpg", "textual", "jinja2", "prometheus_client"),
            "Usage",
        ),
        (["inspect workers"], (*CLIENTS, "asyncpg", "textual", "jinja2", "prometheus_client"), "no worker is alive"),
        (["doctor --quick"], (*CLIENTS, "textual", "rich"), "✓ postgresql"),
    ],
    ids=["help", "inspect workers", "doctor --quick"],
)
def test_nothing_heavy_is_imported(world: World, lines: list[str], heavy: Sequence[str], shown: str) -> None:
    script = (
        "import sys\nfrom sitegenctl.cli.app import run\nfor line in sys.argv[1:]:\n    run(line.split())\n"
        f"    print([module for module in {heavy!r} if module in sys.modules], file=sys.stderr)\n"
    )
    process = subprocess.run([sys.executable, "-c", script, *lines], capture_output=True, text=True, check=True)
    assert process.stderr.splitlines() == ["[]"] * len(lines)
    assert process.stdout.count(shown) >= len(lines) - 1  # --version shows the version


HUGE = "99999999999999999999"

BAD = [
    (["enqueue", "abc"], "abc is not an order number"),
    (["enqueue", "-1"], "-1 is not an order number"),
    (["enqueue", "9223372036854775808"], "the largest is 9223372036854775807"),
    (["enqueue"], "no orders selected"),
    (["enqueue", "42", "--form", "x"], "no such option"),
    (["inspect", "1-3"], "1-3 is neither an order number nor one of: orders, queue, workers, task"),
    (["--timeout", "0s", "inspect", "42"], "timeout (flag): must be between 10ms and 1h"),
    (["enqueu", "42"], "did you mean 'enqueue'"),
    (["enqueue", "42", "-o", "yaml"], "yaml"),
    (["maintain", "--max-actions", "1_000"], "'1_000' is not a valid integer"),
    (["logs", "42", "--last", "٣"], "'٣' is not a valid integer"),
    (["--timeout", "soon", "enqueue", "42"], "'soon' is not a duration"),
    (["--context", "nowhere", "enqueue", "42"], "no context 'nowhere'"),
    (["inspect", "orders", "--status", "finished"], "finished is not a status"),
    (["inspect", "orders", "--condition", "sad"], "sad"),
    (["inspect", "orders", "--since", "yesterday"], "--since: 'yesterday' is not a duration"),
    (["inspect", "orders", "--watch", "0s"], "the shortest interval"),
    (["logs", "42", "-f", "-o", "json"], "a followed log has no end, and json needs one"),
    (["logs", "42", "--until-done", "-o", "csv"], "a followed log has no end, and csv needs one"),
    (["logs", "42", "--since", "yesterday"], "--since yesterday: neither an age"),
    (["logs", "42", "--since", "99999999999d"], "--since 99999999999d: neither an age"),
    (["logs", "42", "--since", "0001-01-01T00:00+14:00"], "neither an age"),
    (["logs", "42", "--level", "bad"], "'bad' is not one of 'info'"),
    (["logs", "42", "--last", "-1"], "'--last'"),
    (["events", "-o", "json"], "error: a stream has no end, and json needs one"),
    (["events", "-o", "csv"], "error: a stream has no end, and csv needs one"),
    (["events", "--type", "task-fail"], "error: 'task-fail' is not an event type"),
    (["events", "--order", "abc"], "error: abc is not an order number"),
    (["config", "init", "--backend", "kafka"], "'kafka' is not a backend"),
    (["doctor", "--patience", "soon"], "error: --patience: 'soon' is not a duration"),
    (["inspect", "orders", "--page", HUGE], "--page"),
    (["inspect", "orders", "--page", "1000001"], "--page"),
    (["inspect", "orders", "--since", "9999999d"], "--since: duration '9999999d' is too large"),
    (["inspect", "orders", "--since", f"{HUGE}d"], "--since"),
    (["inspect", "42", "--last", HUGE], "--last"),
    (["logs", "42", "--last", HUGE], "--last"),
    (["logs", "42", "--since", "9999999d"], "--since 9999999d"),
]


@pytest.mark.parametrize(("arguments", "complaint"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_one_clear_line_and_nothing_is_done(world: World, arguments: list[str], complaint: str) -> None:
    world.order(42)
    process = world.run(*arguments)
    assert process.returncode == 2
    assert bool(process.stdout) == ("json" in arguments)
    first, *rest = process.stderr.splitlines()
    assert first.startswith("error: ")
    assert complaint.lower() in first.lower()
    assert all(line.startswith("hint: ") for line in rest)
    assert len(rest) <= 1
    assert (world.status(), world.queued()) == ("BUILDING", [])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "contains no order numbers"),
        ("\n".join([*map(str, range(1, 5000)), "x1"]), "line 5000: x1 is not an order number"),
    ],
    ids=["empty", "one bad line in 5000"],
)
def test_a_bad_file_is_one_clear_line_and_nothing_is_done(world: World, content: str, complaint: str) -> None:
    world.order(42)
    file = world.folder / "orders.txt"
    file.write_text(content)
    process = world.run("enqueue", "--from", str(file))
    assert process.returncode == 2
    assert complaint in process.stderr.splitlines()[0]
    assert (world.status(), world.queued()) == ("BUILDING", [])


@pytest.mark.parametrize("context", [[], ["--context", "demo"]])
def test_a_usage_error_has_an_envelope_too(world: World, context: list[str]) -> None:
    process = world.run(*context, "enqueue", "abc", "-o", "json")
    result = envelope(process)
    assert process.returncode == 2
    assert result["command"] == "enqueue"
    assert result["data"] is None
    assert result["errors"][0]["message"] == "abc is not an order number"


def test_enqueue_answers_for_every_order(world: World) -> None:
    world.order(1)
    world.order(2, "REVIEW")
    world.order(3, onboarding="missing")
    world.order(4)
    live = world.publish(4)
    process = world.run("enqueue", "1-5", "-o", "json")
    assert process.returncode == 4
    data = envelope(process)["data"]
    assert data["dry_run"] is False
    assert {o["order_id"]: o["outcome"] for o in data["outcomes"]} == {
        1: "done",
        2: "refused",
        3: "refused",
        4: "skipped",
        5: "refused",
    }
    assert set(data["outcomes"][0]) == {"order_id", "outcome", "reason", "task_id", "before", "after"}
    assert data["outcomes"][3]["task_id"] == live
    errors = envelope(process)["errors"]
    assert [error["message"].split(":")[0] for error in errors] == ["2", "3", "5"]
    assert "reset" in errors[0]["hint"]
    text = world.run("enqueue", "1-5")
    assert text.stdout.splitlines()[0] == "2 skipped, 3 refused"
    assert "no such order" in text.stdout


def test_a_live_task_is_skipped_with_exit_0(world: World) -> None:
    world.order(42)
    world.run("enqueue", "42")
    process = world.run("enqueue", "42")
    assert process.returncode == 0
    assert "skipped" in process.stdout
    assert world.queued_ids()[0] in process.stdout
    assert len(world.queued()) == 1


def test_a_dry_run_shows_and_does_nothing(world: World) -> None:
    world.order(42)
    process = world.run("enqueue", "42", "--dry-run", "-o", "json")
    data = envelope(process)["data"]
    assert (data["dry_run"], data["outcomes"][0]["outcome"]) == (True, "done")
    assert world.run("enqueue", "42", "--dry-run").stdout == "42  would be enqueued  BUILDING → GENERATING\n"
    assert (world.status(), world.steps(), world.queued()) == ("BUILDING", [], [])


def test_orders_may_come_from_stdin(world: World) -> None:
    for order_id in (40, 41, 42):
        world.order(order_id)
    process = world.run("enqueue", "--from", "-", "-o", "ndjson", stdin="40\n41-42\n")
    assert [json.loads(line)["order_id"] for line in process.stdout.splitlines()] == [40, 41, 42]
    assert len(world.queued()) == 3


def test_read_only_refuses_to_enqueue(world: World) -> None:
    world.order(42)
    process = world.run("--read-only", "enqueue", "42")
    assert process.returncode == 4
    assert process.stderr.splitlines()[0] == "error: enqueue changes orders, and --read-only is set"
    assert world.status() == "BUILDING"
    assert world.run("--read-only", "enqueue", "42", "--dry-run").returncode == 0
    assert world.run("inspect", "42", "--read-only").returncode == 0


@pytest.mark.parametrize("variable", ["REDIS_URL", "DATABASE_URL"])
def test_without_broker_or_database_nothing_is_enqueued(world: World, variable: str) -> None:
    world.order(42)
    away = {"REDIS_URL": "redis://127.0.0.1:1/0", "DATABASE_URL": "postgresql://crm:s3cret@127.0.0.1:1/crm"}[variable]
    process = world.run("enqueue", "42", "-o", "json", **{variable: away})
    assert process.returncode == 3
    (error,) = envelope(process)["errors"]
    assert "can't be reached" in error["message"]
    assert "s3cret" not in process.stdout + process.stderr
    assert "Traceback" not in process.stderr
    assert (world.status(), world.queued()) == ("BUILDING", [])


@pytest.mark.parametrize("variable", ["REDIS_URL", "DATABASE_URL"])
@pytest.mark.parametrize(
    "command", [["inspect"], ["inspect", "42"], ["doctor"], ["enqueue", "42"], ["maintain"]], ids=" ".join
)
def test_a_url_of_another_server_is_an_invalid_setting(world: World, variable: str, command: list[str]) -> None:
    """An invalid URL is not treated as an unreachable server, which would be retried."""
    process = world.run(*command, **{variable: "http://ana:s3cret@box/0"})
    name = "Redis" if variable == "REDIS_URL" else "PostgreSQL"
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith(f"error: {variable} is not a {name} URL\nhint: use the form ")
    assert "s3cret" not in process.stderr


def test_inspect_shows_everything_about_one_order(world: World) -> None:
    world.order(42, "GENERATING", steps=["OPERATOR_ENQUEUE", "START", "ERROR"], files=3)
    process = world.run("inspect", "42", "-o", "json")
    assert process.returncode == 0
    order = envelope(process)["data"]
    assert (order["status"], order["condition"], order["severity"]) == ("GENERATING", "failed", "fault")
    assert order["files"]["count"] == 3
    assert order["remedy"] == "sitegenctl retry-failed 42"
    assert order["tasks"] == []
    assert [row["step"] for row in order["log"]] == ["OPERATOR_ENQUEUE", "START", "ERROR"]
    text = world.run("inspect", "42").stdout
    assert text.splitlines()[0] == "order 42  FAILED  GENERATING  Padaria Ana Souza"
    assert "→ sitegenctl retry-failed 42" in text


def test_inspect_of_an_order_that_does_not_exist(world: World) -> None:
    process = world.run("inspect", "42")
    assert (process.returncode, process.stderr) == (4, "error: there is no order 42\n")


def test_inspect_without_redis_prints_the_rest(world: World) -> None:
    world.order(42, files=8)
    process = world.run("inspect", "42", "-o", "json", REDIS_URL="redis://127.0.0.1:1/0")
    assert process.returncode == 3
    result = envelope(process)
    assert (result["data"]["condition"], result["data"]["customer_name"]) == ("unknown", "Ana Souza")
    assert result["data"]["files"]["count"] == 8
    assert [error["source"] for error in result["errors"]] == ["broker"]


def test_inspect_without_sites_directory_reports_no_empty(world: World) -> None:
    world.order(42, "GENERATING", steps=["START"])
    process = world.run("inspect", "42", "-o", "json", SITES_BASE_DIR=str(world.sites_dir / "unmounted"))
    assert process.returncode == 3
    order = envelope(process)["data"]
    assert (order["condition"], order["files"]) == ("unknown", None)


def test_a_link_in_the_place_of_a_site_is_not_followed(world: World, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for number in range(8):
        (elsewhere / f"{number}.html").touch()
    world.order(42, "GENERATING", steps=["START"])
    world.site(42).symlink_to(elsewhere)
    order = json.loads(world.run("inspect", "42", "-o", "json").stdout)["data"]
    assert (order["files"], order["condition"]) == (None, "unknown")


@pytest.mark.parametrize(
    "command", [["demo", "up"], ["demo", "down"], ["demo", "tour"], ["worker"], ["config", "init"]]
)
def test_read_only_refuses_every_command_that_changes_something(world: World, command: list[str]) -> None:
    process = world.run("--read-only", *command)
    assert process.returncode == 4
    assert "--read-only" in process.stderr


@pytest.mark.parametrize(
    "url", ["postgresql://u:se/cret@h:5/db", "postgresql://u:s3cret@h:port/db", "mysql://a:s3cret@h/d"]
)
def test_a_bad_url_is_one_line_that_keeps_the_password(world: World, url: str) -> None:
    for arguments in (["config", "show"], ["inspect", "42"]):
        process = world.run(*arguments, DATABASE_URL=url)
        assert "cret" not in process.stdout + process.stderr
        assert len(process.stderr.splitlines()) <= 2


def test_a_terminal_without_arrows_gets_ascii(world: World) -> None:
    world.order(42)
    process = world.run_process("enqueue", "42", "--dry-run", PYTHONIOENCODING="latin-1")
    assert (process.returncode, process.stderr) == (0, "")
    assert "BUILDING" in process.stdout


@pytest.mark.parametrize("group", ["demo", "config"])
def test_a_group_alone_shows_its_help(world: World, group: str) -> None:
    process = world.run(group)
    assert (process.returncode, process.stderr) == (0, "")
    assert "Usage" in process.stdout


def test_a_remedy_names_the_context_that_it_is_for(world: World) -> None:
    world.order(42)
    url, redis, sites = world.database_url, world.redis_url, world.sites_dir
    config = Path(world.run("config", "path").stdout.strip())
    config.write_text(f'[contexts.prod]\ndatabase_url = "{url}"\nredis_url = "{redis}"\nsites_dir = "{sites}"\n')
    assert "→ sitegenctl --context prod start-stuck 42" in world.run("--context", "prod", "inspect", "42").stdout
    for command, number in ((["inspect", "42"], " 42"), (["inspect", "orders"], " 42"), (["inspect"], "")):
        data = json.loads(world.run("--context", "prod", *command, "-o", "json").stdout)["data"]
        assert set(_remedies(data)) == {f"sitegenctl --context prod start-stuck{number}"}


def _remedies(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from [value] if key == "remedy" else _remedies(value)
    elif isinstance(data, list):
        for value in data:
            yield from _remedies(value)


def test_a_dry_run_lists_every_order_that_it_would_enqueue(world: World) -> None:
    for order_id in range(1, 31):
        world.order(order_id)
    planned = "would be enqueued  BUILDING → GENERATING"
    assert world.run("enqueue", "1-30", "--dry-run").stdout.splitlines() == ["30 would be enqueued", f"1-30  {planned}"]
    lines = world.run("enqueue", "1-30", "--dry-run", "-v").stdout.splitlines()
    assert [line.strip() for line in lines[1:]] == [f"{order_id}  {planned}" for order_id in range(1, 31)]
    *real, undo = world.run("enqueue", "1-30").stdout.splitlines()
    assert real == ["30 enqueued", "(30 that went well are not listed; -v lists them)"]
    assert re.fullmatch(r"to undo it: sitegenctl undo [0-9a-z]{7}-[0-9a-z]{3}", undo)


HOSTILE = "\x1b[2J\u202e\x9b2J\x7fevil[bold]\nforged"


def test_hostile_text_keeps_the_screen_whole_and_json_exact(world: World) -> None:
    world.order(42, "GENERATING", steps=["START"], name=HOSTILE)
    world.sql("UPDATE site_orders SET admin_notes = $1::text", HOSTILE + "🍞" * 10_000)
    world.sql("UPDATE site_generation_logs SET message = $1::text", HOSTILE)
    text = world.run("inspect", "42").stdout
    assert all(line.isprintable() for line in text.splitlines())
    assert "[bold]" in text
    assert not any(line.strip() == "forged" for line in text.splitlines())
    as_json = world.run("inspect", "42", "-o", "json")
    data = envelope(as_json)["data"]
    assert (data["customer_name"], data["log"][0]["message"]) == (HOSTILE, HOSTILE)
    assert not any(char in as_json.stdout for char in "\x1b\x9b\u202e\x7f")


def test_global_options_may_stand_before_or_after_the_command(world: World) -> None:
    world.order(42)
    before = world.run("-o", "json", "inspect", "42")
    after = world.run("inspect", "42", "-o", "json")
    assert json.loads(before.stdout)["data"]["order_id"] == json.loads(after.stdout)["data"]["order_id"] == 42
    overridden = world.run("-o", "json", "inspect", "42", "-o", "ndjson")
    assert json.loads(overridden.stdout)["order_id"] == 42


def test_config_show_has_sources_and_masks_secrets(world: World) -> None:
    process = world.run("config", "show", "-o", "json", "--timeout", "9s", SITEGENCTL_GRACE="5m")
    rows = {row["setting"]: row for row in envelope(process)["data"]["settings"]}
    assert rows["database_url"]["origin"] == "DATABASE_URL"
    assert "***" in rows["database_url"]["value"]
    assert (rows["timeout"]["value"], rows["timeout"]["origin"]) == ("9s", "flag")
    assert (rows["grace"]["value"], rows["grace"]["origin"]) == ("5m", "SITEGENCTL_GRACE")
    assert rows["queue"]["origin"] == "default"
    text = world.run("config", "show").stdout
    for url in (world.database_url, world.redis_url):
        assert url.split("@")[0].rsplit(":", 1)[1] not in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_leaves_nothing_behind_in_redis(world: World, number: signal.Signals) -> None:
    """As a service manager or ``timeout`` ends it, while a question waits for its answer."""
    worker = world.worker("-c", "1")
    os.killpg(worker.pid, signal.SIGSTOP)
    try:
        process = processes.start("-m", "sitegenctl", "inspect", "workers", "--timeout", "30s")
        with world.redis() as redis:
            bindings = "_kombu.binding.reply.celery.pidbox"
            eventually(lambda: redis.scard(bindings))
            process.send_signal(number)
            assert process.wait(10) == 130
            assert redis.scard(bindings) == 0
            assert redis.keys("*.reply.celery.pidbox") == []
    finally:
        os.killpg(worker.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("command", "first"),
    [
        ("inspect orders", "order_id,status,condition,"),
        ("inspect queue", "task_id,name,state,"),
        ("inspect workers", "name,pid,pool,"),
        ("inspect", "condition,severity,count"),
        ("logs 42", "log_id,order_id,at,"),
        ("repair", "order_id,outcome,reason,"),
        ("maintain", "step,order_id,outcome,"),
        ("queue pause", "worker,outcome,reason"),
    ],
)
def test_csv_has_a_header_where_there_is_nothing_else(world: World, command: str, first: str) -> None:
    if command.startswith("logs"):
        world.order(42)
    process = world.run(*command.split(), "-o", "csv")
    assert process.returncode == 0
    (header,) = process.stdout.splitlines()
    assert header.startswith(first)


def test_the_columns_are_those_of_the_rows(world: World) -> None:
    world.order(42, "GENERATING", steps=["START"])
    world.publish(42)
    for command in ("inspect orders", "inspect queue", "logs 42"):
        (row,) = csv.DictReader(io.StringIO(world.run(*command.split(), "-o", "csv").stdout))
        assert list(row) == list(json.loads(world.run(*command.split(), "-o", "ndjson").stdout))


def test_csv_is_exact_in_a_file_and_gives_a_terminal_no_orders(world: World) -> None:
    name = "\x1b[2J \u202e Ana"
    world.order(42, name=name)
    assert name in world.run("inspect", "orders", "-o", "csv").stdout
    process = on_terminal("inspect", "orders", "-o", "csv", NO_COLOR="")
    assert process.returncode == 0
    assert "Ana" in process.stdout
    assert "\x1b" not in process.stdout
    assert "\u202e" not in process.stdout


def test_an_empty_list_names_the_unreachable_source(world: World) -> None:
    world.order(42, "GENERATING", steps=["START", "ERROR"])
    process = world.run("inspect", "orders", "-C", "failed", REDIS_URL="redis://127.0.0.1:1/0")
    assert (process.returncode, process.stdout) == (
        3,
        "unknown: 1 order is in a condition that cannot be decided now\n",
    )
    world.order(43, "REVIEW")
    process = world.run("inspect", "orders", "-C", "hollow", "-o", "json", SITES_BASE_DIR="/nowhere")
    assert (process.returncode, envelope(process)["data"]["orders"]) == (3, [])


def test_watching_stops_on_a_permanent_error(world: World) -> None:
    process = world.run("inspect", "999", "--watch")
    assert (process.returncode, process.stdout) == (4, "")
    assert "there is no order 999" in process.stderr


def test_python_m_and_the_console_script_are_the_same() -> None:
    script = Path(sys.executable).with_name("sitegenctl")
    by_module = subprocess.run([sys.executable, "-m", "sitegenctl", "--version"], capture_output=True, check=True)
    by_script = subprocess.run([script, "--version"], capture_output=True, check=True)
    assert by_module.stdout == by_script.stdout == f"sitegenctl {__version__}\n".encode()


def test_only_the_module_of_the_command_is_imported(world: World) -> None:
    from sitegenctl.cli.app import COMMANDS, make_program

    def names(*words: str) -> set[str]:
        return set(make_program(words).commands)

    assert names() == names("nonsense", "enqueue") == set(COMMANDS)
    for name in COMMANDS:
        assert names("--context", "live", name) == {name}
    assert "no context 'enqueue'" in world.run("--context", "enqueue", "config", "show").stderr
    process = world.run("nonsense", "enqueue")
    assert (process.returncode, process.stderr.splitlines()[0]) == (2, "error: no such command 'nonsense'")


def test_a_terminal_wraps_results_but_not_commands(world: World) -> None:
    world.order(41, "DELIVERED")
    shown = on_terminal("enqueue", "41", columns=50)
    assert shown.stdout.splitlines() == [
        "41  refused  it is in DELIVERED: a generation",
        "             would be skipped",
        "hint: to generate its site again: sitegenctl reset 41",
    ]
    assert len(world.run("enqueue", "41").stdout.splitlines()) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--timeout", "5", "inspect"],
        ["inspect", "--watch", "2"],
        ["inspect", "orders", "--watch=2"],
        ["inspect", "orders", "--since", "20260131"],
        ["logs", "42", "--since", "7"],
        ["stats", "--since", "7"],
        ["retry-failed", "--older-than", "5"],
        ["reset-empty", "--older-than", "5"],
        ["maintain", "--keep-trash", "7"],
        ["maintain", "--jitter", "5"],
        ["doctor", "--patience", "3"],
        ["live", "--web", "--interval", "2"],
        ["worker", "--pace", "1"],
        ["demo", "up", "--pace", "1"],
    ],
    ids=" ".join,
)
def test_duration_without_a_unit_is_refused_with_a_hint(world: World, arguments: list[str]) -> None:
    process = world.run(*arguments)
    error, hint = process.stderr.splitlines()
    assert (process.returncode, process.stdout) == (2, "")
    assert error.startswith("error: ")
    assert hint == "hint: write 7d, 90s or 5m"


@pytest.mark.parametrize("command", [["stats", "--html"], ["metrics", "--textfile"]], ids=" ".join)
@pytest.mark.parametrize("name", ["", ".", "sites", "sites/", "nowhere/x.prom"])
def test_an_unwritable_file_is_refused_before_any_work(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    process = world.run(*command, name, DATABASE_URL="postgresql://x:y@127.0.0.1:1/z")
    assert (process.returncode, process.stdout) == (2, "")
    assert len(process.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sites"]


@pytest.mark.parametrize("what", ["stats --html", "metrics --textfile"])
@pytest.mark.parametrize("by", ["itself", "link"])
def test_a_pipe_is_written_through(world: World, tmp_path: Path, what: str, by: str) -> None:
    pipe, path = tmp_path / "pipe.prom", tmp_path / "pipe.prom"
    os.mkfifo(pipe)
    if by == "link":
        path = tmp_path / "link.prom"
        path.symlink_to(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()), daemon=True)
    reader.start()
    process = world.run(*what.split(), str(path))
    reader.join(30)
    assert (process.returncode, process.stderr) == (0, "")
    assert len(got[0]) > 1000
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert path.is_symlink() == (by == "link")


@pytest.mark.parametrize(
    "command", [["config", "init", "--name", "shop", "--untested"], ["config", "use", "demo"]], ids=" ".join
)
def test_settings_behind_a_link_stay_there(world: World, tmp_path: Path, command: list[str]) -> None:
    config, target = Path(os.environ["SITEGENCTL_CONFIG"]), tmp_path / "dotfiles" / "sitegenctl.toml"
    target.parent.mkdir()
    config.symlink_to(target)
    process = world.run(*command)
    assert process.returncode == 0, process.stderr
    assert config.is_symlink()
    assert target.read_text()
    assert os.listdir(target.parent) == [target.name]
