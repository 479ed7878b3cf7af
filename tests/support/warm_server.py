"""The fork server of ``tests.support.processes``: it imports everything once, and forks a process for each request.

Imports are most of what a command or a worker costs, and a suite starts hundreds. A fork is still a process of its
own: it takes signals, can be killed, has children, and ends as the interpreter does (threads joined, ``atexit`` run,
streams flushed). It does not show which modules are imported and when, nor what they read from the environment on
import: tests of these, and of other interpreters, need fresh processes. Its ``/proc`` entry has this server's command
line and environment.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import signal
import socket
import struct
import sys
import threading
from typing import Any

_MORE = (
    "asyncpg",
    "celery.apps.worker",
    "celery.backends.redis",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "celery.concurrency.solo",
    "celery.worker.consumer",
    "celery.worker.autoscale",
    "kombu.transport.redis",
    "rich.progress",
    "rq.cli",
    "rq.scheduler",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "typer.rich_utils",
)
_HELD = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Serve until the client has gone; in a child, become the requested process."""
    _import_everything()
    # A collection would write to the memory that is shared with the children.
    gc.collect()
    gc.freeze()
    # Ctrl-C is for the test run. In a child that is still being prepared, signals stay pending.
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    if request := _serve(socket.socket(fileno=int(sys.argv[1]))):
        code = 0
        try:
            _become(request)
        except SystemExit as exc:
            if not isinstance(exc.code, int | None):
                raise  # a text, which the interpreter prints
            code = exc.code or 0
        _end(code)


def _end(code: int) -> None:
    """End as the interpreter does (Py_FinalizeEx), without the slow removal of every module."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except ValueError:
            pass  # it is closed
        except OSError:
            code = 120  # as the interpreter says
    os._exit(code)


def _import_everything() -> None:
    import sitegenctl

    found = [module.name for module in pkgutil.walk_packages(sitegenctl.__path__, "sitegenctl.")]
    for name in (*found, *_MORE):
        if name != "sitegenctl.__main__":  # `runpy` warns about an imported module
            importlib.import_module(name)
    # A fork has one thread only: locks held by others would stay locked.
    assert threading.active_count() == 1, threading.enumerate()


def _serve(control: socket.socket) -> dict[str, Any] | None:
    """Fork at each request. Returns the request in every child, and None here at the end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        head, streams, *_ = socket.recv_fds(control, 4, 4)
        if not head:
            return None
        request: dict[str, Any] = json.loads(control.recv(struct.unpack("!I", head)[0], socket.MSG_WAITALL))
        report = socket.socket(fileno=streams.pop())
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if pid := os.fork():
                _wait(pid, report, streams)
            report.close()
            for number, descriptor in enumerate(streams):
                os.dup2(descriptor, number)
            os.closerange(3, max(streams) + 1)
            return request
        report.close()
        for descriptor in streams:
            os.close(descriptor)


def _wait(pid: int, report: socket.socket, streams: list[int]) -> None:
    """Report the process's id and its wait status, and exit."""
    for descriptor in streams:
        os.close(descriptor)
    report.sendall(struct.pack("!I", pid))
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):  # the client does not wait any more
        report.sendall(struct.pack("!i", status))
    os._exit(0)


def _become(request: dict[str, Any]) -> None:
    """Set up the state of a started interpreter, and run the module or the code."""
    if request["start_new_session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    _streams()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
    kind, what, *arguments = request["arguments"]
    sys.orig_argv = [sys.executable, *request["arguments"]]
    # The first entry is the server's folder.
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:1] = [os.getcwd() if kind == "-m" else "", *map(os.path.abspath, given)]
    if kind == "-m":
        sys.argv = [what, *arguments]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["-c", *arguments]
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})  # noqa: S102


def _streams() -> None:
    """Open the standard streams as the interpreter does."""
    for number, name, mode in ((0, "stdin", "rb"), (1, "stdout", "wb"), (2, "stderr", "wb")):
        old = getattr(sys, f"__{name}__")
        stream = io.TextIOWrapper(
            open(number, mode, buffering=0 if old.write_through else -1, closefd=False),  # noqa: SIM115
            encoding=old.encoding,
            errors=old.errors,
            newline="\n" if number else None,
            line_buffering=not old.write_through and (number == 2 or os.isatty(number)),
            write_through=old.write_through,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    main()
