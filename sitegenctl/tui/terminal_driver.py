"""Textual's driver of a terminal, for one that may be closed at any moment, or be left for a while."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import IO, Any

from textual.drivers.linux_driver import LinuxDriver


class Output:
    """A terminal's file, to which nothing more is written once the terminal has gone.

    Textual writes in a thread that ends with the first error; whoever writes to it afterwards waits for ever.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._has_gone = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        """Write; how much is that of the whole text, whether or not there was somebody to see it."""
        self._try(lambda: self._file.write(text))
        return len(text)

    def flush(self) -> None:
        """Write what waits in the buffer."""
        self._try(self._file.flush)

    def _try(self, act: Callable[[], object]) -> None:
        if self._has_gone:
            return
        try:
            act()
        except OSError:
            self._has_gone = True


#: What the driver takes, and leaves in its place when it has nothing left to do.
TAKEN = (signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)


class TerminalDriver(LinuxDriver):
    """Goes on without a terminal that has been closed, and is stopped and continued as a shell's jobs are.

    Signals are heeded by the loop: Python tells of one in the middle of anything, of a write to the terminal too, and
    whoever then wrote would wait for itself.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._file: Any = Output(self._file)
        self._return: asyncio.Handle | None = None

    def _sigtstp_application(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)

    def _sigcont_application(self, *_: object) -> None:
        if self._return is None:
            self._return = self._loop.call_soon_threadsafe(self._come_back)

    def _stop(self) -> None:
        """Give the terminal back, and stop."""
        self.suspend_application_mode()
        heeded = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        # The kernel lets go on whom no shell could continue. SIGSTOP, which Textual has, would be the end of it.
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, heeded)
        self._sigcont_application()

    def _come_back(self) -> None:
        """Take the terminal, as it is by now."""
        self._return = None
        # SIGCONT comes with SIGHUP, too: a terminal that has gone can't be taken again.
        if not os.isatty(self.fileno):
            return
        if self._key_thread is not None and self._key_thread.is_alive():
            # Stopped without having been asked. Taken twice, the terminal would never again be as it was before.
            self.suspend_application_mode()
        self.resume_application_mode()
        self._app.refresh(layout=True)
