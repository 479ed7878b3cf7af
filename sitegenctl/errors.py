"""The errors that sitegenctl reports.

    SitegenError
    ├── UsageProblem            exit 2    the command line, an input file or a setting is wrong
    ├── SourceError             exit 3    the database, the broker, the workers or the files are unreachable
    │   ├── Unreachable         exit 3    no connection, or a lost one
    │   │   └── NotListening    exit 3    the connection was refused: the server is not running
    │   ├── TimedOut            exit 3    connected, but it did not respond in time
    │   ├── Unconfirmed         exit 3    the database became unreachable during a change
    │   └── Refusal             exit 3    Redis refused one command (adapters/redis/errors.py)
    │       └── NotPermitted    exit 3    its ACL does not allow the user that command, key or channel
    ├── Refused                 exit 4    not found, or not allowed
    ├── Busy                    exit 6    another maintenance run holds the lock
    ├── Declined                exit 0    the operator answered no: nothing was changed
    ├── OutputLost              exit 1    stdout can't be written; 141 if its reader exited; or the code of the command
    └── GenerationError                   the reference worker could not generate an order

Each has a message of one line and may have a hint. Adapters translate the exceptions of drivers to these.
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
    """The command line, an input file or a setting is wrong; nothing was done."""

    exit_code = 2


class SourceError(SitegenError):
    """A source is unreachable, did not respond in time, or refused a request."""

    exit_code = 3


class Unreachable(SourceError):
    """There is no connection to the source, or it was lost."""


class NotListening(Unreachable):
    """The connection was refused: no server listens at the address."""


class TimedOut(SourceError):
    """The source is connected and did not finish a request in time."""


class Unconfirmed(SourceError):
    """The database became unreachable during a change, and it is unknown whether the change was made."""


class Refused(SitegenError):
    """Not found, or not allowed."""

    exit_code = 4


class Busy(SitegenError):
    """Another maintenance run holds the lock."""

    exit_code = 6


class Declined(SitegenError):
    """The operator answered no, so nothing was changed."""

    exit_code = 0

    def __init__(self) -> None:
        super().__init__("nothing was changed")


class OutputLost(SitegenError):
    """Stdout can't be written. ``decided`` is the exit code of the command, if it was known by then."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"the output can't be written: {cause.strerror}")
        self.reader_left = isinstance(cause, BrokenPipeError)
        self.decided: int | None = None

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """The code of the command if it failed; a failure never becomes 0."""
        if self.decided:
            return self.decided
        if self.reader_left:
            return 141 if self.decided is None else 0
        return 1


class GenerationError(SitegenError):
    """The reference worker could not generate an order."""
