"""Processes of this interpreter, forked by a server that has imported everything: their start costs little.

``start`` and ``run`` take what follows the interpreter on its command line, and the options of ``subprocess``.
``tests.support.warm_server`` describes how such a process differs from a fresh one.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Running = subprocess.Popen[Any]

# Variables that are read when the interpreter starts or a library is imported: a process with other values of these
# is started afresh. PYTHONPATH is respected.
_READ_AT_START = (
    *("PYTHON", "LC_", "LANG", "TZ", "LD_", "TYPER_", "_TYPER_", "C_", "CELERY_", "KOMBU_", "RQ_", "FORKED_BY_"),
    *("TERMINAL_WIDTH", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS"),
)


def start(*arguments: str | Path, env: Mapping[str, str] | None = None, **options: Any) -> Running:
    """Start ``-m MODULE ...`` or ``-c CODE ...``."""
    environ = dict(os.environ if env is None else env)
    if _read_at_start(environ) != _read_at_start(_server.environ):
        return start_fresh(*arguments, env=environ, **options)
    return Forked(list(map(str, arguments)), environ, **options)


def start_fresh(*arguments: str | Path, python: str = sys.executable, **options: Any) -> Running:
    """Start the interpreter itself, or another ``python``."""
    return subprocess.Popen([python, *arguments], **options)


def run(
    *arguments: str | Path,
    given: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run until the end, with ``given`` as standard input, or else that of the tests."""
    pipe = subprocess.PIPE
    stdin = None if given is None else pipe
    with start(*arguments, stdin=stdin, stdout=pipe, stderr=pipe, text=True, env=env, cwd=cwd) as process:
        try:
            stdout, stderr = process.communicate(given, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@contextlib.contextmanager
def fork_server() -> Iterator[None]:
    """Use the present environment for the server, and stop it afterwards."""
    _server.environ = dict(os.environ)
    try:
        yield
    finally:
        _server.stop()


class Forked(subprocess.Popen[Any]):
    """A child of the server, which reports its pid and its wait status through a socket."""

    def __init__(
        self, arguments: list[str], environ: Mapping[str, str], *, start_new_session: bool = False, **options: Any
    ) -> None:
        self._request = {"arguments": arguments, "env": environ, "start_new_session": start_new_session}
        super().__init__([sys.executable, *arguments], **options)

    def _execute_child(self, *given: Any) -> None:
        # As in CPython 3.11 to 3.14: args, executable, preexec_fn, close_fds, pass_fds, cwd, ..., then the pipes.
        cwd, pipes = given[5], given[10:16]
        theirs = (pipes[0], pipes[3], pipes[5])
        streams = [number if descriptor == -1 else descriptor for number, descriptor in enumerate(theirs)]
        self.pid, self._status = _server.fork({**self._request, "cwd": str(cwd or Path.cwd())}, streams)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        with self._waitpid_lock:  # type: ignore[attr-defined]
            if self.returncode is None and (result := self._try_wait(os.WNOHANG))[0]:
                self._handle_exitstatus(result[1])  # type: ignore[attr-defined]
        return self.returncode

    def _try_wait(self, flags: int) -> tuple[int, int]:
        """Return as ``os.waitpid`` does."""
        try:
            report = self._status.recv(4, socket.MSG_DONTWAIT if flags & os.WNOHANG else 0)
        except BlockingIOError:
            return 0, 0
        self._status.close()
        assert report, "the fork server has ended"
        return self.pid, struct.unpack("!i", report)[0]


def _read_at_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(_READ_AT_START) and name != "PYTHONPATH"}


class _Server:
    """The server of this process, started at its first use."""

    def __init__(self) -> None:
        self.environ = dict(os.environ)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def fork(self, request: Mapping[str, Any], streams: list[int]) -> tuple[int, socket.socket]:
        """Return the pid, and the socket that receives the wait status."""
        message = json.dumps(request).encode()
        status, theirs = socket.socketpair()
        with theirs, self._lock:
            control = self._control or self._start()
            socket.send_fds(control, [struct.pack("!I", len(message))], [*streams, theirs.fileno()])
            control.sendall(message)
        return struct.unpack("!I", status.recv(4))[0], status

    def _start(self) -> socket.socket:
        self._control, theirs = socket.socketpair()
        environ = {name: value for name, value in self.environ.items() if name != "PYTHONPATH"}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.warm_server", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env=environ,
                cwd=Path(__file__).parents[2],
                pass_fds=[theirs.fileno()],
            )
        return self._control

    def stop(self) -> None:
        if self._control and self._process:
            self._control.close()
            self._process.wait()
            self._control = None


_server = _Server()
