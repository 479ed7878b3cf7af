"""What ends a command from outside."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end things as Ctrl-C does: whatever was started is stopped again.

    By way of SIGINT itself, which asyncio turns into a cancellation: an exception out of the blue would hit a
    driver in the middle of its work.
    """

    def interrupt(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
