"""Changing a directory of sites that may hang: what has begun is brought to its end, or given up by a person."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sitegenctl.adapters.site_directory import SiteDirectory
from sitegenctl.domain.brief import SiteFile
from sitegenctl.errors import SourceError

SITE = [SiteFile(path="index.html", content=b"new")]


@pytest.fixture
def sites(sites_dir: Path) -> SiteDirectory:
    (sites_dir / "project_1").mkdir()
    (sites_dir / "project_1" / "index.html").write_text("old")
    (sites_dir / ".trash").mkdir()
    (sites_dir / ".trash" / "project_2.1").mkdir()
    return SiteDirectory(sites_dir, timeout=0.5)


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


class Mount:
    """A file system that stops doing something at its first call, until it is told to go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.goes_on = threading.Event()

    def hangs(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def hang(*arguments: Any, **options: Any) -> Any:
            self.reached.set()
            self.goes_on.wait()
            return call(*arguments, **options)

        return hang


@pytest.fixture
def mount() -> Iterator[Mount]:
    mount = Mount()
    yield mount
    mount.goes_on.set()


CHANGES: dict[str, tuple[str, Callable[[SiteDirectory], Awaitable[Any]], Callable[[Path], bool]]] = {
    "replace": (
        "rename",
        lambda sites: sites.replace(1, SITE, "me"),
        lambda base: (base / "project_1" / "index.html").read_text() == "new",
    ),
    "trash": ("rename", lambda sites: sites.trash([1]), lambda base: not (base / "project_1").exists()),
    "untrash": ("rename", lambda sites: sites.untrash({2: "project_2.1"}), lambda base: (base / "project_2").exists()),
    "prune": (
        "rmdir",
        lambda sites: sites.prune_trash(timedelta(0)),
        lambda base: not (base / ".trash" / "project_2.1").exists(),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_that_has_begun_ends_before_its_cancellation_does(
    sites: SiteDirectory, sites_dir: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Also when it takes longer than any look may: else it would be taken back, and then happen."""
    hanging, begin, is_done = CHANGES[change]
    monkeypatch.setattr(os, hanging, mount.hangs(getattr(os, hanging)))
    work = asyncio.ensure_future(begin(sites))
    await asyncio.to_thread(mount.reached.wait, 10)
    work.cancel()
    await asyncio.sleep(0.7)
    assert not work.done()
    mount.goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert is_done(sites_dir)


async def test_who_cancels_a_change_twice_does_not_wait_for_it(
    sites: SiteDirectory, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "rename", mount.hangs(os.rename))
    work = asyncio.ensure_future(sites.trash([1]))
    await asyncio.to_thread(mount.reached.wait, 10)
    for _ in range(2):
        work.cancel()
        await asyncio.wait([work], timeout=0.2)
    assert work.cancelled()


@pytest.mark.parametrize("change", CHANGES)
async def test_a_directory_that_hangs_is_found_out_before_anything_is_begun(
    sites: SiteDirectory, sites_dir: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(os, "stat", mount.hangs(os.stat))
    asyncio.get_running_loop().call_later(10, mount.goes_on.set)  # what had begun would be waited for
    with pytest.raises(SourceError, match="did not answer in time"):
        await CHANGES[change][1](sites)
    mount.goes_on.set()
    monkeypatch.undo()
    await asyncio.sleep(0.2)
    assert contents(sites_dir) == [".trash", "index.html", "project_1", "project_2.1"]
    assert (sites_dir / "project_1" / "index.html").read_text() == "old"


async def test_a_long_count_is_no_late_one(sites: SiteDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit is for every few folders, however many there are."""
    scandir = os.scandir

    def slow(path: Any) -> Any:
        threading.Event().wait(0.01)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", slow)
    counted = await sites.count(range(1, 101))
    assert {order_id: files.count for order_id, files in counted.items() if files.count} == {1: 1}
    assert len(counted) == 100


async def test_a_directory_that_can_not_even_be_looked_at_is_one_line(
    sites: SiteDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*_: object, **__: object) -> Any:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(os, "stat", stale)
    with pytest.raises(SourceError, match="Stale file handle"):
        await sites.count([1])
