"""A real PgBouncer before the test's PostgreSQL."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.redis_servers import free_port
from tests.support.world import eventually

#: Debian has it in a directory that is on the PATH of root alone.
PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def pgbouncer(database_url: str, mode: str) -> Iterator[str]:
    """Run one with its defaults in this pool mode; yields the URL through it. Skips the test where there is none."""
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed")
    server, port = urlsplit(database_url), free_port()
    name = server.path[1:]
    # Not pytest's own temporary folder: the account that it runs as must be able to read it.
    with tempfile.TemporaryDirectory(prefix="sitegenctl-pooler-") as folder:
        Path(folder).chmod(0o711)
        settings = Path(folder) / "pgbouncer.ini"
        settings.write_text(
            "[databases]\n"
            f"{name} = host={server.hostname} port={server.port} dbname={name} user={server.username}"
            f" password={server.password}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n"
            + ("user = nobody\n" if os.geteuid() == 0 else "")
        )
        settings.chmod(0o644)
        process = subprocess.Popen([PGBOUNCER, "-q", str(settings)], stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: _accepts(port))
            yield server._replace(netloc=f"anybody:any@127.0.0.1:{port}").geturl()
        finally:
            process.kill()
            process.wait()


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
