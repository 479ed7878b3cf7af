"""``doctor`` as a user and a health check meet it: exit code, streams, forms, and what it looks like."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from sitegenctl.cli import main
from sitegenctl.domain.condition import Source
from sitegenctl.domain.health import Check, CheckName, CheckUp, failed, ok, unchecked, warning
from sitegenctl.render.doctor import doctor_text
from tests.doctor.conftest import NOBODY, RIGHT
from tests.world import World

OnStage = Callable[[int], World]


@dataclass(frozen=True)
class Ran:
    returncode: int
    stdout: str
    stderr: str


class Run(Protocol):
    def __call__(self, *arguments: str, **environ: str) -> Ran: ...


AWAY = {"REDIS_URL": "redis://:s3cret@127.0.0.1:1/0", "DATABASE_URL": "postgresql://crm:s3cret@127.0.0.1:1/crm"}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in this process: a process of its own for every call would take a second each."""

    def call(*arguments: str, **environ: str) -> Ran:
        with monkeypatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            code = main.run(arguments)
        written = capsys.readouterr()
        return Ran(returncode=code, stdout=written.out, stderr=written.err)

    return call


def test_a_healthy_system_is_exit_0_and_one_line_each(on_stage: OnStage, run: Run) -> None:
    world = on_stage(RIGHT)
    world.order(41, "REVIEW", files=8)
    process = world.run("doctor")
    assert (process.returncode, process.stderr) == (0, "")
    first, *rest = process.stdout.splitlines()
    assert first == f"healthy: {len(CheckName)} checks passed"
    assert [line[:2] for line in rest] == ["✓ "] * len(CheckName)
    quick = run("doctor", "--quick")
    assert (quick.returncode, quick.stderr) == (0, "")
    assert quick.stdout.splitlines()[0] == "healthy: 6 checks passed"


def test_a_failed_check_is_exit_5_with_what_mends_it(on_stage: OnStage, run: Run) -> None:
    on_stage(NOBODY)
    for arguments in (["doctor"], ["doctor", "--quick"]):
        process = run(*arguments)
        assert (process.returncode, process.stderr) == (5, "")
        assert process.stdout.startswith("unhealthy: 1 failed")
        lines = process.stdout.splitlines()
        (worker,) = [number for number, line in enumerate(lines) if line.startswith("✗ worker")]
        assert "→ " in lines[worker + 1]


def test_a_warning_counts_only_when_strict(on_stage: OnStage, run: Run) -> None:
    world = on_stage(RIGHT)
    with world.redis() as client:
        client.config_set("appendonly", "no")
        try:
            lax, strict = run("doctor", "--quick"), run("doctor", "--quick", "--strict")
        finally:
            client.config_set("appendonly", "yes")
    assert (lax.returncode, strict.returncode) == (0, 5)
    assert lax.stdout.splitlines()[0] == "healthy: 5 checks passed, 1 warning"
    assert strict.stdout.splitlines()[0] == "unhealthy: 1 warning"


@pytest.mark.parametrize("variable", AWAY)
@pytest.mark.parametrize("quick", [[], ["--quick"]], ids=["full", "quick"])
def test_a_source_that_is_away_is_exit_3_in_one_line(world: World, variable: str, quick: list[str], run: Run) -> None:
    process = run("doctor", *quick, **{variable: AWAY[variable]})
    assert (process.returncode, process.stderr) == (3, "")
    assert "can't be reached" in process.stdout
    assert "s3cret" not in process.stdout
    found = run("doctor", *quick, "-o", "json", **{variable: AWAY[variable]})
    envelope = json.loads(found.stdout)
    assert (found.returncode, envelope["exit_code"], envelope["ok"]) == (3, 3, False)
    assert [error["source"] for error in envelope["errors"]] == ["broker" if variable == "REDIS_URL" else "database"]
    assert found.stderr.splitlines()[0].startswith("error: ")
    assert "Traceback" not in found.stderr


def test_the_checks_as_data(world: World, run: Run) -> None:
    envelope = json.loads(run("doctor", "-o", "json").stdout)
    assert envelope["command"] == "doctor"
    checks = envelope["data"]["checks"]
    assert [check["name"] for check in checks] == [str(name) for name in CheckName]
    for check in checks:
        assert set(check) == {"name", "status", "evidence", "remedy", "source"}
        assert check["status"] in {"ok", "warning", "failed", "unchecked"}
        assert check["source"] in set(Source)
        assert check["evidence"]
        assert (check["remedy"] is not None) or check["status"] in {"ok", "unchecked"}
    lines = [json.loads(line) for line in run("doctor", "-o", "ndjson").stdout.splitlines()]
    assert [line["name"] for line in lines] == [check["name"] for check in checks]
    rows = list(csv.DictReader(io.StringIO(run("doctor", "-o", "csv").stdout)))
    assert [row["status"] for row in rows] == [check["status"] for check in checks]


def test_quick_imports_neither_celery_nor_sqlalchemy(world: World) -> None:
    script = (
        "import sys; from sitegenctl.cli.main import run; run(['doctor', '--quick']);"
        " print([m for m in ('celery', 'kombu', 'sqlalchemy', 'textual', 'rich', 'rq') if m in sys.modules],"
        " file=sys.stderr)"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "✓ postgresql" in process.stdout
    assert process.stderr.strip() == "[]"


def test_quick_leaves_unchecked_what_a_user_may_not_ask(on_stage: OnStage, run: Run) -> None:
    world = on_stage(RIGHT)
    with world.redis() as client:
        client.execute_command("ACL", "SETUSER", "clerk", "on", ">pw", "~*", "&*", "+@all", "-client")
        try:
            address = world.redis_url.split("@")[1]
            process = run("doctor", "--quick", REDIS_URL=f"redis://clerk:pw@{address}")
            refused = run("doctor", "--quick", REDIS_URL=f"redis://clerk:no@{address}")
        finally:
            client.execute_command("ACL", "DELUSER", "clerk")
    assert process.returncode == 0
    assert process.stdout.splitlines()[0] == "healthy: 5 checks passed, 1 could not be checked"
    assert refused.returncode == 3
    assert "→ check the password in REDIS_URL" in refused.stdout


def test_bad_patience_and_no_configuration_are_usage_errors(world: World, run: Run) -> None:
    bad = run("doctor", "--patience", "soon")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("error: --patience: 'soon' is not a duration")
    nothing = run("doctor", DATABASE_URL="")
    assert nothing.returncode == 2
    assert "no database is configured" in nothing.stderr


def test_without_a_configured_sites_directory_the_files_are_unchecked(world: World, run: Run) -> None:
    checks = json.loads(run("doctor", "-o", "json", SITES_BASE_DIR="").stdout)["data"]["checks"]
    by_name = {check["name"]: check for check in checks}
    for name in (CheckName.DIRECTORY, CheckName.FINISHED_SITES, CheckName.DISK):
        assert by_name[name]["status"] == "unchecked"
        assert by_name[name]["remedy"] == "set SITES_BASE_DIR to the workers' own"


def on_a_terminal(*arguments: str, **environ: str) -> str:
    """What the command writes when its stdout is a terminal."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        process = subprocess.Popen(
            [sys.executable, "-m", "sitegenctl", *arguments],
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TERM": "xterm", **environ},
        )
        os.close(theirs)
        written = b""
        try:
            while part := screen.read(4096):
                written += part
        except OSError:  # how Linux says that the other side is closed
            pass
        process.wait()
    return written.decode()


def test_colour_is_for_terminals_and_no_color_is_honoured(world: World, run: Run) -> None:
    assert "\x1b" not in run("doctor", "--quick").stdout
    assert "\x1b[32m✓ " in on_a_terminal("doctor", "--quick")
    assert "\x1b" not in on_a_terminal("doctor", "--quick", NO_COLOR="1")


LONG = CheckUp(
    checks=[
        ok(CheckName.REDIS, Source.BROKER, "answers in 0.3 ms, version 7.2.4"),
        failed(
            CheckName.ORDERS, Source.DATABASE, "word " * 30, "forged\nline \x1b[2J", remedy="sitegenctl inspect orders"
        ),
        warning(CheckName.PERSISTENCE, Source.BROKER, "unwise", remedy="redis-cli " + "x" * 100),
        unchecked(CheckName.DISK, Source.FILES, "nobody knows"),
    ]
)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_the_checklist_fits_and_stays_whole(width: int) -> None:
    text = doctor_text(LONG, width=width, colour=False)
    lines = text.splitlines()
    assert all(line.isprintable() for line in lines)
    assert all(len(line) <= width or line.strip().startswith("→") for line in lines)
    assert " ".join(text.split()).startswith("unhealthy: 1 failed, 1 warning, 1 could not be checked")
    assert "→ redis-cli " + "x" * 100 in text  # a command is never broken
    assert not any(line.startswith("forged") or line.strip() == "line" for line in lines)


def test_the_help_names_every_option_of_the_command(world: World) -> None:
    text = world.run("doctor", "--help", COLUMNS="120").stdout
    assert {"--quick", "--strict", "--patience"} <= set(text.replace("│", " ").split())


def test_every_check_has_a_real_test() -> None:
    checks = Path(__file__).with_name("test_checks.py").read_text()
    assert [name for name in CheckName if f"CheckName.{name.name}]" not in checks] == []


def test_a_check_up_without_checks_says_so() -> None:
    empty: list[Check] = []
    assert CheckUp(checks=empty).summary == "healthy: nothing was checked"
