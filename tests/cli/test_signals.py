from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sitegenctl.cli import signals
from tests.support.world import World, eventually

# What a shell without job control does for a command that it starts with &.
IN_BACKGROUND = (signal.SIGINT, signal.SIGQUIT)

SERVICES = [
    "events",
    "logs 42 -f",
    "logs 42 -f -o ndjson",
    "inspect --watch",
    "inspect 42 --watch",
    "inspect workers --watch",
    "inspect orders --watch 1h -o ndjson",
    "metrics --listen 127.0.0.1:0",
    "live --web --port 0",
]
OTHERS = ["logs 42 --until-done", "enqueue 43 --wait", "maintain --jitter 1h"]

#: Of services and others, each signal in each situation for one of them.
STARTS = [
    *((command, signal.SIGTERM, ()) for command in [*SERVICES, *OTHERS]),
    *((command, signal.SIGHUP, IN_BACKGROUND) for command in [*SERVICES, *OTHERS]),
    *((command, signal.SIGTERM, IN_BACKGROUND) for command in [*SERVICES, OTHERS[1]]),
    *((command, signal.SIGHUP, ()) for command in (SERVICES[0], OTHERS[1])),
]


def masked(pid: int, *kinds: str) -> set[int]:
    """The signals that a process catches (SigCgt), ignores (SigIgn) or blocks (SigBlk)."""
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {number for number in range(1, 65) if any(int(lines[kind], 16) >> (number - 1) & 1 for kind in kinds)}


@contextlib.contextmanager
def started(
    command: str, ignored: Sequence[signal.Signals] = (), number: int | None = None, **streams: int
) -> Iterator[subprocess.Popen[str]]:
    """Start a command that ignores these signals from its beginning, and wait until it handles the signal."""
    traps = "".join(f"trap '' {each.name.removeprefix('SIG')}; " for each in ignored)
    line = f"{traps}exec {shlex.quote(sys.executable)} -m sitegenctl {command}"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    process = subprocess.Popen(["bash", "-c", line], text=True, **pipes)
    try:
        eventually(
            lambda: not number or process.poll() is not None or number in masked(process.pid, "SigCgt", "SigBlk")
        )
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def orders(world: World) -> World:
    """One order that is being generated, and one that can be enqueued."""
    world.order(42, "GENERATING", steps=["START"])
    world.order(43)
    return world


@pytest.mark.parametrize(("command", "number", "ignored"), STARTS)
def test_signal_ends_it_as_soon_as_it_handles_signals(
    orders: World, command: str, number: signal.Signals, ignored: Sequence[signal.Signals]
) -> None:
    with started(command, ignored, number) as process:
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == (0 if command in SERVICES else 130), stderr
    assert "Traceback" not in stderr
    assert "never awaited" not in stderr
    # It may have come before anything was done; if not, it is done.
    assert (orders.status(43) == "GENERATING") == (len(orders.queued()) == 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", [*SERVICES[1:], *OTHERS[:2]])
def test_signal_ends_it_at_work(orders: World, command: str, number: signal.Signals) -> None:
    with started(command) as process:
        assert process.stdout.readline()
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    is_interrupted = number is signal.SIGINT or command not in SERVICES
    assert process.returncode == (130 if is_interrupted else 0), stderr
    assert "Traceback" not in stderr
    if command in SERVICES:
        assert stderr == ("interrupted\n" if is_interrupted else "")
    with orders.redis() as redis:
        assert redis.keys("*reply*") == []


@pytest.mark.parametrize("command", [*SERVICES, *OTHERS[:2]])
def test_signals_ignored_at_the_start_stay_ignored(orders: World, command: str) -> None:
    """Those of ``nohup`` and of a shell's background; SIGTERM always ends the command."""
    ignored = (signal.SIGINT, signal.SIGHUP)
    with started(command, (*ignored, signal.SIGTERM), signal.SIGTERM) as process:
        if command != "events":
            assert process.stdout.readline()
        assert masked(process.pid, "SigIgn") >= set(ignored)
        for number in ignored:
            process.send_signal(number)
        process.terminate()
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == (0 if command in SERVICES else 130), stderr
    assert command not in SERVICES or stderr == ""


@pytest.mark.parametrize("ignored", [(), IN_BACKGROUND], ids=["foreground", "background"])
@pytest.mark.parametrize("stage", ["starting", "idle", "without Redis"])
@pytest.mark.parametrize("backend", ["celery", "rq"])
def test_sigterm_stops_a_worker(
    world: World, monkeypatch: pytest.MonkeyPatch, stage: str, ignored: Sequence[signal.Signals]
) -> None:
    if stage == "without Redis":
        monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    with started("worker", ignored, signal.SIGTERM) as process:
        if stage == "idle":
            eventually(world.worker_names)
        elif stage == "without Redis":
            assert any("Cannot connect to redis" in line for line in process.stderr)
        process.terminate()
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    assert world.worker_names() == set()


@pytest.mark.parametrize("ignored", [(), IN_BACKGROUND], ids=["foreground", "background"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_a_question(world: World, ignored: Sequence[signal.Signals], number: signal.Signals) -> None:
    world.order(42, "REVIEW", files=8)
    ours, theirs = pty.openpty()
    with started("reset 42", ignored, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        got = b""
        while b"[y/N]" not in got:
            got += os.read(ours, 4096)
        process.send_signal(number)
        assert process.wait(30) == 130
    os.close(ours)
    assert (world.status(), len(world.site_files())) == ("REVIEW", 8)


def test_signal_dropped_by_python_ends_the_next_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python drops what is raised in a callback, such as that of the import lock."""
    monkeypatch.setattr(signals, "_is_terminated", False)
    with pytest.raises(signals.Terminated):
        signals._stop(signal.SIGTERM, None)
    with pytest.raises(signals.Terminated):
        signals.run(asyncio.sleep(60))


_IN_SET_NAME = """
import os, signal, sys
from sitegenctl.cli import app, signals
from sitegenctl.config import settings

class Stops:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), signal.SIGTERM)

settings.load_settings = lambda *_: type("Class", (), {"stops": Stops()})
signals.enable()
sys.exit(app.run(sys.argv[1:]))
"""


@pytest.mark.parametrize(("command", "code"), [("metrics --listen 0", 0), ("config show", 130)])
def test_signal_inside_a_class_is_no_unexpected_error(command: str, code: int) -> None:
    """Python 3.11 makes a RuntimeError of what a signal raises there."""
    process = subprocess.run(
        [sys.executable, "-c", _IN_SET_NAME, *command.split()], capture_output=True, text=True, timeout=60
    )
    assert (process.returncode, process.stderr) == (code, "interrupted\n" if code else "")
