"""A command that goes on until it is told to stop, and what it has written so far."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import processes
from tests.support.processes import Running
from tests.support.world import World, eventually


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
    """Run the command in the background; it is killed at the end if it is still there."""
    folder = world.sites_dir.parent
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
