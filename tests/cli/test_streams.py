from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.world import World


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command in which ``sitegenctl`` is the command."""
    script = f'sitegenctl() {{ "{sys.executable}" -m sitegenctl "$@"; }}\n{command}'
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe without a reader: the first write to it fails."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


CODES = {
    "enqueue 42": 0,
    "enqueue 41 42": 4,
    "enqueue 42 -o json": 0,
    "enqueue nonsense": 2,
    "enqueue --from -": 2,
    "reset 42": 2,
    "inspect orders -o csv": 0,
    "maintain": 0,
    "config path": 0,
    "--version": 0,
    "live": 2,
}
#: No command has any of the streams, and some have each without one.
MISSING = [
    *((command, "<&- >&- 2>&-") for command in CODES),
    *itertools.product(("enqueue 41 42", "enqueue 42 -o json", "enqueue --from -"), (">&-", "2>&-", "<&-")),
]


@pytest.mark.parametrize(("command", "missing"), MISSING)
def test_missing_stream_is_the_null_device(world: World, command: str, missing: str) -> None:
    world.order(42)
    process = shell(f"sitegenctl {command} {missing} {'' if '<&-' in missing else '</dev/null'}")
    assert process.returncode == CODES[command]
    assert "unexpected" not in process.stderr
    assert "Traceback" not in process.stderr
    if process.returncode == 0:
        assert process.stderr == ""
    published = command.startswith(("enqueue 4", "maintain"))
    assert len(world.queued()) == published
    assert world.status() == ("GENERATING" if published else "BUILDING")


def test_children_and_sockets_do_not_get_a_missing_stream(world: World) -> None:
    """Else a warning would be written to the database's connection."""
    script = (
        "import os, sys; from sitegenctl import streams; streams.prepare();"
        " same = [os.path.samestat(os.fstat(n), os.stat(os.devnull)) and os.get_inheritable(n) for n in (0, 1, 2)];"
        " open(sys.argv[1], 'w').write(str(same))"
    )
    answer = Path(os.environ["SITEGENCTL_DATA_DIR"]).with_name("answer")
    subprocess.run(["bash", "-c", f'"{sys.executable}" -c "{script}" "{answer}" <&- >&- 2>&-'], check=True, timeout=60)
    assert answer.read_text() == "[True, True, True]"


@pytest.mark.parametrize(
    ("redirection", "reason"), [(">/dev/full", "No space left on device"), ("1</dev/null", "Bad file descriptor")]
)
@pytest.mark.parametrize(("command", "code"), [("enqueue 42", 1), ("enqueue 41 42 -o json", 4), ("inspect 42", 1)])
def test_failed_write_is_reported_and_keeps_a_failure(
    world: World, command: str, code: int, redirection: str, reason: str
) -> None:
    world.order(42)
    process = shell(f"sitegenctl {command} {redirection}")
    assert process.returncode == code
    assert f"error: the output can't be written: {reason}" in process.stderr.splitlines()
    assert len(world.queued()) == command.startswith("enqueue")


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2</dev/null"])
def test_broken_stderr_changes_nothing(world: World, redirection: str) -> None:
    world.order(42)
    process = shell(f"sitegenctl enqueue 41 42 -o json {redirection}")
    assert process.returncode == 4
    assert json.loads(process.stdout)["exit_code"] == 4
    assert len(world.queued()) == 1


def test_full_pipe_that_does_not_block_is_waited_for(world: World) -> None:
    """As another program that shares the pipe may have set it."""
    world.order(42, name="x" * 500_000)
    read, write = os.pipe()
    os.set_blocking(write, False)
    with (
        processes.start("-m", "sitegenctl", "inspect", "42", "-o", "json", stdout=write) as process,
        open(read) as pipe,
    ):
        os.close(write)
        assert len(json.loads(pipe.read())["data"]["customer_name"]) == 500_000
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("command", "code"),
    [
        # The command has decided: its own code.
        ("doctor --patience 10ms", 5),
        ("doctor --patience 10ms -o json", 5),
        ("doctor --quick -o ndjson", 5),
        ("enqueue 42", 0),
        ("enqueue 41 42", 4),
        ("enqueue 41 42 -o csv", 4),
        ("enqueue 41 42 --wait", 4),
        ("enqueue nonsense -o json", 2),
        ("inspect orders -o ndjson", 0),
        ("inspect", 0),
        ("stats", 0),
        ("maintain", 0),
        ("config path", 0),
        ("logs 41 43", 4),
        # It has not.
        ("logs 43", 141),
        ("logs 43 -f", 141),
        ("logs 43 --until-done -o ndjson", 141),
        ("enqueue 42 --wait", 141),
        ("inspect --watch", 141),
        ("inspect orders --watch -o ndjson", 141),
    ],
)
def test_reader_of_stdout_has_left(world: World, unread: int, command: str, code: int) -> None:
    world.order(42)
    world.order(43, "GENERATING", steps=["START"])
    process = processes.start("-m", "sitegenctl", *command.split(), stdout=unread, stderr=subprocess.PIPE, text=True)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert "written" not in stderr
    assert "Traceback" not in stderr
    assert "unexpected" not in stderr
    if command.startswith("enqueue 4"):
        assert (world.status(), len(world.queued())) == ("GENERATING", 1)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("logs 43 -f", 141),
        ("logs 41 43 -f -o ndjson", 4),
        ("enqueue 42 --wait", 141),
        ("enqueue 41 42 --wait", 4),
        ("inspect --watch 1h", 141),
        ("events", 141),
    ],
)
def test_reader_leaves_while_there_is_nothing_to_write(world: World, command: str, code: int) -> None:
    world.order(42)
    world.order(43, "GENERATING", steps=["START"])
    process = processes.start("-m", "sitegenctl", *command.split(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    if command != "events":
        assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == code
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    assert len(world.queued()) == command.startswith("enqueue")


@pytest.mark.parametrize(("command", "code"), [("enqueue 41 42", 4), ("enqueue 41 42 -o json", 4), ("maintain -v", 0)])
def test_reader_of_stderr_has_left(world: World, unread: int, command: str, code: int) -> None:
    world.order(42)
    process = processes.start("-m", "sitegenctl", *command.split(), stdout=subprocess.PIPE, stderr=unread, text=True)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert stdout
    assert len(world.queued()) == 1


@pytest.mark.parametrize("output", ["json", "ndjson", "csv"])
def test_reader_takes_one_byte(world: World, output: str) -> None:
    world.order(42, name="x" * 100_000)
    process = shell(f"sitegenctl enqueue 41 42 -o {output} | head -c1; exit ${{PIPESTATUS[0]}}")
    assert process.returncode == 4
    assert len(process.stdout) == 1
