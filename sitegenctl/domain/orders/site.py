"""The files of a generated site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sitegenctl.domain.slotted import slotted

#: A site with fewer files is empty to the system.
MIN_SITE_FILES = 5


@slotted
class SiteFiles:
    """The number of files in an order's site folder; a missing folder has none."""

    count: int
    size: int | None  # in bytes; None where it was not read
    complete: bool = True  # False where counting stopped early: there may be more

    @property
    def is_empty(self) -> bool:
        """Whether the site is empty to the system."""
        return self.count < MIN_SITE_FILES


@dataclass(frozen=True, kw_only=True)
class SiteEntry:
    """A file in a site."""

    path: str  # relative to the site's folder, with slashes
    size: int | None  # in bytes; None for a symbolic link


@dataclass(frozen=True, kw_only=True)
class SiteTree:
    """The files of a site, sorted by path; with ``complete`` False there are more."""

    entries: Sequence[SiteEntry] = ()
    complete: bool = True
