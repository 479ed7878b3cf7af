"""The directory of generated sites: counting files, replacing a site, and the trash.

Each site is a folder ``project_<order id>``. Folders are only renamed into place or away, so that a crash leaves no
incomplete site. Symbolic links are never followed, and no path leaves the base directory.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TypeVar

from sitegenctl.adapters.system.threads import in_a_thread, to_its_end_in_a_thread
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.orders.generation import SiteFile
from sitegenctl.domain.orders.site import SiteEntry, SiteFiles, SiteTree, TrashContents, TrashEntry
from sitegenctl.domain.ports import PruneResult, TrashResult
from sitegenctl.errors import SourceError

T = TypeVar("T")
Key = TypeVar("Key")

TRASH = ".trash"

# An entry that is being deleted is renamed first: nothing restores half of a site.
_DELETED = ".deleted."

# Folders counted in one thread, within one time limit. Batches grow while they are fast: starting a thread takes longer
# than counting a few folders.
_MIN_BATCH = 20
_MAX_BATCH = 1000
_FAST = 0.02  # seconds


class SiteDirectory:
    """``SiteStore`` on a directory, which may be a network file system that hangs.

    Every method raises ``SourceError`` if ``base`` is None (not configured) or missing. Reading ends after ``timeout``
    seconds (a batch of folders for ``count``). A change first checks the directory in that time, but then has no time
    limit: after a timeout it could still happen although it was reported as failed.
    """

    def __init__(self, base: Path | None, *, timeout: float) -> None:
        self._is_configured = base is not None
        self._base = base or Path()
        self._timeout = timeout

    def folder(self, order_id: int) -> Path:
        """The folder of the order's site, which may not exist."""
        return self._base / f"project_{order_id}"

    async def count(
        self, order_ids: Collection[int], *, enough: int | None = None, sizes: bool = True
    ) -> dict[int, SiteFiles]:
        # Not `folder`: for many orders, building paths would take as long as reading the folders.
        base = str(self._base)
        return await self._count_each(((each, f"{base}/project_{each}") for each in order_ids), enough, sizes)

    async def count_trash(self, names: Collection[str]) -> dict[str, SiteFiles]:
        return await self._count_each(((name, f"{self._base}/{TRASH}/{name}") for name in names), None, True)

    async def _count_each(
        self, folders: Iterable[tuple[Key, str]], enough: int | None, sizes: bool
    ) -> dict[Key, SiteFiles]:
        counted: dict[Key, SiteFiles] = {}
        remaining = iter(folders)
        clock = asyncio.get_running_loop().time
        size = _MIN_BATCH
        batch = list(islice(remaining, size))
        # At least once, because a missing directory is an error even if there is nothing to count.
        while True:
            began = clock()
            counted |= await self._read(functools.partial(self._count_all, batch, enough, sizes))
            if clock() - began < _FAST:
                size = min(size * 2, _MAX_BATCH)
            if not (batch := list(islice(remaining, size))):
                return counted

    async def tree(self, order_id: int, *, limit: int) -> SiteTree:
        def read() -> SiteTree:
            self._require_base()
            entries: list[SiteEntry] = []
            try:
                for path, entry in _walk(str(self.folder(order_id))):
                    if len(entries) == limit:
                        return SiteTree(entries=_sorted(entries), complete=False)
                    is_file = entry.is_file(follow_symlinks=False)
                    size = entry.stat(follow_symlinks=False).st_size if is_file else None
                    entries.append(SiteEntry(path=path, size=size))
            except OSError as exc:
                raise _failure(exc, "read") from exc
            return SiteTree(entries=_sorted(entries), complete=True)

        return await self._read(read)

    async def replace(self, order_id: int, files: Collection[SiteFile], owner: str) -> None:
        name = "".join(char if char.isalnum() or char == "-" else "_" for char in owner)
        partial = self._base / f".project_{order_id}.partial-{name}"

        def write() -> None:
            try:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                for file in files:
                    path = PurePosixPath(file.path)
                    if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in file.path:
                        raise SourceError(f"a generated file would lie outside its site: {file.path!r}", source="files")
                    target = partial.joinpath(*path.parts)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(file.content)
                self._trash(order_id, self._made_trash)
                partial.rename(self.folder(order_id))
            except OSError as exc:
                shutil.rmtree(partial, ignore_errors=True)
                raise _failure(exc, "written") from exc

        await self._change(write)

    async def discard_leftovers(self, order_id: int) -> int:
        def discard() -> int:
            leftovers = list(self._base.glob(f".project_{order_id}.partial-*"))
            for leftover in leftovers:
                shutil.rmtree(leftover, ignore_errors=True)
            return len(leftovers)

        return await self._change(discard)

    async def trash(self, order_ids: Collection[int], operation: str | None = None) -> TrashResult:
        def move() -> TrashResult:
            moved: dict[int, str] = {}
            failed: dict[int, str] = {}
            trash = functools.cache(self._made_trash)
            for order_id in order_ids:
                try:
                    name = self._trash(order_id, trash, operation)
                except OSError as exc:
                    failed[order_id] = _reason(exc, self.folder(order_id))
                else:
                    if name is not None:
                        moved[order_id] = name
            return TrashResult(moved=moved, failed=failed)

        return await self._change(move)

    async def untrash(self, moved: Mapping[int, str]) -> Mapping[int, str]:
        def move() -> dict[int, str]:
            failed: dict[int, str] = {}
            for order_id, name in moved.items():
                folder, entry = self.folder(order_id), self._base / TRASH / name
                try:
                    if entry.is_symlink():
                        raise OSError(errno.ELOOP, "it is a symbolic link in the trash", str(entry))
                    try:
                        # Replaces an empty folder, and fails for any other one.
                        os.rename(entry, folder)
                    except OSError as exc:
                        if os.path.lexists(folder):
                            raise FileExistsError(errno.EEXIST, "a new site exists", str(folder)) from exc
                        raise
                except OSError as exc:
                    failed[order_id] = _reason(exc, folder)
            return failed

        return await self._change(move)

    async def read_trash(self) -> TrashContents:
        def read() -> TrashContents:
            self._require_base()
            names = [name for name in self._trash_names() if not name.startswith(_DELETED)]
            entries = [entry for name in names if (entry := TrashEntry.of(name)) is not None]
            return TrashContents(
                entries=sorted(entries, key=TrashEntry.listing_order), foreign=len(names) - len(entries)
            )

        return await self._read(read)

    async def prune_trash(
        self, older_than: timedelta, *, now: datetime, limit: int | None = None, dry_run: bool = False
    ) -> PruneResult:
        newest = (now.timestamp() - older_than.total_seconds()) * 1e9
        if dry_run:
            await self._read(self._require_base)
            return PruneResult(count=len((await self._read(lambda: self._expired(newest)))[:limit]))

        def delete() -> PruneResult:
            count = 0
            failed: dict[str, str] = {}
            for name in self._expired(newest):
                # Failures do not count: otherwise they would use up the limit of every run.
                if count == limit:
                    break
                folder = self._base / TRASH / name
                try:
                    # A symbolic link itself is deleted, never what it points to.
                    if folder.is_dir() and not folder.is_symlink():
                        if not name.startswith(_DELETED):
                            folder = folder.rename(folder.with_name(f"{_DELETED}{name}"))
                        shutil.rmtree(folder)
                    else:
                        folder.unlink()
                except FileNotFoundError:
                    continue
                except OSError as exc:
                    failed[name.removeprefix(_DELETED)] = exc.strerror or str(exc)
                else:
                    count += 1
            return PruneResult(count=count, failed=failed)

        return await self._change(delete)

    async def _read(self, work: Callable[[], T]) -> T:
        """Run work that changes nothing. Raises ``SourceError`` after the time limit."""
        try:
            return await in_a_thread(work, timeout=self._timeout)
        except TimeoutError as exc:
            raise SourceError(
                f"the sites directory {self._base} did not respond in time",
                hint="check its mount: a network file system may hang",
                source="files",
            ) from exc

    async def _change(self, work: Callable[[], T]) -> T:
        """Run work that changes something, if the directory responds, and wait for its end."""
        await self._read(self._require_base)
        return await to_its_end_in_a_thread(work)

    def _count_all(self, folders: Collection[tuple[Key, str]], enough: int | None, sizes: bool) -> dict[Key, SiteFiles]:
        self._require_base()
        counted: dict[Key, SiteFiles] = {}
        for key, folder in folders:
            try:
                counted[key] = _count(folder, enough, sizes)
            except OSError:
                continue
        return counted

    def _trash(self, order_id: int, trash: Callable[[], str], operation: str | None = None) -> str | None:
        """Move a site; returns its name in the trash, None if there is no site. Raises ``OSError``."""
        folder = str(self.folder(order_id))
        # Nanoseconds, because an order may be trashed many times.
        name = TrashEntry(order_id=order_id, time_ns=time.time_ns(), operation=operation).name
        try:
            if stat.S_ISLNK(os.lstat(folder).st_mode):
                raise OSError(errno.ELOOP, "it is a symbolic link", folder)
            os.rename(folder, f"{trash()}/{name}")
        except FileNotFoundError:
            return None
        return name

    def _made_trash(self) -> str:
        """Create the trash unless it exists. Raises ``OSError``."""
        trash = self._base / TRASH
        trash.mkdir(exist_ok=True)
        if trash.is_symlink():
            raise OSError(errno.ELOOP, "the trash is a symbolic link", str(trash))
        return str(trash)

    def _expired(self, newest: float) -> list[str]:
        """Names of sites trashed at ``newest`` (nanoseconds since 1970) or before, and of those deleted in part."""
        # By the time in the name: the times of the folder change when the volume is copied or restored.
        entries = ((name, TrashEntry.of(name.removeprefix(_DELETED))) for name in self._trash_names())
        return [
            name
            for name, entry in entries
            if entry is not None and (entry.time_ns <= newest or name.startswith(_DELETED))
        ]

    def _trash_names(self) -> list[str]:
        """All names in the trash, sorted."""
        trash = self._base / TRASH
        try:
            if trash.is_symlink():
                raise OSError(errno.ELOOP, "the trash is a symbolic link", str(trash))
            return sorted(os.listdir(trash))
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise SourceError(f"the trash can't be read: {exc.strerror or exc}", source="files") from exc

    def _require_base(self) -> None:
        if not self._is_configured:
            raise SourceError("no sites directory is configured", hint="set SITES_BASE_DIR", source="files")
        try:
            exists = self._base.is_dir()
        except OSError as exc:
            raise _failure(exc, "read") from exc
        if not exists:
            raise SourceError(
                f"the sites directory {self._base} does not exist",
                hint=Remedy.run(
                    Command.CONFIG_SHOW, advice="check that its volume is mounted and that SITES_BASE_DIR is right"
                ),
                source="files",
            )


def _walk(top: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below a folder but folders, with relative paths; nothing without the folder. Raises ``OSError``."""
    if os.path.islink(top):
        raise OSError(f"{top} is a symbolic link")
    pending = [""]
    while pending:
        inside = pending.pop()
        try:
            entries = os.scandir(f"{top}/{inside}")
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                path = f"{inside}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{path}/")
                else:
                    yield path, entry


def _count(top: str, enough: int | None, sizes: bool) -> SiteFiles:
    """Count the regular files below a folder. Raises ``OSError``."""
    count = size = 0
    for _, entry in _walk(top):
        if entry.is_file(follow_symlinks=False):
            count += 1
            if sizes:
                size += entry.stat(follow_symlinks=False).st_size
            if count == enough:
                break
    return SiteFiles(count=count, size=size if sizes else None, complete=enough is None or count < enough)


def _sorted(entries: list[SiteEntry]) -> list[SiteEntry]:
    """The folders of each level before its files."""

    def key(entry: SiteEntry) -> tuple[tuple[int, str], ...]:
        *folders, name = entry.path.split("/")
        return (*((0, folder) for folder in folders), (1, name))

    return sorted(entries, key=key)


def _reason(exc: OSError, folder: Path) -> str:
    return f"{folder.name} can't be moved: {exc.strerror or exc}"


def _failure(exc: OSError, what: str) -> SourceError:
    return SourceError(f"the sites directory can't be {what}: {exc.strerror or exc}", source="files")
