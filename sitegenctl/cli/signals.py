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

    with signals_put_back(signal.SIGTERM, signal.SIGHUP):
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, interrupt)
        yield


@contextmanager
def signals_put_back(*numbers: signal.Signals) -> Iterator[None]:
    """Have what is signalled go afterwards where it went before."""
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
