"""A Redis of our own, that keeps what it has, and three workers on it for all tests of the folder.

Database 0 has a worker as it should be, database 1 one on another queue and with odd limits, database 2 one with
another task; 3 to 9 have none. What looks at the workers gets its database from here, everything else is each
test's own.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sitegenctl.demo.redis_server import redis_server
from sitegenctl.domain.health import Check, CheckName, CheckUp
from sitegenctl.operations.doctor import DoctorOptions, check_up
from sitegenctl.session import open_health, open_session
from sitegenctl.settings import parse_duration
from tests.world import World

RIGHT, WRONG_QUEUE, WRONG_TASK, NOBODY = 0, 1, 2, 3
OTHER_TASK = "app.tasks.other"


@dataclass(frozen=True)
class Stage:
    redis: str

    def url(self, database: int) -> str:
        return f"{self.redis.rsplit('/', 1)[0]}/{database}"


@pytest.fixture(scope="package")
def stage(_postgres: str) -> Iterator[Stage]:
    """The Redis and its workers."""
    with (
        tempfile.TemporaryDirectory(prefix="sitegenctl-doctor-") as folder,
        redis_server(Path(folder) / "redis", persistence=True) as server,
    ):
        found = Stage(redis=server.url)
        worlds: list[World] = []

        def start(database: int, environ: dict[str, str]) -> None:
            sites = Path(folder) / str(database) / "sites"
            sites.mkdir(parents=True)
            world = World(database_url=_postgres, redis_url=found.url(database), sites_dir=sites)
            worlds.append(world)
            world.worker(environ={**world.environ, "SITEGENCTL_CONCURRENCY": "1", **environ})

        environs: dict[int, dict[str, str]] = {
            RIGHT: {},
            WRONG_QUEUE: {"SITEGENCTL_QUEUE": "other_queue", "SITEGENCTL_VISIBILITY_TIMEOUT": "300s"},
            WRONG_TASK: {"SITEGENCTL_TASK": OTHER_TASK},
        }
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(start, environs, environs.values()))
            yield found
        finally:
            for world in worlds:
                world.close()


@pytest.fixture
def on_stage(world: World, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], World]:
    """The test's world with its broker moved to a database of the stage."""

    def move(database: int) -> World:
        moved = replace(world, redis_url=stage.url(database))
        monkeypatch.setenv("REDIS_URL", moved.redis_url)
        with moved.redis() as client:
            client.delete("site_generation", "unacked", "unacked_index")
        return moved

    return move


def examine(world: World, *, timeout: str = "2s", patience: str = "0.3s", **flags: object) -> dict[CheckName, Check]:
    """All checks of a check-up of this world, by name."""
    return {check.name: check for check in check_up_of(world, timeout=timeout, patience=patience, **flags).checks}


def check_up_of(world: World, *, timeout: str = "2s", patience: str = "0.3s", **flags: object) -> CheckUp:
    settings = world.settings(timeout=timeout, **flags)
    options = DoctorOptions(
        queue=settings.queue,
        task=settings.task,
        grace=settings.grace,
        timeout=settings.timeout,
        patience=parse_duration(patience),
        read_only=settings.read_only,
    )

    async def run() -> CheckUp:
        async with open_session(settings, "test") as session, open_health(settings) as probes:
            return await check_up(session.orders, session.queue, session.sites, probes, options)

    return asyncio.run(run())
