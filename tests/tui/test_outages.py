"""Servers that stop, hang and restart while the view runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sitegenctl.demo.servers.postgres import PrivatePostgres
from sitegenctl.demo.servers.redis import PrivateRedis
from sitegenctl.operations import live_state
from sitegenctl.tui.service import EventsReceived, SnapshotReady, ViewData
from tests.support.databases import create_schema
from tests.support.live_view import Live, live
from tests.support.world import World


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # pytest's temporary folder is not readable for PostgreSQL's account.
    with tempfile.TemporaryDirectory(prefix="sitegenctl-tests-") as made:
        yield Path(made)


@pytest.fixture
def own_redis(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Redis that the test may stop."""
    with PrivateRedis(folder / "redis", persistence=True).running() as server:
        world.redis_url = server.url
        monkeypatch.setenv("REDIS_URL", server.url)
        yield folder / "redis"


@pytest.fixture
def own_postgres(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A PostgreSQL that the test may stop."""
    with PrivatePostgres(folder / "postgres", durable=False).running() as server:
        world.database_url = server.url
        asyncio.run(create_schema(server.url))
        monkeypatch.setenv("DATABASE_URL", server.url)
        yield folder / "postgres"


@contextlib.asynccontextmanager
async def hanging(pid: int) -> AsyncIterator[None]:
    """A process that neither responds nor refuses."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def some_orders(world: World) -> None:
    world.order(1, "GENERATING", steps=["START", "ERROR"], name="One")
    world.order(2, "BUILDING", name="Two")


async def is_kept_and_refuses(view: Live, banner: str) -> None:
    """The last data stays, is marked as old, and allows no action."""
    await view.until(lambda: banner in view.banner)
    assert "showing old data; retrying" in view.banner
    assert view.listed == [1, 2]
    await view.sees("Padaria One", " old")
    await view.until(lambda: "✗" in view.lines[0])
    await view.press("R")
    await view.sees("not now: ")
    assert view.dialog is None
    # Everything else works.
    await view.press("j")
    assert view.table.key == 2
    await view.press("2", "3", "4", "1")
    assert view.listed == [1, 2]


async def recovers(view: Live, world: World) -> None:
    await asyncio.to_thread(world.order, 3, "BUILDING", name="Three")
    await view.until(lambda: not view.banner and 3 in view.listed, patience=30)
    assert "old" not in view.lines[0]
    await view.until(lambda: all(f"● {source}" in view.lines[0] for source in ("database", "redis", "files")))
    view.table.go_to(3)
    await view.act("e", "1 would be enqueued")
    await view.press("y")
    await view.until(lambda: "1 enqueued" in view.part("title"))
    await view.press("escape")
    await view.until(lambda: any("queued" in line and " 3 " in line for line in view.rows_of("table")))


async def test_redis_outage(world: World, own_redis: Path) -> None:
    await asyncio.to_thread(some_orders, world)
    async with live(world) as view:
        await view.until(lambda: view.listed == [1, 2])
        await asyncio.to_thread(PrivateRedis(own_redis).stop)
        await is_kept_and_refuses(view, "broker: Redis")
        assert "○ workers" in view.lines[0]  # they could not be asked
        await asyncio.to_thread(PrivateRedis(own_redis, persistence=True).start)
        await recovers(view, world)
        # Events arrive again, after a note about the gap.
        await view.press("4")
        await view.sees("connected again")


async def test_postgres_outage(world: World, own_postgres: Path) -> None:
    await asyncio.to_thread(some_orders, world)
    async with live(world) as view:
        await view.until(lambda: view.listed == [1, 2])
        await asyncio.to_thread(PrivatePostgres(own_postgres).stop)
        await is_kept_and_refuses(view, "database: ")
        # A filter typed meanwhile is applied at the latest when the database is back.
        await view.type("one")
        await asyncio.to_thread(PrivatePostgres(own_postgres, durable=False).start)
        await view.until(lambda: view.listed == [1], patience=30)
        await view.press("escape", "escape")
        await view.until(lambda: view.listed == [1, 2])
        await recovers(view, world)


async def test_starting_without_redis(world: World, own_redis: Path) -> None:
    await asyncio.to_thread(some_orders, world)
    await asyncio.to_thread(PrivateRedis(own_redis).stop)
    async with live(world, waits=False) as view:
        await view.until(lambda: "broker: Redis" in view.banner)
        await asyncio.to_thread(PrivateRedis(own_redis, persistence=True).start)
        await view.until(lambda: not view.banner and view.listed == [1, 2], patience=30)


@pytest.mark.parametrize("server", ["redis", "postgres"])
async def test_hanging_server_blocks_neither_screen_nor_exit(
    world: World, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough that any wait for it would fail the test.
    monkeypatch.setenv("SITEGENCTL_TIMEOUT", "60s")
    await asyncio.to_thread(some_orders, world)
    pid = await asyncio.to_thread(pid_of, world, server)
    async with live(world) as view:
        await view.until(lambda: view.listed == [1, 2])
        async with hanging(pid):
            await asyncio.sleep(0.5)  # it is being waited for by now
            began = time.monotonic()
            await view.press("j")
            assert view.table.key == 2
            await view.press("2", "1", "slash", "x", "escape", "escape", "question_mark", "escape")
            keys = time.monotonic() - began
            began = time.monotonic()
            await view.press("q")
            await view.until(lambda: not view.app.is_running)
            left = time.monotonic() - began
    assert (keys < 30, left < 30) == (True, True), (keys, left)


def pid_of(world: World, server: str) -> int:
    if server == "redis":
        with world.redis() as client:
            return int(client.info("server")["process_id"])

    # The backend of the only other connection can't be known before it is made: the server's first process is
    # stopped, which keeps new connections waiting.
    return int(world.sql("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)")[0][0])


async def test_unresponsive_workers_are_reported(world: World) -> None:
    await asyncio.to_thread(some_orders, world)
    worker = await asyncio.to_thread(world.worker, "-c", "1")
    async with live(world, timeout="1s") as view:
        await view.until(lambda: not view.banner)
        async with hanging(worker.pid):
            await view.until(lambda: "workers: the living worker did not respond" in view.banner)
            assert "showing old data" not in view.banner
        await view.until(lambda: not view.banner)


async def test_missing_sites_directory_is_reported(world: World) -> None:
    await asyncio.to_thread(some_orders, world)
    async with live(world) as view:
        await view.until(lambda: not view.banner)
        world.sites_dir.rename(world.sites_dir.with_name("elsewhere"))
        await asyncio.to_thread(world.order, 3, "GENERATING", steps=["START", "PHASE_1_START"], name="Three")
        await view.until(lambda: "files: " in view.banner)
        assert "showing old data" not in view.banner
        # The order's details report it too.
        await view.go_to(1)
        for _ in range(3):
            detail = view.detail
            await view.until(lambda previous=detail: view.detail is not previous)  # type: ignore[misc]
            assert "does not exist" in (view.detail.problem or "")  # type: ignore[union-attr]
        world.sites_dir.with_name("elsewhere").rename(world.sites_dir)
        await view.until(lambda: not view.banner)


async def test_emptied_directory_is_not_trusted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of the directory is repeated when its files change."""
    # What is read again by its age only is never read again.
    monkeypatch.setattr(live_state, "SLOW", 3600)
    monkeypatch.setitem(live_state._Cache.get.__kwdefaults__, "max_age", 3600)  # type: ignore[arg-type]

    def some() -> None:
        world.order(1, "GENERATING", steps=["START", "PHASE_1_START"], files=2)
        world.order(2, "GENERATING", steps=["START", "PHASE_1_START"], files=8)
        world.order(3, "DELIVERED", files=8)

    await asyncio.to_thread(some)
    async with live(world) as view:
        await view.until(
            lambda: [str(row.verdict.condition) for row in view.table.rows][:2] == ["interrupted", "empty"]
        )
        # As an unmounted volume: the directory exists and is empty.
        world.sites_dir.rename(world.sites_dir.with_name("elsewhere"))
        world.sites_dir.mkdir()
        await view.until(lambda: "files: the only finished order, 3, has no file" in view.banner)
        await view.until(lambda: {str(row.verdict.condition) for row in view.table.rows[:2]} == {"unknown"})


async def test_messages_during_exit_are_ignored(world: World) -> None:
    """Widgets are removed one by one, while polls continue."""
    async with live(world) as view:
        app = view.app
        assert app.live is not None
        late = SnapshotReady(ViewData(live=app.live, query=view.orders.order_query))
        await app.query_one("#banner").remove()
        app._running = False  # as the first thing that Textual does then
        app.on_snapshot_ready(late)
    app.on_snapshot_ready(late)
    app.on_events_received(EventsReceived([]))
