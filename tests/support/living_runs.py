"""The workers' own record of their runs, and what follows from it: how often an order ran, and whether runs overlapped.

Imported by workers of every environment, so that it needs the standard library alone.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

_FILE = "runs.jsonl"
_POLL = 0.02


@dataclass(frozen=True)
class Run:
    """One run of an order, in seconds of the machine's monotonic clock; ``end`` is infinite while it goes on."""

    order_id: int
    task_id: str
    pid: int
    begin: float
    wall: float  # when it began, by the machine's wall clock
    end: float

    @property
    def is_going_on(self) -> bool:
        return math.isinf(self.end)


@contextlib.contextmanager
def recorded(folder: Path, order_id: int, task_id: str) -> Iterator[None]:
    """Record the begin and the end of a run; a process that is killed leaves a begin alone."""
    run = uuid.uuid4().hex
    facts = {"run": run, "order": order_id, "task": task_id, "pid": os.getpid(), "wall": time.time()}
    _append(folder, {"event": "begin", **facts})
    try:
        yield
    finally:
        _append(folder, {"event": "end", "run": run})


def _append(folder: Path, record: dict[str, Any]) -> None:
    # One write to a file opened for appending, so that lines of several processes never mix.
    descriptor = os.open(folder / _FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, json.dumps({**record, "at": time.monotonic()}).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Runs(threading.Thread):
    """All runs of one system; a thread notes until when a process lived that was killed in a run."""

    def __init__(self, folder: Path) -> None:
        super().__init__(name="runs", daemon=True)
        self._file = folder / _FILE
        self._file.touch()
        self._last_alive: dict[str, float] = {}
        self._dead: set[str] = set()
        self._stopped = threading.Event()

    def run(self) -> None:
        """Watch the processes of unfinished runs."""
        while not self._stopped.wait(_POLL):
            self._observe()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self.join()

    def all(self) -> list[Run]:
        """Every run so far, in the order in which they began."""
        self._observe()
        begun, ended = self._read()
        return [
            Run(
                order_id=record["order"],
                task_id=record["task"],
                pid=record["pid"],
                begin=record["at"],
                wall=record["wall"],
                end=ended.get(run, self._last_alive[run] if run in self._dead else math.inf),
            )
            for run, record in begun.items()
        ]

    def of(self, order_id: int) -> list[Run]:
        """The runs of one order."""
        return [run for run in self.all() if run.order_id == order_id]

    def overlaps(self) -> list[tuple[Run, Run]]:
        """Each pair of consecutive runs of one order of which the second began before an earlier one had ended."""
        found = []
        for order_id in sorted({run.order_id for run in self.all()}):
            for first, second in pairwise(self.of(order_id)):
                if second.begin < max(run.end for run in self.of(order_id) if run.begin <= first.begin):
                    found.append((first, second))
        return found

    def _observe(self) -> None:
        begun, ended = self._read()
        for run, record in begun.items():
            if run in ended or run in self._dead:
                continue
            if _is_alive(record["pid"]):
                self._last_alive[run] = time.monotonic()
            else:
                self._last_alive.setdefault(run, record["at"])
                # It may have ended, and its process after it, since the file was read.
                if run not in self._read()[1]:
                    self._dead.add(run)

    def _read(self) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
        records = [json.loads(line) for line in self._file.read_text().splitlines()]
        begun = {record["run"]: record for record in records if record["event"] == "begin"}
        ended = {record["run"]: record["at"] for record in records if record["event"] == "end"}
        return begun, ended


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
