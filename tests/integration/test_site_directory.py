"""The directory of sites: slow and cancelled changes, trash, listing files."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sitegenctl.adapters.sites.directory import SiteDirectory
from sitegenctl.domain.orders.generation import SiteFile
from sitegenctl.domain.orders.site import SiteTree
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
    """A file system call that blocks the first time, until it is released."""

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
        lambda sites: sites.prune_trash(timedelta(0), now=datetime.now(UTC)),
        lambda base: not (base / ".trash" / "project_2.1").exists(),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_cancelled_change_finishes_first(
    sites: SiteDirectory, sites_dir: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Even past the read timeout: otherwise it would be rolled back first and happen afterwards."""
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


@pytest.mark.parametrize(("days", "left"), [(6, ["project_3", "project_4"]), (8, ["project_4"])])
async def test_trash_age_uses_the_given_time(sites: SiteDirectory, sites_dir: Path, days: int, left: list[str]) -> None:
    """Whatever this machine's clock says."""
    thrown_away = datetime(2020, 1, 1, tzinfo=UTC)
    trash = sites_dir / ".trash"
    (trash / "project_2.1").rmdir()
    (trash / f"project_3.{int(thrown_away.timestamp()) * 10**9}").mkdir()
    (trash / f"project_4.{int((thrown_away + timedelta(days=30)).timestamp()) * 10**9}").mkdir()
    now = thrown_away + timedelta(days=days)
    dry = await sites.prune_trash(timedelta(days=7), now=now, dry_run=True)
    real = await sites.prune_trash(timedelta(days=7), now=now)
    assert (dry.count, real.count) == (2 - len(left), 2 - len(left))
    assert sorted(path.name.partition(".")[0] for path in trash.iterdir()) == left


async def test_second_cancellation_does_not_wait(
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
async def test_hanging_directory_is_detected_before_a_change(
    sites: SiteDirectory, sites_dir: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(os, "stat", mount.hangs(os.stat))
    asyncio.get_running_loop().call_later(10, mount.goes_on.set)  # what had begun would be waited for
    with pytest.raises(SourceError, match="did not respond in time"):
        await CHANGES[change][1](sites)
    mount.goes_on.set()
    monkeypatch.undo()
    await asyncio.sleep(0.2)
    assert contents(sites_dir) == [".trash", "index.html", "project_1", "project_2.1"]
    assert (sites_dir / "project_1" / "index.html").read_text() == "old"


async def test_long_count_does_not_time_out(sites: SiteDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit is for every few folders, however many there are."""
    scandir = os.scandir

    def slow(path: Any) -> Any:
        threading.Event().wait(0.01)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", slow)
    counted = await sites.count(range(1, 101))
    assert {order_id: files.count for order_id, files in counted.items() if files.count} == {1: 1}
    assert len(counted) == 100


async def test_unreadable_directory_is_reported_in_one_line(
    sites: SiteDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*_: object, **__: object) -> Any:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(os, "stat", stale)
    with pytest.raises(SourceError, match="Stale file handle"):
        await sites.count([1])


def paths(tree: SiteTree) -> list[tuple[str, int | None]]:
    return [(entry.path, entry.size) for entry in tree.entries]


async def test_tree_lists_folders_before_files(sites: SiteDirectory, sites_dir: Path) -> None:
    folder = sites_dir / "project_1"
    (folder / "assets" / "img").mkdir(parents=True)
    (folder / "assets" / "img" / "a.png").write_bytes(b"12345")
    (folder / "assets" / "site.css").write_text("css")
    (folder / "Zebra.html").write_text("")
    tree = await sites.tree(1, limit=100)
    assert paths(tree) == [
        *(("assets/img/a.png", 5), ("assets/site.css", 3), ("Zebra.html", 0), ("index.html", 3)),
    ]
    assert tree.complete


async def test_tree_lists_symlinks_without_following(sites: SiteDirectory, sites_dir: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "passwords").write_text("hunter2")
    folder = sites_dir / "project_1"
    (folder / "elsewhere").symlink_to(secret)
    (folder / "file").symlink_to(secret / "passwords")
    (folder / "itself").symlink_to(folder)
    (folder / "nowhere").symlink_to(tmp_path / "gone")
    tree = await sites.tree(1, limit=100)
    assert paths(tree) == [
        *(("elsewhere", None), ("file", None), ("index.html", 3), ("itself", None), ("nowhere", None)),
    ]


async def test_symlinked_site_is_not_read(sites: SiteDirectory, sites_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (sites_dir / "project_7").symlink_to(tmp_path / "secret")
    with pytest.raises(SourceError, match="can't be read") as caught:
        await sites.tree(7, limit=100)
    assert "\n" not in caught.value.message


async def test_tree_is_truncated_at_the_limit(sites: SiteDirectory, sites_dir: Path) -> None:
    for number in range(10):
        (sites_dir / "project_1" / f"page{number}.html").write_text("")
    for limit in (0, 1, 10):
        tree = await sites.tree(1, limit=limit)
        assert (len(tree.entries), tree.complete) == (limit, False)
    whole = await sites.tree(1, limit=11)
    assert (len(whole.entries), whole.complete) == (11, True)


async def test_missing_site_has_an_empty_tree(sites: SiteDirectory) -> None:
    tree = await sites.tree(99, limit=10)
    assert (paths(tree), tree.complete) == ([], True)


async def test_deep_folders_and_odd_names(sites: SiteDirectory, sites_dir: Path) -> None:
    deep = sites_dir / "project_1" / "/".join("d" for _ in range(200))
    deep.mkdir(parents=True)
    (deep / "page.html").write_text("x")
    os.close(os.open(bytes(sites_dir / "project_1") + b"/\xff\x1b[31m\nname", os.O_CREAT))
    tree = await sites.tree(1, limit=100)
    assert [path.rpartition("/")[2] for path, _ in paths(tree)] == ["page.html", "index.html", "\udcff\x1b[31m\nname"]
    assert tree.entries[0].path.count("/") == 200


READS: dict[str, tuple[str, Callable[[SiteDirectory], Awaitable[Any]]]] = {
    "tree": ("scandir", lambda sites: sites.tree(1, limit=10)),
    "read_trash": ("listdir", lambda sites: sites.read_trash()),
    "count_trash": ("scandir", lambda sites: sites.count_trash(["project_2.1"])),
}


@pytest.mark.parametrize("read", READS)
async def test_slow_reading_times_out(
    sites: SiteDirectory, mount: Mount, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    hanging, begin = READS[read]
    monkeypatch.setattr(os, hanging, mount.hangs(getattr(os, hanging)))
    with pytest.raises(SourceError, match="did not respond in time"):
        await begin(sites)
