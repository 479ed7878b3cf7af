"""The same system with either queue: what holds for one must hold for the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sitegenctl.config.backends import BACKENDS
from sitegenctl.demo.servers.base import Settings
from sitegenctl.demo.servers.redis import PrivateRedis, redis_binaries
from tests.support.world import World


class _Server(PrivateRedis):
    """A private server that runs this binary."""

    def __init__(self, home: Path, binary: Path) -> None:
        super().__init__(home)
        self._binary = binary

    def command(self, settings: Settings) -> list[str]:
        _, *arguments = super().command(settings)
        return [str(self._binary), *arguments]


_BINARIES = list(redis_binaries())


@pytest.fixture(scope="session", params=range(len(_BINARIES)), ids=[binary.name for binary in _BINARIES])
def _redis(_server_folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Every Redis and Valkey that is installed, and the wheel's Redis."""
    with _Server(_server_folder / f"redis-{request.param}", _BINARIES[request.param]).running() as server:
        yield server.url


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def system(world: World) -> World:
    """The whole system, empty, with the queue that the test's name ends with."""
    return world
