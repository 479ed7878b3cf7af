"""Facts about the sites directory for doctor: permissions and free space. Nothing is written."""

from __future__ import annotations

import os
from pathlib import Path

from sitegenctl.adapters.system.threads import in_a_thread
from sitegenctl.domain.health.files import DirectoryFacts


class SiteHealth:
    """``DirectoryProbe`` on a local directory."""

    def __init__(self, base: Path) -> None:
        self._base = base

    async def facts(self) -> DirectoryFacts:
        return await in_a_thread(self._facts)

    def _facts(self) -> DirectoryFacts:
        path = str(self._base)
        try:
            if not self._base.is_dir():
                return DirectoryFacts(path=path, exists=False)
        except PermissionError:
            # Inside a directory without permission: existence is unknown, and it is unusable.
            return DirectoryFacts(path=path, exists=True)
        rights = {
            "readable": os.access(self._base, os.R_OK | os.X_OK),
            # Also false on a read-only file system, for root too.
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
