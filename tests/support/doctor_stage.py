"""Redis databases with workers for the tests of doctor's checks.

Database 0 has a correct worker, 1 a worker of another queue with odd limits, 2 a worker with another task, 3 to 9
have none. They are shared by all tests of a session, so that only tests of workers use them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sitegenctl.config.settings import parse_duration
from sitegenctl.demo.servers.redis import PrivateRedis
from sitegenctl.domain.health.check import Check, CheckStatus, CheckUp
from sitegenctl.operations.doctor import check_up
from sitegenctl.session import doctor_options, open_session
from tests.support import processes
from tests.support.processes import Running
from tests.support.world import World, eventually

RIGHT, WRONG_QUEUE, WRONG_TASK, NO_WORKER = 0, 1, 2, 3
OTHER_TASK = "app.tasks.other"

#: Names and statuses of all checks of the running test.
_results: set[tuple[str, CheckStatus]] = set()


@pytest.fixture(autouse=True)
def _shown(request: pytest.FixtureRequest) -> Iterator[None]:
    """Assert that the check-ups of a test gave the statuses of its ``shows`` marks."""
    _results.clear()
    yield
    for mark in request.node.iter_markers("shows"):
        status, *names = mark.args
        assert {(name, status) for name in names} <= _results


@dataclass(frozen=True)
class Stage:
    redis: str

    def url(self, database: int) -> str:
        return f"{self.redis.rsplit('/', 1)[0]}/{database}"


@pytest.fixture(scope="session")
def stage(_postgres: str) -> Iterator[Stage]:
    """The Redis and its workers."""
    with (
        tempfile.TemporaryDirectory(prefix="sitegenctl-doctor-") as folder,
        PrivateRedis(Path(folder) / "redis", persistence=True).running() as server,
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


@contextlib.contextmanager
def odd_process(world: World, **given: Any) -> Iterator[Running]:
    """Run ``odd_worker.py`` with these settings; a worker that can answers when the block begins."""
    given = {"name": "odd@crm", **given}
    process = processes.start(
        *("-m", "tests.support.odd_worker", json.dumps(given)),
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "REDIS_URL": world.redis_url},
        start_new_session=True,
    )
    try:
        if not {"beat", "broken_methods"} & given.keys():
            eventually(lambda: process.poll() is None and given["name"] in world.worker_names())
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def examine(world: World, **options: Any) -> dict[str, Check]:
    """All checks of a check-up of this world, by name."""
    return {check.name: check for check in check_up_of(world, **options).checks}


def check_up_of(
    world: World,
    *,
    timeout: str = "2s",
    patience: str = "0.3s",
    beat_interval: str = "120s",
    clock: Callable[[], float] = time.time,
    **flags: object,
) -> CheckUp:
    """A check-up of this world; ``clock`` is this machine's."""
    settings = world.settings(timeout=timeout, **flags)
    options = doctor_options(settings, patience=parse_duration(patience))
    options = replace(options, system=replace(options.system, beat_interval=parse_duration(beat_interval)))

    async def run() -> CheckUp:
        async with open_session(settings, "test") as session:
            for probe in (session.probes.broker, session.probes.database):
                probe._now = clock  # type: ignore[attr-defined]
            return await check_up(session, options)

    found = asyncio.run(run())
    _results.update((check.name, check.status) for check in found.checks)
    return found


def expect(check: Check, status: CheckStatus, *evidence: str) -> None:
    """Assert the status of a check, and what its first lines of evidence contain."""
    assert check.status is status, check
    for text, line in zip(evidence, check.evidence, strict=False):
        assert text in line
    assert len(check.evidence) >= len(evidence)


@contextlib.contextmanager
def restricted(world: World, *rules: str) -> Iterator[None]:
    """Let the world use a Redis user who may do everything but this; ``rules`` are of Redis' ACL."""
    real = world.redis_url
    with world.redis() as client:
        client.execute_command("ACL", "SETUSER", "clerk", "on", ">pw", "~*", "&*", "+@all", *rules)
        world.redis_url = f"redis://clerk:pw@{real.split('@')[1]}"
        try:
            yield
        finally:
            world.redis_url = real
            client.execute_command("ACL", "DELUSER", "clerk")


def unproven(module: ModuleType, names: Iterable[str]) -> dict[str, set[CheckStatus]]:
    """Return the checks that no test of the module proves both to pass and to fail."""
    shown: dict[str, set[CheckStatus]] = {name: set() for name in names}
    for status, *checks in marks(module):
        for name in checks:
            shown.setdefault(name, set()).add(status)
    return {
        name: shown[name]
        for name in names
        if CheckStatus.OK not in shown[name] or not shown[name] & {CheckStatus.FAILED, CheckStatus.WARNING}
    }


def marks(module: ModuleType) -> Iterator[tuple[Any, ...]]:
    """Yield the arguments of each ``shows`` mark on a test, or a case of it, that is never skipped."""
    for name, test in vars(module).items():
        on_test = getattr(test, "pytestmark", []) if name.startswith("test_") else []
        if any(mark.name.startswith("skip") for mark in on_test):
            continue
        cases = [case for mark in on_test if mark.name == "parametrize" for case in mark.args[1]]
        for mark in (*on_test, *(mark for case in cases for mark in getattr(case, "marks", ()))):
            if mark.name == "shows":
                yield mark.args
