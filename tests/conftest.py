"""One Redis and one PostgreSQL for the session; a database of each for every test; a scrubbed environment."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from redis import Redis

from sitegenctl.demo.servers.postgres import PrivatePostgres
from sitegenctl.demo.servers.redis import PrivateRedis
from tests.support import processes
from tests.support.databases import Databases, forget_all
from tests.support.servers import Certificates, make_certificates
from tests.support.world import Log, World

if TYPE_CHECKING:
    from tests.support.rq_world import RqWorld

_FOREIGN = ("SITEGENCTL_", "CELERY_", "RQ_", "PG", "DATABASE_URL", "REDIS_URL", "SITES_BASE_DIR", "NO_COLOR", "COLUMNS")
# Redis has 16 databases; 0 is left alone, so that a test which forgets the number finds nothing.
_redis_numbers = itertools.cycle(range(1, 16))

# How long an example takes is the machine's business.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "shows(check, *statuses): check-ups of this test come to each of these; proven when it has run"
    )
    # This suite starts hundreds of processes: most of their time would go by compiling the same modules again.
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # What a shell without job control starts in the background ignores Ctrl-C, and so would all that is started here.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the tests of living systems, which mostly wait, evenly among the others, so that no process ends late."""
    living = [item for item in items if "living" in item.path.name]
    others = [item for item in items if "living" not in item.path.name]
    share = len(others) // (len(living) + 1)
    for number, item in enumerate(living):
        others.insert(number * (share + 1), item)
    items[:] = others


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A self-signed certificate for 127.0.0.1, and its key."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def _scrubbed_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(_FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SITEGENCTL_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("SITEGENCTL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SITEGENCTL_STATE_DIR", str(tmp_path / "state"))
    # The tests' Redis has only just started, and nothing is on its way back to it.
    monkeypatch.setenv("SITEGENCTL_RECONNECT_TIME", "0s")


@pytest.fixture(scope="session", autouse=True)
def _processes() -> Iterator[None]:
    with processes.fork_server():
        yield


@pytest.fixture(scope="session")
def _server_folder() -> Iterator[Path]:
    # Not pytest's own temporary folder: PostgreSQL under another account must be able to reach it.
    with tempfile.TemporaryDirectory(prefix="sitegenctl-tests-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def _redis(_server_folder: Path) -> Iterator[str]:
    with PrivateRedis(_server_folder / "redis").running() as server:
        yield server.url


@pytest.fixture(scope="session")
def _postgres(_server_folder: Path) -> Iterator[str]:
    with PrivatePostgres(_server_folder / "postgres", durable=False).running() as server:
        yield server.url


@pytest.fixture(scope="session")
def _databases(_postgres: str) -> Iterator[Databases]:
    yield Databases(_postgres)
    forget_all()


@pytest.fixture
def redis_url(_redis: str) -> str:
    """An empty database of the session's Redis."""
    url = f"{_redis.rsplit('/', 1)[0]}/{next(_redis_numbers)}"
    with Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def database_url(_databases: Databases) -> Iterator[str]:
    """A database of the session's PostgreSQL with the contract's tables, all empty."""
    url = _databases.take()
    yield url
    _databases.release(url)


@pytest.fixture
def sites_dir(tmp_path: Path) -> Path:
    """An empty directory of generated sites."""
    folder = tmp_path / "sites"
    folder.mkdir()
    return folder


@pytest.fixture
def backend() -> str:
    """What the queue is of; tests that say otherwise are parametrised."""
    return "celery"


@pytest.fixture
def world(
    database_url: str, redis_url: str, sites_dir: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """The whole system that sitegenctl operates, empty, and configured in the environment."""
    kind = World
    if backend == "rq":
        # Here, because few tests need RQ.
        from tests.support.rq_world import RqWorld

        kind = RqWorld
    elif backend != "celery":
        pytest.fail(f"{backend} needs a World in tests/support, as RQ has one, and a line here")
    system = kind(database_url=database_url, redis_url=redis_url, sites_dir=sites_dir)
    system.configure(monkeypatch)
    yield system
    system.gate.touch()
    system.close()


@pytest.fixture
def rq(database_url: str, redis_url: str, sites_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RqWorld]:
    """The same system with an RQ queue."""
    # Here, because few tests need RQ.
    from tests.support.rq_world import RqWorld

    system = RqWorld(database_url=database_url, redis_url=redis_url, sites_dir=sites_dir)
    system.configure(monkeypatch)
    yield system
    system.gate.touch()
    system.close()


@pytest.fixture
def log(world: World) -> Log:
    """Writes the generation log."""
    return Log(world)
