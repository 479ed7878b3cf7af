from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from sitegenctl.cli.complete import script
from sitegenctl.config.backends import BACKENDS
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.orders.order import OrderStatus
from tests.support.terminal import COMMANDS, FILES, SCRIPTS, Terminal
from tests.support.world import World

#: The real entry point, with time limits for a loaded machine.
PATIENT = (
    "import sitegenctl.cli.complete as it; from sitegenctl.cli.app import make_program;"
    " it._DATABASE_LIMIT = it._TOTAL_LIMIT = 60.0; it.complete(make_program)"
)
HEAVY = ["celery", "sqlalchemy", "redis", "textual", "rq", "kombu", "jinja2", "rich.console"]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settings file with two contexts."""
    path = tmp_path / "config.toml"
    path.write_text("[contexts.shop]\n[contexts.staging]\n")
    path.chmod(0o600)
    monkeypatch.setenv("SITEGENCTL_CONFIG", str(path))
    monkeypatch.setenv("SITEGENCTL_DATA_DIR", str(tmp_path))
    return path


def ask(line: str, program: str = PATIENT, **environ: str) -> subprocess.CompletedProcess[str]:
    """Ask for completions as fish does: a value and its help on each line."""
    asking = {
        "_SITEGENCTL_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": line,
    }
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **asking, **environ},
    )


def offered(line: str, **environ: str) -> list[str]:
    done = ask(line, **environ)
    assert done.stderr == ""
    return [each.partition("\t")[0] for each in done.stdout.splitlines() if each]


@pytest.mark.parametrize("shell", FILES)
def test_scripts_match_make_completions(shell: str) -> None:
    assert (SCRIPTS / FILES[shell]).read_text() == script(shell), "make completions"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sitegenctl re", ["retry-failed", "reset", "reset-empty", "repair"]),
        ("sitegenctl --context shop -v queue pu", ["purge"]),
        ("sitegenctl inspect ", ["orders", "queue", "workers", "task"]),
        ("sitegenctl enqueue --dr", ["--dry-run"]),
        ("sitegenctl inspect 42 --la", ["--last"]),
        ("sitegenctl inspect orders --condition ", list(Condition)),
        ("sitegenctl inspect orders --condition=fa", ["failed"]),
        ("sitegenctl cancel --status ", [status.lower() for status in OrderStatus]),
        ("sitegenctl worker --backend ", list(BACKENDS)),
        ("sitegenctl -o nd", ["ndjson"]),
        ("sitegenctl config use ", ["shop", "staging"]),
        ("sitegenctl --context st", ["staging"]),
        ("sitegenctl completion z", ["zsh"]),
        ("sitegenctl enqueue --from ord", []),  # the shell completes files
    ],
)
def test_commands_options_and_values_are_offered(line: str, expected: list[str], config: Path) -> None:
    assert offered(line) == expected


def test_orders_complete_by_prefix_in_progress_first(world: World) -> None:
    world.order(3, "DELIVERED")
    world.order(421, "GENERATING", name="Juniper Bakery")
    world.order(42, "DELIVERED", name="Ana\x1b[31m\\$(touch x)`id` [red]")
    assert offered("sitegenctl enqueue ") == ["421", "42", "3"]
    assert ask("sitegenctl inspect 42").stdout.splitlines() == [
        "42\tAna  31m   touch x  id   red",
        "421\tJuniper Bakery",
    ]
    for odd in ("0", "x", "4x", "٤", "99999999999999999999999", "42-"):
        assert offered(f"sitegenctl enqueue {odd}") == []


def test_context_and_env_file_on_the_line_are_used(world: World, config: Path, tmp_path: Path) -> None:
    world.order(7)
    nowhere = "postgresql://crm@127.0.0.1:1/none"
    config.write_text(f'[contexts.shop]\ndatabase_url = "{world.database_url}"\n')
    assert offered("sitegenctl --context shop enqueue ", DATABASE_URL=nowhere) == ["7"]
    file = tmp_path / "crm.env"
    file.write_text(f"DATABASE_URL={world.database_url}\n")
    assert offered(f"sitegenctl reset --env-file {file} ", DATABASE_URL=nowhere) == ["7"]


@contextmanager
def silent_server() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"postgresql://a:b@127.0.0.1:{server.getsockname()[1]}/x"


def test_a_silent_database_is_given_up(world: World) -> None:
    with silent_server() as url:
        done = ask("sitegenctl enqueue 4", "from sitegenctl.__main__ import main; main()", DATABASE_URL=url)
    assert (done.stdout.strip(), done.stderr) == ("", "")


@pytest.mark.parametrize(
    "environ",
    [
        {"DATABASE_URL": "postgresql://127.0.0.1:1/x"},
        {"DATABASE_URL": "not a url"},
        {"SITEGENCTL_CONTEXT": "nowhere"},
        {"SITEGENCTL_CONFIG": "/dev/null/none"},
        {"SITEGENCTL_TIMEOUT": "soon"},
        {"COLUMNS": "x"},
    ],
    ids=lambda environ: "=".join(next(iter(environ.items()))),
)
def test_errors_print_nothing(environ: Mapping[str, str]) -> None:
    for line in ("sitegenctl enqueue ", "sitegenctl enqueue 'unfinished"):
        assert offered(line, **environ) == []


def test_a_password_command_is_never_run(world: World, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    bare = {"DATABASE_URL": "postgresql://crm@127.0.0.1:1/x"}
    assert offered("sitegenctl enqueue ", SITEGENCTL_DATABASE_PASSWORD_COMMAND=f"touch {asked}", **bare) == []
    assert not asked.exists()


def test_completing_orders_imports_nothing_heavy(world: World) -> None:
    world.order(42)
    report = (
        "import os, sys; leave = os._exit\n"
        f"def end(code): print([m for m in {HEAVY!r} if m in sys.modules], flush=True); leave(code)\n"
        "os._exit = end\n"
    )
    lines = ask("sitegenctl enqueue 4", report + PATIENT).stdout.splitlines()
    assert lines == ["42\tAna Souza", "[]"]


@pytest.fixture(params=COMMANDS)
def terminal(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Iterator[Terminal]:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    program = tmp_path / "sitegenctl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{PATIENT}"\n')
    program.chmod(0o755)
    opened = Terminal(request.param, tmp_path)
    opened.type(f"{opened.setup}; echo re''ady\r", until="ready")
    yield opened
    opened.close()


def test_shells_complete_commands_values_and_orders(terminal: Terminal, world: World) -> None:
    world.order(421, name="Juniper Bakery")
    terminal.type("sitegenctl compl\t", until="etion")
    terminal.type("\x15sitegenctl repair --condition gh\t", until="ghost")
    terminal.type("\x15sitegenctl enqueue 42\t", until="421")
    assert "error" not in terminal.screen
