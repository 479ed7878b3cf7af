"""Forks processes that have imported everything already: ``tests.support.processes`` starts it and asks it.

Importing is most of what a command or a worker costs, and a suite starts hundreds. A fork is a process of its own
all the same: it has a pid, takes signals, can be killed at any instruction, is a worker's parent, and ends as the
interpreter ends, with threads joined, ``atexit`` run and streams flushed.

What it doesn't stand for is the beginning: which modules are imported when and in which order, what is read from
the environment while they are, and what a module's first import does. So these stay fresh processes: tests of
imports, one of every kind of command, another interpreter, and one that is given what is read at the start (see
``tests.support.processes``). Its ``/proc`` entry has this server's command line and environment, and its parent is this
server.
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
import select
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
_LENGTH = struct.Struct("!I")
_STATUS = struct.Struct("!i")
_HELD = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Serve until whoever asks is gone; in a child, be what was asked for."""
    _import_everything()
    # What is there now is shared with the children for as long as no collection writes to it.
    gc.collect()
    gc.freeze()
    # A Ctrl-C is for whoever runs the tests. One for a child that is just being made stays with it until it can
    # be taken, too.
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    if asked := _serve(socket.socket(fileno=int(sys.argv[1]))):
        code = 0
        try:
            _be(asked)
        except SystemExit as exc:
            if not isinstance(exc.code, int | None):
                raise  # a text, which the interpreter prints
            code = exc.code or 0
        _end(code)


def _end(code: int) -> None:
    """End as the interpreter ends, but for taking every library apart, which takes longer than most commands.

    Source: Py_FinalizeEx in CPython's pylifecycle.c. What ends by an exception is left to the interpreter.
    """
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
        if name != "sitegenctl.__main__":  # what is run as a program must not have been imported
            importlib.import_module(name)
    # Forking takes but the one thread along, and with it the locks that others hold.
    assert threading.active_count() == 1, threading.enumerate()


def _serve(control: socket.socket) -> dict[str, Any] | None:
    """Fork whenever asked. Returns in every child what it is to be, and None here at the end."""
    waiting: dict[int, socket.socket] = {}
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            woken.recv(4096)
            _report(waiting)
        if control not in ready:
            continue
        head, given, *_ = socket.recv_fds(control, _LENGTH.size, 4)
        if not head:
            return None
        asked: dict[str, Any] = json.loads(_exactly(control, _LENGTH.unpack(head)[0]))
        answer = socket.socket(fileno=given.pop())
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for connection in (control, woken, waker, answer, *waiting.values()):
                connection.close()
            for number, descriptor in enumerate(given):
                os.dup2(descriptor, number)
            os.closerange(3, max(given) + 1)
            return asked
        for descriptor in given:
            os.close(descriptor)
        waiting[pid] = answer
        answer.sendall(_LENGTH.pack(pid))


def _exactly(control: socket.socket, length: int) -> bytes:
    found = b""
    while len(found) < length:
        found += control.recv(length - len(found))
    return found


def _report(waiting: dict[int, socket.socket]) -> None:
    """Tell of every child that has ended how it has."""
    while waiting:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with waiting.pop(pid) as answer, contextlib.suppress(OSError):  # nobody waits for it any more
            answer.sendall(_STATUS.pack(os.waitstatus_to_exitcode(status)))


def _be(asked: dict[str, Any]) -> None:
    """Be what a new interpreter is when it is through its start, and run what was asked for."""
    if asked["start_new_session"]:
        os.setsid()
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    _streams()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
    kind, what, *arguments = asked["arguments"]
    sys.orig_argv = [sys.executable, *asked["arguments"]]
    # The first is where this server was started; it was given no others.
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:1] = [os.getcwd() if kind == "-m" else "", *map(os.path.abspath, given)]
    if kind == "-m":
        sys.argv = [what, *arguments]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["-c", *arguments]
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})  # noqa: S102


def _streams() -> None:
    """Open the standard streams as the interpreter does: the old ones belong to other files."""
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
