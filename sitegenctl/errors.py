"""The errors that a user can meet.

    SitegenError            exit 1
    ├── UsageProblem        exit 2    the command line, an input file or a setting is wrong
    ├── SourceError         exit 3    the database, the broker, the workers or the files can't be reached
    │   └── Unconfirmed     exit 3    the database went away before it said whether it did what it was told
    ├── Refused             exit 4    not found, or must not be done
    ├── Busy                exit 6    another maintenance run holds the lock
    └── GenerationError     -         the reference worker could not generate an order

Each has a message of one line and, where one helps, a hint. Drivers' exceptions are translated into these at
the edge, in ``adapters/``.
"""

from __future__ import annotations


class SitegenError(Exception):
    """Something a user is told in one line; ``hint`` says what to do, ``source`` which source it concerns."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, source: str | None = None) -> None:
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


class GenerationError(SitegenError):
    """The reference worker could not generate an order."""
