"""The errors that a user can meet.

    SitegenError            exit 1
    ├── UsageProblem        exit 2    the command line, an input file or a setting is wrong
    ├── SourceError         exit 3    the database, the broker, the workers or the files can't be reached
    │   └── Unconfirmed     exit 3    the database went away before it said whether it did what it was told
    ├── Refused             exit 4    not found, or must not be done
    ├── Busy                exit 6    another maintenance run holds the lock
    ├── OutputLost          exit 1    stdout can't be written; 141 when its reader left; or what was decided before
    └── GenerationError     -         the reference worker could not generate an order

Each has a message of one line and, where one helps, a hint. Drivers' exceptions are translated into these at
the edge, in ``adapters/``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sitegenctl.domain.diagnosis.remedy import Hint


class SitegenError(Exception):
    """An error that is reported in one line; ``hint`` is what to do about it, ``source`` the source it concerns."""

    exit_code = 1

    def __init__(self, message: str, *, hint: Hint | None = None, source: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.source = source


class UsageProblem(SitegenError):
    """The command line, an input file or a setting is wrong; nothing has been done."""

    exit_code = 2


class SourceError(SitegenError):
    """A source can't be reached, or did not answer in time."""

    exit_code = 3


class Unconfirmed(SourceError):
    """The database went away before it said whether it did what it was told, and could not be asked again."""


class Refused(SitegenError):
    """Not found, or must not be done."""

    exit_code = 4


class Busy(SitegenError):
    """Another maintenance run holds the lock."""

    exit_code = 6


class OutputLost(SitegenError):
    """Stdout can't be written. ``decided`` is the exit code that the command had decided on by then."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"the output can't be written: {cause.strerror}")
        self.reader_left = isinstance(cause, BrokenPipeError)
        self.decided: int | None = None

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """The command's own code if it had one, which is never a failure turned into 0."""
        if self.decided:
            return self.decided
        if self.reader_left:
            return 141 if self.decided is None else 0
        return 1


class GenerationError(SitegenError):
    """The reference worker could not generate an order."""
