"""The directory of generated sites: counting, writing a whole site at once, and the trash.

One folder ``project_<order id>`` for each site. A folder is only ever renamed into place or away: whatever
dies, no half site counts as whole. Symbolic links are never followed, and no path leaves the base directory.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from sitegenctl.domain.brief import SiteFile
from sitegenctl.domain.site import SiteFiles
from sitegenctl.errors import SourceError

TRASH = ".trash"


class SiteDirectory:
    """``SiteStore`` on a local directory. Its work is done in threads; ``base`` must exist when it is used.

    ``base`` is None where none is configured: whoever needs it is told so.
    """

    def __init__(self, base: Path | None) -> None:
        self._is_configured = base is not None
        self._base = base or Path()

    def folder(self, order_id: int) -> Path:
        """Where the order's site lies, or would lie."""
        return self._base / f"project_{order_id}"

    async def count(self, order_ids: Collection[int], *, enough: int | None = None) -> dict[int, SiteFiles]:
        """Count files and bytes of these orders' sites; one that can't be counted is left out.

        A folder with ``enough`` files is counted no further.
        """
        return await asyncio.to_thread(self._count_all, order_ids, enough)

    async def is_bare(self) -> bool:
        """Whether no site has ever been in the directory, as in an empty one that a volume should cover."""
        return await asyncio.to_thread(self._is_bare)

    async def replace(self, order_id: int, files: Collection[SiteFile], owner: str) -> None:
        """Write a whole site beside the old one, then rename it into place; the old one goes to the trash."""
        await asyncio.to_thread(self._replace, order_id, files, owner)

    async def discard_leftovers(self, order_id: int) -> int:
        """Remove what killed writers of this order left beside its site; returns how many there were."""
        return await asyncio.to_thread(self._discard_leftovers, order_id)

    async def trash(self, order_id: int) -> bool:
        """Move the order's site to the trash; False when there was none."""
        return await asyncio.to_thread(self._trash, order_id)

    def _count_all(self, order_ids: Collection[int], enough: int | None) -> dict[int, SiteFiles]:
        self._require_base()
        counted: dict[int, SiteFiles] = {}
        for order_id in order_ids:
            try:
                counted[order_id] = _count(self.folder(order_id), enough)
            except OSError:
                continue
        return counted

    def _is_bare(self) -> bool:
        self._require_base()
        try:
            with os.scandir(self._base) as entries:
                return not any(entry.name == TRASH or entry.name.startswith("project_") for entry in entries)
        except OSError as exc:
            raise _failure(exc, "read") from exc

    def _replace(self, order_id: int, files: Collection[SiteFile], owner: str) -> None:
        self._require_base()
        final = self.folder(order_id)
        partial = self._base / f"{_partial_prefix(order_id)}{_safe_name(owner)}"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            for file in files:
                target = partial.joinpath(*_contained(file.path).parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.content)
            self._trash(order_id)
            partial.rename(final)
        except OSError as exc:
            shutil.rmtree(partial, ignore_errors=True)
            raise _failure(exc) from exc

    def _discard_leftovers(self, order_id: int) -> int:
        self._require_base()
        leftovers = list(self._base.glob(f"{_partial_prefix(order_id)}*"))
        for leftover in leftovers:
            shutil.rmtree(leftover, ignore_errors=True)
        return len(leftovers)

    def _trash(self, order_id: int) -> bool:
        self._require_base()
        trash = self._base / TRASH
        try:
            trash.mkdir(exist_ok=True)
            # Nanoseconds in the name: an order may be trashed many times, and none may overwrite another.
            self.folder(order_id).rename(trash / f"project_{order_id}.{time.time_ns()}")
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise _failure(exc) from exc
        return True

    def _require_base(self) -> None:
        if not self._is_configured:
            raise SourceError("no sites directory is configured", hint="set SITES_BASE_DIR", source="files")
        if not self._base.is_dir():
            raise SourceError(
                f"the sites directory {self._base} is not there",
                hint="is its volume mounted, and SITES_BASE_DIR right? (sitegenctl config show)",
                source="files",
            )


def _partial_prefix(order_id: int) -> str:
    return f".project_{order_id}.partial-"


def _count(folder: Path, enough: int | None) -> SiteFiles:
    """Count regular files below a folder; links count as nothing and are not followed. Raises ``OSError``."""
    count = size = 0
    pending = [folder]
    while pending:
        try:
            if pending[-1].is_symlink():
                raise OSError(f"{pending[-1]} is a symbolic link")
            entries = os.scandir(pending.pop())
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    count += 1
                    size += entry.stat(follow_symlinks=False).st_size
                    if count == enough:
                        return SiteFiles(count=count, size=size, complete=False)
    return SiteFiles(count=count, size=size)


def _contained(path: str) -> PurePosixPath:
    """The path, if it stays inside the folder it is meant for. Raises ``SourceError`` otherwise."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\0" in path:
        raise SourceError(f"a generated file would lie outside its site: {path!r}", source="files")
    return pure


def _safe_name(owner: str) -> str:
    return "".join(char if char.isalnum() or char == "-" else "_" for char in owner)


def _failure(exc: OSError, what: str = "written") -> SourceError:
    return SourceError(f"the sites directory can't be {what}: {exc.strerror or exc}", source="files")
