"""Regular expressions of the command line, bounded in length and time."""

from __future__ import annotations

import re
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from sitegenctl.errors import UsageProblem

_MAX_LENGTH = 500

#: Seconds for all searches of one command. Some expressions need more than a lifetime for one.
_MAX_TIME = 5.0


class Pattern:
    """A regular expression given by the operator; searching is for the main thread only."""

    def __init__(self, option: str, text: str) -> None:
        """Raises ``UsageProblem`` for an invalid or too long expression."""
        self._option = option
        self._time_left = _MAX_TIME
        if len(text) > _MAX_LENGTH:
            raise UsageProblem(f"{option}: longer than {_MAX_LENGTH} characters")
        try:
            with warnings.catch_warnings(action="ignore"):
                self._compiled = re.compile(text)
        except (re.error, OverflowError, RecursionError) as exc:
            raise UsageProblem(f"{option}: {text!r} is not a regular expression: {exc}") from exc

    def __call__(self, text: str) -> bool:
        """Whether the expression matches anywhere in the text. Raises ``UsageProblem`` if it takes too long."""
        began = time.monotonic()
        try:
            with _alarm(self._time_left):
                return self._compiled.search(text) is not None
        except TimeoutError:
            raise UsageProblem(
                f"{self._option}: searching takes longer than {_MAX_TIME:g} s",
                hint="avoid nested repetitions such as (a+)+",
            ) from None
        finally:
            self._time_left = max(self._time_left - (time.monotonic() - began), 0.001)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise ``TimeoutError`` after that time: ``re`` lets signals interrupt it."""

    def expire(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
