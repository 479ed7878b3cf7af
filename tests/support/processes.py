"""Processes of this interpreter, without what its start and the imports cost.

``start`` and ``run`` take what ``subprocess.Popen`` and ``subprocess.run`` take, and what follows the interpreter
on its command line. ``tests.support.warm_server`` says what such a process stands for, and what it doesn't.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

_ROOT = Path(__file__).parents[2]
# What is read when the interpreter starts or a library is imported, so that who gives another value needs a fresh
# process. PYTHONPATH is heeded.
_READ_AT_START = (
    *("PYTHON", "LC_", "LANG", "TZ", "LD_", "TYPER_", "_TYPER_", "C_", "CELERY_", "KOMBU_", "RQ_", "FORKED_BY_"),
    *("TERMINAL_WIDTH", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS"),
)
_LENGTH = struct.Struct("!I")
_STATUS = struct.Struct("!i")

_Stream = int | IO[Any] | None


class Process:
    """As ``subprocess.Popen``."""

    def __init__(self, arguments: Sequence[str], pid: int, answer: socket.socket, pipes: Sequence[IO[Any] | None]):
        self.args = [sys.executable, *arguments]
        self.pid = pid
        self.returncode: int | None = None
        self.stdin, self.stdout, self.stderr = pipes
        self._answer = answer

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        self.wait()

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        if self._ended(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, given: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        deadline = None if timeout is None else time.monotonic() + timeout
        told: list[Any] = [None, None]

        def write(pipe: IO[Any]) -> None:
            try:
                with pipe:
                    if given is not None:
                        pipe.write(given)
            except BrokenPipeError:
                pass  # it has ended without reading it, as it may

        def read(number: int, pipe: IO[Any]) -> None:
            with pipe:
                told[number] = pipe.read()

        threads = [
            threading.Thread(target=read, args=(number, pipe), daemon=True)
            for number, pipe in enumerate((self.stdout, self.stderr))
            if pipe is not None and not pipe.closed
        ]
        if self.stdin is not None:
            threads.append(threading.Thread(target=write, args=(self.stdin,), daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return told[0], told[1]

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._answer], [], [], timeout)[0]:
            told = self._answer.recv(_STATUS.size)
            assert told, "the server that forks is gone"
            self.returncode = _STATUS.unpack(told)[0]
            self._answer.close()
        return self.returncode

    def _close(self) -> None:
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()

    def __del__(self) -> None:
        self._answer.close()
        if self.returncode is None:
            warnings.warn(f"process {self.pid} was not waited for", ResourceWarning, source=self, stacklevel=2)


Running = Process | subprocess.Popen[Any]


def start(
    *arguments: str | Path,
    stdin: _Stream = None,
    stdout: _Stream = None,
    stderr: _Stream = None,
    text: bool = False,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    start_new_session: bool = False,
) -> Running:
    """Start what ``-m MODULE ...`` or ``-c CODE ...`` says."""
    words = [str(argument) for argument in arguments]
    environ = dict(os.environ if env is None else env)
    if _read_at_start(environ) != _read_at_start(_server.environ):
        return start_fresh(
            *words,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=text,
            env=environ,
            cwd=cwd,
            start_new_session=start_new_session,
        )
    asked = {
        "arguments": words,
        "env": environ,
        "cwd": str(cwd or Path.cwd()),
        "start_new_session": start_new_session,
    }
    with contextlib.ExitStack() as after:
        theirs: list[int] = []
        pipes: list[IO[Any] | None] = []
        for number, stream in enumerate((stdin, stdout, stderr)):
            descriptor, ours = _opened(number, stream, theirs, after)
            theirs.append(descriptor)
            mode = ("w" if number == 0 else "r") + ("" if text else "b")
            pipes.append(None if ours is None else open(ours, mode))  # noqa: SIM115
        pid, answer = _server.fork(asked, theirs)
    return Process(words, pid, answer, pipes)


def start_fresh(*arguments: str | Path, python: str = sys.executable, **options: Any) -> Running:
    """Likewise, a process that begins as every other does."""
    return subprocess.Popen([python, *arguments], **options)


def run(
    *arguments: str | Path, given: str | None = None, env: Mapping[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Likewise until its end; with ``given`` to read, else with the standard input of the tests."""
    pipe = subprocess.PIPE
    process = start(*arguments, stdin=None if given is None else pipe, stdout=pipe, stderr=pipe, text=True, env=env)
    try:
        stdout, stderr = process.communicate(given, timeout=timeout)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    assert process.returncode is not None
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def stop() -> None:
    """End the server that forks."""
    _server.stop()


def begin() -> None:
    """Say that the environment is now as it is before any test changes it."""
    _server.environ = dict(os.environ)


def _opened(number: int, stream: _Stream, before: Sequence[int], after: contextlib.ExitStack) -> tuple[int, int | None]:
    """The descriptor that the process gets, and our end of it if it is a pipe."""
    if stream is None:
        return number, None
    if stream == subprocess.STDOUT:
        return before[1], None
    if stream == subprocess.DEVNULL:
        null = os.open(os.devnull, os.O_RDWR)
        after.callback(os.close, null)
        return null, None
    if stream == subprocess.PIPE:
        read, write = os.pipe()
        theirs, ours = (read, write) if number == 0 else (write, read)
        after.callback(os.close, theirs)
        return theirs, ours
    return (stream if isinstance(stream, int) else stream.fileno()), None


def _read_at_start(environ: Mapping[str, str]) -> dict[str, str]:
    found = {name: value for name, value in environ.items() if name.startswith(_READ_AT_START)}
    found.pop("PYTHONPATH", None)
    return found


class _Server:
    """The one of this process, started when the first asks for it."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self.environ = dict(os.environ)

    def fork(self, asked: Mapping[str, Any], streams: Sequence[int]) -> tuple[int, socket.socket]:
        """Returns the pid, and where the exit code will be told."""
        message = json.dumps(asked).encode()
        answer, theirs = socket.socketpair()
        with theirs, self._one_at_a_time:
            control = self._control or self._start()
            socket.send_fds(control, [_LENGTH.pack(len(message))], [*streams, theirs.fileno()])
            control.sendall(message)
        return _LENGTH.unpack(answer.recv(_LENGTH.size))[0], answer

    def _start(self) -> socket.socket:
        self._control, theirs = socket.socketpair()
        environ = {name: value for name, value in self.environ.items() if name != "PYTHONPATH"}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.warm_server", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env=environ,
                cwd=_ROOT,
                pass_fds=[theirs.fileno()],
            )
        return self._control

    def stop(self) -> None:
        if self._control and self._process:
            self._control.close()
            self._process.wait()
            self._control = None


_server = _Server()
