"""Measuring the sites directory without ever writing into it: rights and room, as this process has them."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

from sitegenctl.domain.probes import DirectoryFacts


class SiteHealth:
    """``DirectoryProbe`` on a local directory."""

    def __init__(self, base: Path) -> None:
        self._base = base

    async def facts(self) -> DirectoryFacts:
        """The directory as this process sees it; never raises for a directory that is not there."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[DirectoryFacts] = loop.create_future()

        def deliver(facts: DirectoryFacts) -> None:
            if not found.done():
                found.set_result(facts)

        def work() -> None:
            facts = self._facts()
            if not loop.is_closed():
                loop.call_soon_threadsafe(deliver, facts)

        # Not asyncio.to_thread: a network mount may hang for good, and the process must be able to end all the same.
        threading.Thread(target=work, daemon=True).start()
        return await found

    def _facts(self) -> DirectoryFacts:
        path = str(self._base)
        if not self._base.is_dir():
            return DirectoryFacts(path=path, exists=False)
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
