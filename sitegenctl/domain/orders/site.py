"""The files of a generated site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sitegenctl.domain.slotted import slotted

#: A site with fewer files is empty to the system.
MIN_SITE_FILES = 5


@slotted
class SiteFiles:
    """The number of files in an order's site folder, and their size in bytes (None where it was not read).

    A missing folder has 0 files; one that could not be counted is ``None`` instead of a ``SiteFiles``. With
    ``complete`` False counting stopped early: there may be more.
    """

    count: int
    size: int | None
    complete: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether the site is empty to the system."""
        return self.count < MIN_SITE_FILES


@dataclass(frozen=True, kw_only=True)
class SiteEntry:
    """A file in a site: its path relative to the site's folder, with slashes, and its size in bytes.

    A symbolic link is an entry with ``size`` None.
    """

    path: str
    size: int | None


@dataclass(frozen=True, kw_only=True)
class SiteTree:
    """The files of a site, sorted by path; with ``complete`` False there are more."""

    entries: Sequence[SiteEntry] = ()
    complete: bool = True
