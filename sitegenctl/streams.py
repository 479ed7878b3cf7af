"""Standard streams on which an I/O accident never changes what a command does.

A missing stream is the null device. Errors on stderr are dropped: there is no place left to report them. The first
error on stdout raises ``OutputLost``; from then on stdout is the null device, too.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from sitegenctl.errors import OutputLost


def prepare() -> None:
    """Open missing streams and guard stdout and stderr. Call it first in the process, before other files are opened."""
    missing = [
        (number, name) for number, name in enumerate(("stdin", "stdout", "stderr")) if getattr(sys, name) is None
    ]
    # First all descriptors: a file that is opened gets the lowest free one.
    for number, _ in missing:
        _occupy(number)
    for number, name in missing:
        stream = open(os.devnull, "w" if number else "r", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        setattr(sys, name, stream)
        # Libraries look there, too.
        setattr(sys, f"__{name}__", stream)
    sys.stdout = _guarded(sys.stdout, _raise)
    sys.stderr = _guarded(sys.stderr, lambda _: None)


@contextmanager
def deciding(exit_code: int | None) -> Iterator[None]:
    """Write the output of a command that has decided its exit code, so that losing the output keeps it."""
    try:
        yield
    except OutputLost as exc:
        exc.decided = exit_code
        raise


class _Guarded(io.FileIO):
    """A standard stream's file, which becomes the null device with the first error."""

    def __init__(self, descriptor: int, failed: Callable[[OSError], None]) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._failed = failed
        self._is_lost = False

    def write(self, data: Any) -> int:
        """Write and return the number of bytes; a lost stream takes everything."""
        size = memoryview(data).nbytes
        if self._is_lost:
            return size
        try:
            # None: another process has made the stream non-blocking, and it is full.
            while (written := super().write(data)) is None:
                select.select([], [self], [])
        except OSError as exc:
            self._is_lost = True
            self._failed(exc)
            return size
        return written


def _raise(exc: OSError) -> None:
    raise OutputLost(exc) from exc


def _guarded(stream: TextIO, failed: Callable[[OSError], None]) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(_Guarded(stream.fileno(), failed)),
        encoding=stream.encoding,
        errors=stream.errors,
        newline="\n",
        line_buffering=getattr(stream, "line_buffering", False) or getattr(stream, "write_through", False),
    )


def _occupy(number: int) -> None:
    """Open the null device at a free descriptor: a socket must not get it, since children write there."""
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, number)
        if null != number:
            os.close(null)
        os.set_inheritable(number, True)
