"""Textual's terminal driver, made to survive a closed terminal, and job control by the shell."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import IO, Any

from textual.drivers.linux_driver import LinuxDriver

#: Signals whose handlers the driver replaces and does not restore.
DRIVER_SIGNALS = (signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)


class TerminalOutput:
    """A terminal's file. Writes are discarded once the terminal is closed.

    Textual's writer thread ends with the first error, and later writes would block forever.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._is_closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        if not self._is_closed:
            try:
                self._file.write(text)
            except OSError:
                self._is_closed = True
        return len(text)

    def flush(self) -> None:
        if not self._is_closed:
            try:
                self._file.flush()
            except OSError:
                self._is_closed = True


class TerminalDriver(LinuxDriver):
    """Handles signals in the event loop: Python may run a handler in the middle of a write to the terminal."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._file: Any = TerminalOutput(self._file)
        self._resume_handle: asyncio.Handle | None = None

    def _sigtstp_application(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._suspend)

    def _sigcont_application(self, *_: object) -> None:
        if self._resume_handle is None:
            self._resume_handle = self._loop.call_soon_threadsafe(self._resume)

    def _suspend(self) -> None:
        self.suspend_application_mode()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        # Not SIGSTOP, as in Textual: the kernel ignores SIGTSTP if no shell could resume the process.
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        self._sigcont_application()

    def _resume(self) -> None:
        self._resume_handle = None
        # SIGCONT also accompanies SIGHUP; a closed terminal cannot be entered again.
        if not os.isatty(self.fileno):
            return
        if self._key_thread is not None and self._key_thread.is_alive():
            # Stopped by SIGSTOP. Entering twice would lose the terminal's original settings.
            self.suspend_application_mode()
        self.resume_application_mode()
        self._app.refresh(layout=True)
