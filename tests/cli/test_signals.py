from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
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
    "inspect orders --watch 1h -o ndjson",
    "metrics --listen 127.0.0.1:0",
    "live --web --port 0",
]
OTHERS = [
    "logs 42 --until-done",
    "enqueue 43 --wait",
    "maintain --jitter 1h",
]


def masked(pid: int, kind: str) -> set[int]:
    """The signals that a process catches (SigCgt), ignores (SigIgn) or blocks (SigBlk)."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(next(line for line in status.splitlines() if line.startswith(f"{kind}:")).split()[1], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


@contextlib.contextmanager
def started(
    command: str, ignored: tuple[signal.Signals, ...] = (), folder: Path | None = None, **streams: int
) -> Iterator[subprocess.Popen[str]]:
    """Start a command that ignores these signals from its beginning."""
    traps = "".join(f"trap '' {number.name.removeprefix('SIG')}; " for number in ignored)
    line = f"{traps}exec {shlex.quote(sys.executable)} -m sitegenctl {command}"
    process = subprocess.Popen(["bash", "-c", line], text=True, **{"stdout": subprocess.PIPE, **streams})
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def handles(process: subprocess.Popen[str], number: int) -> bool:
    return process.poll() is not None or number in masked(process.pid, "SigCgt") | masked(process.pid, "SigBlk")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("ignored", [(), IN_BACKGROUND], ids=["foreground", "background"])
@pytest.mark.parametrize("command", [*SERVICES, *OTHERS])
def test_signal_ends_it_as_soon_as_it_handles_signals(
    world: World, command: str, ignored: tuple[signal.Signals, ...], number: signal.Signals
) -> None:
    world.order(42, "GENERATING", steps=["START"])
    world.order(43)
    with started(command, ignored, stderr=subprocess.PIPE) as process:
        eventually(lambda: handles(process, number))
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == (0 if command in SERVICES else 130), stderr
    assert "Traceback" not in stderr
    assert "never awaited" not in stderr
    # It may have come before anything was done; if not, it is done.
    assert (world.status(43) == "GENERATING") == (len(world.queued()) == 1)


@pytest.mark.parametrize("ignored", [(), (*IN_BACKGROUND, signal.SIGTERM)], ids=["foreground", "all ignored"])
@pytest.mark.parametrize("command", [*SERVICES[1:], "enqueue 43 --wait", "logs 42 --until-done"])
def test_sigterm_ends_it_at_work(world: World, command: str, ignored: tuple[signal.Signals, ...]) -> None:
    world.order(42, "GENERATING", steps=["START"])
    world.order(43)
    with started(command, ignored, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline()
        process.terminate()
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == (0 if command in SERVICES else 130), stderr
    assert "Traceback" not in stderr
    with world.redis() as redis:
        assert redis.keys("*reply*") == []


@pytest.mark.parametrize("command", SERVICES)
def test_signals_ignored_at_the_start_stay_ignored(world: World, command: str) -> None:
    """Those of ``nohup`` and of a shell's background."""
    world.order(42, "GENERATING", steps=["START"])
    ignored = (signal.SIGINT, signal.SIGHUP)
    with started(command, ignored, stderr=subprocess.PIPE) as process:
        eventually(lambda: handles(process, signal.SIGTERM))
        if command != "events":
            assert process.stdout.readline()
        assert masked(process.pid, "SigIgn") >= set(ignored)
        for number in ignored:
            process.send_signal(number)
        process.terminate()
        _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (0, "")


@pytest.mark.parametrize("command", SERVICES[1:])
def test_ctrl_c_is_an_interruption(world: World, command: str) -> None:
    world.order(42, "GENERATING", steps=["START"])
    with started(command, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("ignored", [(), IN_BACKGROUND], ids=["foreground", "background"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_a_question(world: World, ignored: tuple[signal.Signals, ...], number: signal.Signals) -> None:
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
