"""Ending commands from outside: SIGTERM and SIGHUP like Ctrl-C, and the reader of stdout leaving.

Raising SIGINT would not do: a shell without job control starts background commands with SIGINT ignored. SIGINT and
SIGHUP stay ignored if they were ignored at the start (``nohup``); SIGTERM always ends the command.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, TextIO, TypeVar

from sitegenctl.errors import OutputLost

T = TypeVar("T")

_STOPS = (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived; code that handles Ctrl-C handles it too."""


@dataclass
class _Run:
    """An event loop of the main thread; ``loop`` and ``task`` are set once it runs."""

    loop: asyncio.AbstractEventLoop | None = None
    task: asyncio.Task[Any] | None = None
    is_stopped: bool = False

    def stop(self) -> None:
        """Cancel the task, which finishes the batch in progress. Raises ``Terminated`` the second time."""
        if self.is_stopped:
            raise Terminated
        self.is_stopped = True
        # A task that has not begun checks the flag; one that is done only reports its result.
        if self.loop is not None and self.task is not None and not self.task.done():
            self.task.cancel()
            # Wake the loop, which may be in a long select().
            self.loop.call_soon_threadsafe(lambda: None)


# The innermost is last; None while the main thread blocks outside its loop.
_runs: list[_Run | None] = []
_is_enabled = False
# Python drops an exception that a handler raises inside a callback, such as that of the import lock.
_is_terminated = False


def enable() -> None:
    """Allow ``handle_stops`` to install handlers: this process runs one command, and is not a test runner."""
    global _is_enabled
    _is_enabled = True
    if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def is_stopped() -> bool:
    """Whether a signal has stopped the command, even if its exception was lost or became another one.

    Python 3.11 makes a RuntimeError of an exception inside ``__set_name__``, which runs while modules are imported.
    """
    return _is_terminated


def handle_stops() -> None:
    """Install the handlers, after which the signals raise ``Terminated``."""
    for number in _STOPS if _is_enabled else ():
        if number is signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(_: int, frame: FrameType | None) -> None:
    global _is_terminated
    if _runs:
        run = _runs[-1]
        if run is None:
            raise Terminated
        run.stop()
        return
    # Inside plain asyncio.run, the handler of SIGINT cancels the main task.
    interrupt = signal.getsignal(signal.SIGINT)
    if not callable(interrupt) or interrupt is signal.default_int_handler:
        _is_terminated = True
        raise Terminated
    interrupt(signal.SIGINT, frame)


def _new_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop while signals wait: an exception inside would leave it half-made."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, *_STOPS))
    try:
        return asyncio.new_event_loop()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run like ``asyncio.run``; SIGTERM cancels like Ctrl-C and then raises ``Terminated``."""
    running = _Run(is_stopped=_is_terminated)

    async def guarded() -> T:
        running.loop, running.task = asyncio.get_running_loop(), asyncio.current_task()
        if running.is_stopped:
            raise asyncio.CancelledError
        return await main

    _runs.append(running)
    try:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            return runner.run(guarded())
    except asyncio.CancelledError:
        if running.is_stopped:
            raise Terminated from None
        raise
    finally:
        _runs.pop()
        main.close()  # it may never have been awaited


@asynccontextmanager
async def while_read() -> AsyncIterator[None]:
    """Raise ``OutputLost`` as soon as the reader of stdout leaves, even if nothing is written for hours."""
    loop, task, stdout = asyncio.get_running_loop(), asyncio.current_task(), _pipe(sys.stdout)
    if stdout is None or task is None:
        yield
        return
    has_left = False

    def leave() -> None:
        nonlocal has_left
        has_left = True
        loop.remove_reader(stdout)
        task.cancel()

    # The write end of a pipe becomes readable when the other end is closed.
    loop.add_reader(stdout, leave)
    try:
        yield
    except asyncio.CancelledError:
        if not has_left or task.uncancel():
            raise
        raise OutputLost(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))) from None
    finally:
        loop.remove_reader(stdout)


def _pipe(stream: TextIO) -> int | None:
    """The descriptor of a stream that is the write end of a pipe."""
    try:
        descriptor = stream.fileno()
        is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        return descriptor if is_pipe and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY else None
    except OSError:
        return None


@contextmanager
def outside_the_loop() -> Iterator[None]:
    """Raise on signals at once while the main thread blocks on something other than its loop."""
    with restored_handlers(signal.SIGINT):
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            # asyncio's handler only cancels a task, which would not end a blocking call.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        _runs.append(None)
        try:
            yield
        finally:
            _runs.pop()


@contextmanager
def restored_handlers(*numbers: signal.Signals) -> Iterator[None]:
    """Restore the handlers of these signals at the end."""
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
