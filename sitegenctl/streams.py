"""Standard streams whose I/O errors never change what a command does.

A missing stream becomes the null device. Errors on stderr are ignored: they could not be reported. The first error on
stdout raises ``OutputLost``; after that, stdout is the null device.
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
    """Open missing streams and guard stdout and stderr. Call this before any other file is opened."""
    missing = [
        (number, name) for number, name in enumerate(("stdin", "stdout", "stderr")) if getattr(sys, name) is None
    ]
    # All descriptors first, because opening a file uses the lowest free one.
    for number, _ in missing:
        _occupy(number)
    for number, name in missing:
        stream = open(os.devnull, "w" if number else "r", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        setattr(sys, name, stream)
        # Some libraries use sys.__stdout__.
        setattr(sys, f"__{name}__", stream)
    sys.stdout = _guarded(sys.stdout, _raise)
    sys.stderr = _guarded(sys.stderr, lambda _: None)


def use_utf8(*, bom: bool = False) -> None:
    """Encode stdout in UTF-8 whatever the locale, because programs read it; ``bom`` begins with a byte order mark."""
    # Tests may replace the stream.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8-sig" if bom else "utf-8", errors="backslashreplace")


@contextmanager
def deciding(exit_code: int | None) -> Iterator[None]:
    """Record the exit code of the command in an ``OutputLost`` that is raised in the block."""
    try:
        yield
    except OutputLost as exc:
        exc.decided = exit_code
        raise


class _Guarded(io.FileIO):
    """The file of a standard stream; after the first error it discards all output."""

    def __init__(self, descriptor: int, failed: Callable[[OSError], None]) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._failed = failed
        self._is_lost = False

    def write(self, data: Any) -> int:
        """Write and return the number of bytes written."""
        size = memoryview(data).nbytes
        if self._is_lost:
            return size
        try:
            # None if another process has made the stream non-blocking and it is full.
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
    """Open the null device at a free descriptor: children write there, so no other file may get it."""
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, number)
        if null != number:
            os.close(null)
        os.set_inheritable(number, True)
