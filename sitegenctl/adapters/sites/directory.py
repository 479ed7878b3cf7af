"""The directory of generated sites: counting, writing a whole site at once, and the trash.

One folder ``project_<order id>`` for each site. A folder is only ever renamed into place or away: whatever
dies, no half site counts as whole. Symbolic links are never followed, and no path leaves the base directory.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TypeVar

from sitegenctl.adapters.system.threads import in_a_thread, to_its_end_in_a_thread
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.orders.generation_input import SiteFile
from sitegenctl.domain.orders.site import SiteEntry, SiteFiles, SiteTree
from sitegenctl.domain.ports import PruneResult, TrashResult
from sitegenctl.errors import SourceError

T = TypeVar("T")

TRASH = ".trash"

#: Folders counted together, for which the time limit holds; more of them where that is fast, up to so many.
_AT_ONCE = 20
_AT_ONCE_FAST = 1000

# Seconds: a thread for each few folders costs more than to count them.
_FAST = 0.02


class SiteDirectory:
    """``SiteStore`` on a directory that a network file system may be mounted on, which may hang.

    ``base`` must exist when it is used; None is for where none is configured: whoever needs it is told so. A look
    at it ends after ``timeout`` seconds, or so many for every few folders. What changes something begins with such
    a look; but once it has begun it is waited for however long it takes: whoever gave it up would report, and take
    back, what may yet happen.
    """

    def __init__(self, base: Path | None, *, timeout: float) -> None:
        self._is_configured = base is not None
        self._base = base or Path()
        self._timeout = timeout

    def folder(self, order_id: int) -> Path:
        """Where the order's site lies, or would lie."""
        return self._base / f"project_{order_id}"

    async def count(
        self, order_ids: Collection[int], *, enough: int | None = None, sizes: bool = True
    ) -> dict[int, SiteFiles]:
        """Count files and, with ``sizes``, bytes of these orders' sites; one that can't be counted is left out.

        A folder with ``enough`` files is counted no further.
        """
        counted: dict[int, SiteFiles] = {}
        remaining = iter(order_ids)
        clock = asyncio.get_running_loop().time
        size = _AT_ONCE
        some = list(islice(remaining, size))
        # Once at least: a directory that is not there is told of, whether or not there is anything to count in it.
        while True:
            began = clock()
            counted |= await self._look(functools.partial(self._count_all, some, enough, sizes))
            if clock() - began < _FAST:
                size = min(size * 2, _AT_ONCE_FAST)
            if not (some := list(islice(remaining, size))):
                return counted

    async def tree(self, order_id: int, *, limit: int) -> SiteTree:
        """The files of one order's site, by path, ``limit`` of them at most; links are named and not followed."""

        def look() -> SiteTree:
            self._require_base()
            try:
                return _tree(self.folder(order_id), limit)
            except OSError as exc:
                raise _failure(exc, "read") from exc

        return await self._look(look)

    async def replace(self, order_id: int, files: Collection[SiteFile], owner: str) -> None:
        """Write a whole site beside the old one, then rename it into place; the old one goes to the trash."""
        await self._change(lambda: self._replace(order_id, files, owner))

    async def discard_leftovers(self, order_id: int) -> int:
        """Remove what killed writers of this order left beside its site; returns how many there were."""
        return await self._change(lambda: self._discard_leftovers(order_id))

    async def trash(self, order_ids: Collection[int]) -> TrashResult:
        """Move these orders' sites to the trash, each by one rename; a link is not touched."""
        return await self._change(lambda: self._trash_all(order_ids))

    async def untrash(self, moved: Mapping[int, str]) -> Mapping[int, str]:
        """Move sites back from the trash to where nothing is; returns why one was not, by order."""
        return await self._change(lambda: self._untrash(moved))

    async def prune_trash(
        self, older_than: timedelta, *, now: datetime, limit: int | None = None, dry_run: bool = False
    ) -> PruneResult:
        """Delete what has been in the trash for longer, or only count it; one that can't be deleted stops no other."""
        newest = (now.timestamp() - older_than.total_seconds()) * 1e9
        if dry_run:
            await self._look(self._require_base)
            return PruneResult(count=len((await self._look(lambda: self._expired(newest)))[:limit]))
        return await self._change(lambda: self._prune(newest, limit))

    async def _look(self, work: Callable[[], T]) -> T:
        """Do what changes nothing, within the time limit. Raises ``SourceError`` when it doesn't end in it."""
        try:
            return await in_a_thread(work, timeout=self._timeout)
        except TimeoutError as exc:
            raise SourceError(
                f"the sites directory {self._base} did not answer in time",
                hint="look at its mount: a network file system may hang",
                source="files",
            ) from exc

    async def _change(self, work: Callable[[], T]) -> T:
        """Do what changes something, if the directory answers at all, and wait for its end."""
        await self._look(self._require_base)
        return await to_its_end_in_a_thread(work)

    def _count_all(self, order_ids: Collection[int], enough: int | None, sizes: bool) -> dict[int, SiteFiles]:
        self._require_base()
        counted: dict[int, SiteFiles] = {}
        # Not `folder`: of very many, putting paths together takes as long as looking into them.
        base = str(self._base)
        for order_id in order_ids:
            try:
                counted[order_id] = _count(f"{base}/project_{order_id}", enough, sizes)
            except OSError:
                continue
        return counted

    def _replace(self, order_id: int, files: Collection[SiteFile], owner: str) -> None:
        final = self.folder(order_id)
        partial = self._base / f"{_partial_prefix(order_id)}{_safe_name(owner)}"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            for file in files:
                target = partial.joinpath(*_contained(file.path).parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.content)
            self._trash(order_id, self._made_trash)
            partial.rename(final)
        except OSError as exc:
            shutil.rmtree(partial, ignore_errors=True)
            raise _failure(exc) from exc

    def _discard_leftovers(self, order_id: int) -> int:
        leftovers = list(self._base.glob(f"{_partial_prefix(order_id)}*"))
        for leftover in leftovers:
            shutil.rmtree(leftover, ignore_errors=True)
        return len(leftovers)

    def _trash_all(self, order_ids: Collection[int]) -> TrashResult:
        moved: dict[int, str] = {}
        failed: dict[int, str] = {}
        trash = functools.cache(self._made_trash)
        for order_id in order_ids:
            try:
                name = self._trash(order_id, trash)
            except OSError as exc:
                failed[order_id] = _reason(exc, self.folder(order_id))
            else:
                if name is not None:
                    moved[order_id] = name
        return TrashResult(moved=moved, failed=failed)

    def _trash(self, order_id: int, trash: Callable[[], str]) -> str | None:
        """Move one site; returns its name in the trash, None when there is no site. Raises ``OSError``."""
        folder = str(self.folder(order_id))
        # Nanoseconds in the name: an order may be trashed many times, and none may overwrite another.
        name = f"project_{order_id}.{time.time_ns()}"
        try:
            # A link would be renamed like a folder.
            if stat.S_ISLNK(os.lstat(folder).st_mode):
                raise OSError(errno.ELOOP, "it is a symbolic link, and those are left alone", folder)
            os.rename(folder, f"{trash()}/{name}")
        except FileNotFoundError:
            return None
        return name

    def _made_trash(self) -> str:
        """The trash, made if need be. Raises ``OSError``."""
        trash = self._base / TRASH
        trash.mkdir(exist_ok=True)
        if trash.is_symlink():
            raise OSError(errno.ELOOP, "the trash is a symbolic link, and those are not followed", str(trash))
        return str(trash)

    def _untrash(self, moved: Mapping[int, str]) -> dict[int, str]:
        failed: dict[int, str] = {}
        for order_id, name in moved.items():
            folder = self.folder(order_id)
            try:
                if os.path.lexists(folder):
                    raise FileExistsError(errno.EEXIST, "there is a folder again", str(folder))
                (self._base / TRASH / name).rename(folder)
            except OSError as exc:
                failed[order_id] = _reason(exc, folder)
        return failed

    def _prune(self, newest: float, limit: int | None) -> PruneResult:
        count = 0
        failed: dict[str, str] = {}
        for name in self._expired(newest):
            # Those that fail count for nothing: else they would stand before all others for ever.
            if count == limit:
                break
            try:
                _delete(self._base / TRASH / name)
            except FileNotFoundError:
                continue
            except OSError as exc:
                failed[name] = exc.strerror or str(exc)
            else:
                count += 1
        return PruneResult(count=count, failed=failed)

    def _expired(self, newest: float) -> list[str]:
        """The names of what has been in the trash since ``newest`` (nanoseconds since 1970) or longer."""
        trash = self._base / TRASH
        try:
            if trash.is_symlink():
                raise OSError(errno.ELOOP, "the trash is a symbolic link, and those are not followed", str(trash))
            with os.scandir(trash) as entries:
                names = sorted(entry.name for entry in entries)
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise _failure(exc, "tidied") from exc
        # By the time in its name, which is when it was thrown away. The folder's own times don't say that: copying
        # or restoring the volume changes them, and a file server's clock may be a third one.
        thrown_away = ((name, re.fullmatch(r"project_[0-9]+\.([0-9]+)", name)) for name in names)
        return [name for name, when in thrown_away if when is not None and int(when[1]) <= newest]

    def _require_base(self) -> None:
        if not self._is_configured:
            raise SourceError("no sites directory is configured", hint="set SITES_BASE_DIR", source="files")
        try:
            is_there = self._base.is_dir()
        except OSError as exc:
            raise _failure(exc, "read") from exc
        if not is_there:
            raise SourceError(
                f"the sites directory {self._base} is not there",
                hint=Remedy.run(
                    Command.CONFIG_SHOW, advice="check that its volume is mounted and that SITES_BASE_DIR is right"
                ),
                source="files",
            )


def _partial_prefix(order_id: int) -> str:
    return f".project_{order_id}.partial-"


def _count(top: str, enough: int | None, sizes: bool) -> SiteFiles:
    """Count regular files below a folder; links count as nothing and are not followed. Raises ``OSError``."""
    count = size = 0
    if os.path.islink(top):
        raise OSError(f"{top} is a symbolic link")
    pending = [top]
    while pending:
        try:
            entries = os.scandir(pending.pop())
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    count += 1
                    if sizes:
                        size += entry.stat(follow_symlinks=False).st_size
                    if count == enough:
                        return SiteFiles(count=count, size=size if sizes else None, complete=False)
                elif entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return SiteFiles(count=count, size=size if sizes else None)


def _tree(folder: Path, limit: int) -> SiteTree:
    """The files below a folder, those of a folder before its subfolders'. Raises ``OSError``."""
    found: list[SiteEntry] = []
    top = str(folder)
    if os.path.islink(top):
        raise OSError(f"{top} is a symbolic link")
    pending = [""]
    while pending:
        inside = pending.pop()
        try:
            entries = os.scandir(os.path.join(top, inside))
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                path = f"{inside}/{entry.name}" if inside else entry.name
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                    continue
                if len(found) == limit:
                    return SiteTree(entries=sorted(found, key=_in_tree), complete=False)
                is_file = entry.is_file(follow_symlinks=False)
                size = entry.stat(follow_symlinks=False).st_size if is_file else None
                found.append(SiteEntry(path=path, size=size))
    return SiteTree(entries=sorted(found, key=_in_tree))


def _in_tree(entry: SiteEntry) -> tuple[tuple[int, str], ...]:
    """Sorts the folders of each level before its files."""
    *folders, name = entry.path.split("/")
    return (*((0, folder) for folder in folders), (1, name))


def _contained(path: str) -> PurePosixPath:
    """The path, if it stays inside the folder it is meant for. Raises ``SourceError`` otherwise."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\0" in path:
        raise SourceError(f"a generated file would lie outside its site: {path!r}", source="files")
    return pure


def _safe_name(owner: str) -> str:
    return "".join(char if char.isalnum() or char == "-" else "_" for char in owner)


def _delete(folder: Path) -> None:
    """Delete what was a site; links in it are deleted, and what they point to is not. Raises ``OSError``."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    else:
        folder.unlink()


def _reason(exc: OSError, folder: Path) -> str:
    return f"{folder.name} can't be moved: {exc.strerror or exc}"


def _failure(exc: OSError, what: str = "written") -> SourceError:
    return SourceError(f"the sites directory can't be {what}: {exc.strerror or exc}", source="files")
