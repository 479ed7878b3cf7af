"""The files of a generated site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sitegenctl.domain.slotted import light

#: With fewer files than this the system calls a generation empty.
MIN_SITE_FILES = 5


@light
class SiteFiles:
    """What lies in an order's site folder: number of files and their size in bytes, None where nobody asked for it.

    A missing folder has 0 files. "Could not be counted" is no value of this class: it is ``None`` wherever a
    ``SiteFiles`` is expected, never 0. With ``complete`` False counting stopped early: there may be more.
    """

    count: int
    size: int | None
    complete: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether the system would call the generation empty."""
        return self.count < MIN_SITE_FILES


@dataclass(frozen=True, kw_only=True)
class SiteEntry:
    """A file in a site: its path from the site's folder, with slashes, and its size in bytes.

    A symbolic link is an entry like a file, of ``size`` None, whatever it points to.
    """

    path: str
    size: int | None


@dataclass(frozen=True, kw_only=True)
class SiteTree:
    """The files of a site, sorted by path; with ``complete`` False there are more."""

    entries: Sequence[SiteEntry] = ()
    complete: bool = True
