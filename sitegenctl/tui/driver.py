"""Textual's driver of a terminal, for one that may be closed while something is still being moved."""

from __future__ import annotations

import os
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

    def _try(self, act: Any) -> None:
        if self._has_gone:
            return
        try:
            act()
        except OSError:
            self._has_gone = True


class TerminalDriver(LinuxDriver):
    """Goes on without a terminal that has been closed, so that the view can leave in good order."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._file: Any = Output(self._file)

    def _sigcont_application(self, *_: object) -> None:
        # The kernel sends it together with SIGHUP: a terminal that has gone can't be taken again.
        if os.isatty(self.fileno):
            super()._sigcont_application()
