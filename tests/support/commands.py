"""Run commands: in this process, or in the background."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sitegenctl.cli import app
from tests.support import processes
from tests.support.processes import Running
from tests.support.world import World, eventually


@dataclass(frozen=True)
class Console:
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        code = app.run(arguments)
        return (code, *self.capsys.readouterr())

    def text(self, *arguments: str) -> str:
        """The output of a command that succeeds without a message."""
        code, stdout, stderr = self(*arguments)
        assert (code, stderr) == (0, ""), arguments
        return stdout

    def data(self, *arguments: str) -> Any:
        """The data of such a command."""
        return json.loads(self.text(*arguments, "-o", "json"))["data"]

    def envelope(self, *arguments: str) -> Any:
        """The JSON envelope of a command that may fail."""
        return json.loads(self(*arguments, "-o", "json")[1])


Run = Callable[..., tuple[int, dict[str, Any]]]


def run_json(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run a command line with ``--yes -o json`` in this process, in any thread: exit code, envelope and stderr."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        code = app.run([*arguments, "--yes", "-o", "json"])
    envelope = json.loads(stdout.getvalue())
    assert envelope["exit_code"] == code
    return code, envelope, stderr.getvalue()


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line as `run_json` does; returns its exit code, and its data, errors and outcomes by order."""

    def run(*arguments: str, **environ: str) -> tuple[int, dict[str, Any]]:
        with monkeypatch.context() as patched:
            for name, value in environ.items():
                patched.setenv(name, value)
            code, envelope, stderr = run_json(*arguments)
        assert "unexpected" not in stderr
        data = envelope["data"] or {}
        outcomes = {row["order_id"]: row for row in data.get("outcomes", ())}
        return code, {"outcomes": outcomes, "data": data, "errors": envelope["errors"]}

    return run


def kinds(result: dict[str, Any]) -> dict[int, str]:
    return {order_id: outcome["outcome"] for order_id, outcome in result["outcomes"].items()}


@dataclass
class Stream:
    process: Running
    out: Path
    err: Path

    @property
    def lines(self) -> list[str]:
        return self.out.read_text().splitlines()

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text().split("\n") if line]

    @property
    def notes(self) -> str:
        return self.err.read_text()

    def shows(self, *texts: str) -> None:
        eventually(lambda: all(text in self.out.read_text() for text in texts))

    def notes_that(self, text: str) -> None:
        eventually(lambda: text in self.notes)

    def ends(self) -> int:
        return self.process.wait(timeout=30)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.ends()


@contextlib.contextmanager
def streaming(world: World, *arguments: str, **environ: str) -> Iterator[Stream]:
    """Run the command in the background, and kill it at the end."""
    folder = world.folder
    out, err = folder / "stream.out", folder / "stream.err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = processes.start(
            *("-m", "sitegenctl", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **environ},
        )
    try:
        yield Stream(process=process, out=out, err=err)
    finally:
        process.kill()
        process.wait()
