"""Completion as somebody at a shell meets it, and what the scripts ask for while TAB is held."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sitegenctl.cli.command_tree import Command, grammar
from sitegenctl.cli.completion_scripts import script
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.orders.order import OrderStatus
from tests.support import processes
from tests.support.shells import NAMES, SCRIPTS, Offers, Terminal, offers, require
from tests.support.world import World

FILES = {"bash": "sitegenctl.bash", "zsh": "_sitegenctl", "fish": "sitegenctl.fish", "powershell": "sitegenctl.ps1"}
HEAVY = ["celery", "sqlalchemy", "redis", "textual", "rq", "kombu", "jinja2", "typer", "rich"]


@pytest.fixture(scope="module")
def root() -> Command:
    return grammar()


@pytest.fixture(scope="module", autouse=True)
def _terminals() -> Iterator[None]:
    yield
    Terminal.close_all()


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of somebody who has sitegenctl on PATH and two contexts."""
    folder = tmp_path_factory.mktemp("home")
    program = folder / "sitegenctl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m sitegenctl "$@"\n')
    program.chmod(0o755)
    config = folder / "config.toml"
    config.write_text("[contexts.shop]\n[contexts.staging]\n")
    config.chmod(0o600)
    (folder / "orders.txt").write_text("42\n")
    kept = {name: os.environ[name] for name in ("PYTHONPATH", "LANG") if name in os.environ}
    return {
        **kept,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "HOME": str(folder),
        "SITEGENCTL_CONFIG": str(config),
        "SITEGENCTL_DATA_DIR": str(folder / "data"),
    }


@pytest.fixture(scope="module", params=NAMES)
def offered(request: pytest.FixtureRequest, environ: dict[str, str]) -> Offers:
    """What each of the shells offers at the end of a line."""
    return offers(request.param, Path(environ["HOME"]), environ)


@pytest.mark.parametrize("shell", FILES)
def test_the_scripts_are_what_make_completions_writes(shell: str, root: Command) -> None:
    assert (SCRIPTS / FILES[shell]).read_text() == script(shell, root), "make completions"


def test_powershell_which_takes_no_heed_of_case_finds_every_key_once(root: Command) -> None:
    for table in script("powershell", root).split("@{")[1:]:
        keys = [match[1].lower() for match in re.finditer(r"^        '([^']*)' =", table, re.MULTILINE)]
        assert keys
        assert len(keys) == len(set(keys))


LINES = [
    ("sitegenctl maint", ["maintain"]),
    ("sitegenctl re", ["repair", "reset", "reset-empty", "retry-failed"]),
    ("sitegenctl queue ", ["move", "pause", "purge", "resume"]),
    ("sitegenctl --context shop -v queue pu", ["purge"]),
    ("sitegenctl inspect w", ["workers"]),
    ("sitegenctl enqueue --dr", ["--dry-run"]),
    ("sitegenctl inspect 42 --la", ["--last"]),
    ("sitegenctl inspect --la", []),
    ("sitegenctl inspect --watch orders --so", ["--sort"]),
    ("sitegenctl inspect orders --condition ", sorted(Condition)),
    ("sitegenctl inspect orders -C du", ["duplicated"]),
    ("sitegenctl repair --only ", ["duplicated", "ghost", "interrupted", "orphaned"]),
    ("sitegenctl cancel --status ", sorted(status.lower() for status in OrderStatus)),
    ("sitegenctl cancel --to pai", ["paid"]),
    ("sitegenctl logs --level ", ["error", "info", "success", "warning"]),
    ("sitegenctl -o nd", ["ndjson"]),
    ("sitegenctl enqueue --from ord", ["orders.txt"]),
    ("sitegenctl config use ", ["shop", "staging"]),
    ("sitegenctl --context st", ["staging"]),
    ("sitegenctl completion z", ["zsh"]),
    ("sitegenctl stats --since ", []),
]


def test_each_shell_completes_what_can_be_said(offered: Offers) -> None:
    found = {line: sorted(offered(line)) for line, _ in LINES}
    assert found == dict(LINES)


def test_each_shell_completes_a_value_behind_an_equals_sign(offered: Offers) -> None:
    assert [each.rpartition("=")[2] for each in offered("sitegenctl inspect orders --condition=fa")] == ["failed"]


def test_each_shell_offers_every_command_and_option(offered: Offers, root: Command) -> None:
    for command in root.everything():
        line = " ".join(("sitegenctl", *command.path)).replace("ORDER", "42")
        names = {name for option in command.options for name in option.names if name.startswith("--")}
        assert set(offered(f"{line} --")) == names, line
        if command.commands:
            below = {each.path[-1] for each in command.commands} - {"ORDER"}
            assert set(offered(f"{line} ")) == below, line


# --- what only the database knows ---------------------------------------------------------------------------------


#: A machine that runs tests is busier than that of somebody who holds TAB.
PATIENT = "import sitegenctl.cli.candidates as it, sys; it.PATIENCE = it._LONGEST = 20.0; it.complete(sys.argv[1:])"


def complete(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return processes.run("-m", "sitegenctl", "_complete", *arguments, env={**os.environ, **environ})


def suggested(*arguments: str) -> list[str]:
    done = processes.run("-c", PATIENT, "orders", *arguments, env={**os.environ})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_orders_are_offered_by_the_beginning_of_their_number(world: World) -> None:
    for number in (4, 41, 42, 421, 4200, 52):
        world.order(number, "DELIVERED", name=f"Customer {number}")
    assert suggested("42") == ["42\tCustomer 42", "421\tCustomer 421", "4200\tCustomer 4200"]
    assert suggested("5", "enqueue", "42") == ["52\tCustomer 52"]


def test_orders_that_may_need_somebody_come_first(world: World) -> None:
    world.order(1, "GENERATING")
    world.order(2, "BUILDING")
    world.order(3, "DELIVERED")
    world.order(4, None)
    assert [line.split("\t")[0] for line in suggested("")] == ["2", "1", "4", "3"]


@pytest.mark.parametrize("prefix", ["0", "x", "-1", "4x", "٤", "99999999999999999999999", "42-"])
def test_what_is_no_number_is_completed_by_nothing(world: World, prefix: str) -> None:
    world.order(4)
    done = complete("orders", prefix)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_hostile_name_reaches_the_terminal_written_out(world: World, tmp_path: Path) -> None:
    world.order(42, name="Ana\x1b]0;owned\x07\t$(touch pwned)`touch pwned`\n\u202e" + "x" * 99)
    (line,) = suggested("4")
    number, _, name = line.partition("\t")
    assert (number, name[:19]) == ("42", "Ana\\x1b]0;owned\\x07")
    assert name.isprintable()
    assert len(name) <= 40
    ask = offers("bash", tmp_path, {**os.environ, "PATH": _path_with_program(tmp_path)})
    assert ask("sitegenctl enqueue 4", listing=True) == ["42"]
    assert not (tmp_path / "pwned").exists()


def _path_with_program(folder: Path) -> str:
    program = folder / "sitegenctl"
    program.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -c "{PATIENT}" "$@"\n')
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.parametrize("shell", NAMES)
def test_somebody_at_the_keyboard_sees_the_customers_beside_the_orders(
    shell: str, world: World, tmp_path: Path
) -> None:
    require(shell)
    world.order(421, name="Juniper Bakery")
    world.order(422, name="Rye Brothers")
    environ = {**os.environ, "PATH": _path_with_program(tmp_path), "HOME": str(tmp_path)}
    command, setup = {
        "bash": (["bash", "--norc", "--noprofile", "-i"], f"source {SCRIPTS / FILES['bash']}"),
        "zsh": (["zsh", "-f", "-i"], f"autoload -Uz compinit && compinit -u -D && source {SCRIPTS / FILES['zsh']}"),
        "fish": (["fish", "--no-config", "-i"], f"source {SCRIPTS / FILES['fish']}"),
    }[shell]
    terminal = Terminal(command, tmp_path, environ)
    terminal.type(f"{setup}; echo re''ady\r")
    assert terminal.shows("ready"), terminal.screen

    terminal.type("sitegenctl enqueue 42\t\t\t")
    assert terminal.shows("Rye Brothers"), terminal.screen
    assert "Juniper Bakery" in terminal.screen
    assert "error" not in terminal.screen


@pytest.fixture
def silent_server() -> Iterator[int]:
    """Accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for each in taken:
            each.close()


def test_a_database_that_says_nothing_is_not_waited_for(silent_server: int) -> None:
    done = complete("orders", "4", DATABASE_URL=f"postgresql://a:b@127.0.0.1:{silent_server}/x")
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"DATABASE_URL": "postgresql://127.0.0.1:1/x"},
        {"DATABASE_URL": "not a url"},
        {"SITEGENCTL_CONTEXT": "nowhere"},
        {"SITEGENCTL_CONFIG": "/dev/stdin"},
        {"SITEGENCTL_TIMEOUT": "soon"},
    ],
    ids=lambda environ: next(iter(environ.values()), "nothing"),
)
@pytest.mark.parametrize("kind", ["orders", "contexts", "nonsense"])
def test_whatever_is_wrong_the_terminal_gets_no_message(kind: str, environ: dict[str, str]) -> None:
    done = complete(kind, "", **environ)
    assert (done.stdout, done.stderr) == ("", "")
    assert complete(**environ).stderr == ""


def test_nobody_is_asked_for_a_passphrase_because_of_a_tab(world: World, tmp_path: Path) -> None:
    world.order(42)
    asked = tmp_path / "asked"
    done = complete("orders", "4", SITEGENCTL_DATABASE_PASSWORD_COMMAND=f"touch {asked}")
    # The URL that the tests have holds its password; one that doesn't is what this is about.
    bare = complete(
        "orders",
        "4",
        DATABASE_URL="postgresql://crm@127.0.0.1:1/x",
        SITEGENCTL_DATABASE_PASSWORD_COMMAND=f"touch {asked}",
    )
    assert (done.stderr, bare.stdout, bare.stderr) == ("", "", "")
    assert not asked.exists()


def test_a_tab_imports_nothing_that_it_does_not_need(world: World) -> None:
    world.order(42)
    program = (
        "import os, sys; leave = os._exit\n"
        f"def told(code): os.write(1, repr([m for m in {HEAVY!r} if m in sys.modules]).encode()); leave(code)\n"
        f"os._exit = told; sys.argv[1:] = ['orders', '4']; {PATIENT}"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "42\tAna Souza\n[]"
