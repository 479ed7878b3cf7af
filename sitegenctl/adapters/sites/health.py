"""Measuring the sites directory without ever writing into it: rights and room, as this process has them."""

from __future__ import annotations

import os
from pathlib import Path

from sitegenctl.adapters.system.threads import in_a_thread
from sitegenctl.domain.health.facts import DirectoryFacts


class SiteHealth:
    """``DirectoryProbe`` on a local directory."""

    def __init__(self, base: Path) -> None:
        self._base = base

    async def facts(self) -> DirectoryFacts:
        """The directory as this process sees it; never raises for a directory that is not there."""
        return await in_a_thread(self._facts)

    def _facts(self) -> DirectoryFacts:
        path = str(self._base)
        try:
            if not self._base.is_dir():
                return DirectoryFacts(path=path, exists=False)
        except PermissionError:
            # In a folder that may not be entered: whether it is there can't be known, and it is of no use.
            return DirectoryFacts(path=path, exists=True)
        rights = {
            "readable": os.access(self._base, os.R_OK | os.X_OK),
            # A file system that is mounted read-only refuses root as well.
            "writable": os.access(self._base, os.W_OK | os.X_OK),
        }
        try:
            room = os.statvfs(self._base)
        except OSError:
            return DirectoryFacts(path=path, exists=True, **rights)
        return DirectoryFacts(
            path=path,
            exists=True,
            **rights,
            free=room.f_bavail * room.f_frsize,
            size=room.f_blocks * room.f_frsize,
            free_inodes=room.f_favail,
            inodes=room.f_files,
        )
