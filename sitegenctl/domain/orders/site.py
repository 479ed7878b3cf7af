"""The files of a generated site."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sitegenctl.slotted import slotted

_TRASHED = re.compile(r"project_([0-9]{1,19})\.([0-9]{1,21})(?:\.([0-9a-z-]+))?")

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


@slotted
class TrashEntry:
    """A site in the trash, as its name says."""

    order_id: int
    time_ns: int  # when it was moved there, in nanoseconds since 1970
    operation: str | None = None  # None where the worker replaced it, or an older release moved it

    @property
    def name(self) -> str:
        """Its name in the trash."""
        name = f"project_{self.order_id}.{self.time_ns}"
        return name if self.operation is None else f"{name}.{self.operation}"

    @property
    def at(self) -> datetime:
        """When it was moved to the trash, by the clock of the machine that did."""
        return datetime.fromtimestamp(self.time_ns / 1e9, UTC)

    @classmethod
    def of(cls, name: str) -> TrashEntry | None:
        """The entry of this name; None if sitegenctl gives no such name."""
        match = _TRASHED.fullmatch(name)
        if match is None:
            return None
        entry = cls(order_id=int(match[1]), time_ns=int(match[2]), operation=match[3])
        try:
            return entry if entry.at and entry.name == name else None
        except (OverflowError, ValueError):
            return None

    def listing_order(self) -> tuple[int, int, str]:
        """Sort key: by order, the newest of each order first."""
        return self.order_id, -self.time_ns, self.name


@dataclass(frozen=True, kw_only=True)
class TrashContents:
    """The sites in the trash, or some of them, by order, the newest of each first."""

    entries: Sequence[TrashEntry] = ()
    beyond: int = 0  # entries beyond a limit
    foreign: int = 0  # names that no site has in the trash
    files: Mapping[str, SiteFiles] = field(default_factory=dict)  # by name; without those that can't be counted
