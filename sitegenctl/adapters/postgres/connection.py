"""Connections to the orders database through asyncpg: hosts, time limits, transactions.

asyncpg without SQLAlchemy, whose import alone takes longer than ``enqueue``.

Nothing relies on session state, because a pooler in transaction mode runs each transaction in another session: settings
are made inside the transaction, and every statement runs in one.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from urllib.parse import parse_qsl, urlsplit

import asyncpg

from sitegenctl.adapters.postgres.access import read_access
from sitegenctl.adapters.postgres.errors import DRIVER_ERRORS, connection_error, no_host, translate
from sitegenctl.adapters.postgres.time_limits import time_limit
from sitegenctl.adapters.postgres.url import one_per_host
from sitegenctl.domain.health.access import why_not_readable, why_not_writable
from sitegenctl.errors import SourceError, Unreachable


async def connect(dsn: str, *, timeout: float) -> asyncpg.Connection:
    """Connect to the first host that accepts; ``timeout`` is in seconds, for connecting and for each statement.

    Raises ``SourceError``.
    """
    hosts, problems = one_per_host(dsn), []
    for host in hosts:
        try:
            return await asyncpg.connect(
                host,
                # A share for each host: one that hangs must not use it up.
                timeout=timeout / len(hosts),
                command_timeout=timeout,
                # The only startup parameter that poolers accept.
                server_settings={"application_name": "sitegenctl"},
                # Named prepared statements would be missing in the pooler's next session.
                statement_cache_size=0,
                **_system_certificates(host),
            )
        except DRIVER_ERRORS as exc:
            problems.append(connection_error(await _first_cause(exc, host), host))
            problems[-1].__cause__ = exc
            if not isinstance(problems[-1], Unreachable):
                break
    raise problems[0] if len(problems) == 1 else no_host(problems)


def _system_certificates(dsn: str) -> dict[str, ssl.SSLContext]:
    """The context for libpq's ``sslrootcert=system``, which asyncpg takes for a file."""
    is_system = ("sslrootcert", "system") in parse_qsl(urlsplit(dsn).query)
    return {"ssl": ssl.create_default_context()} if is_system else {}


async def _first_cause(exc: BaseException, dsn: str) -> BaseException:
    """The error for the first address of a host with several, for which asyncio raises a common error without code."""
    parts = urlsplit(dsn)
    if type(exc) is OSError and exc.errno is None and parts.hostname:
        try:
            (await asyncio.to_thread(socket.create_connection, (parts.hostname, parts.port or 5432), 1)).close()
        except OSError as cause:
            return cause
    return exc


class Database:
    """A connection that opens when first used and again after it was lost; it serves one transaction at a time.

    ``timeout`` is in seconds, for each statement. The lock timeout is shorter, so that the server reports a lock before
    the statement times out. With ``read_only``, PostgreSQL refuses every write.
    """

    def __init__(self, dsn: str, *, timeout: float, read_only: bool = False) -> None:
        self._dsn = dsn
        self._timeout = timeout
        self._read_only = read_only
        # One round trip. row_security = off raises an error where row-level security would hide rows.
        self._begin = (
            f"BEGIN {'READ ONLY' if read_only else ''}; SET LOCAL row_security = off;"
            f" SET LOCAL lock_timeout = {max(1, int(timeout * 800))};"
        )
        #: Held during a transaction.
        self.turn = asyncio.Lock()
        self._connection: asyncpg.Connection | None = None

    async def open(self) -> asyncpg.Connection:
        """Connect, unless connected; for the holder of ``turn``. Raises ``SourceError``."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._dsn, timeout=self._timeout)
        return self._connection

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            with suppress(*DRIVER_ERRORS):
                await connection.close(timeout=1)

    async def fetch(self, query: str, *parameters: object) -> list[asyncpg.Record]:
        """Read the rows of one statement, in a transaction of its own."""
        async with self.transaction() as connection:
            return list(await connection.fetch(query, *parameters))

    @asynccontextmanager
    async def transaction(self, also: str = "") -> AsyncIterator[asyncpg.Connection]:
        """Run a transaction after those in progress; ``also`` are statements to begin with, without result rows.

        Raises ``SourceError``, whose cause is the error of the driver.
        """
        async with self.turn:
            began = time.monotonic()
            try:
                connection = await self._begun(also)
                yield connection
                await connection.execute("COMMIT")
            except BaseException as exc:
                await self._roll_back(exc)
                if isinstance(exc, DRIVER_ERRORS):
                    raise await self._explained(exc, time.monotonic() - began) from exc
                raise

    async def _begun(self, also: str) -> asyncpg.Connection:
        """The connection, in a new transaction; a new connection where the server ended the one that was idle."""
        known = self._connection
        connection = await self.open()
        try:
            await connection.execute(self._begin + also)
        except DRIVER_ERRORS as exc:
            if connection is not known or not isinstance(translate(exc), Unreachable):
                raise
            await self._roll_back(exc)
            connection = await self.open()
            await connection.execute(self._begin + also)
        return connection

    async def _roll_back(self, why: BaseException) -> None:
        connection = self._connection
        if connection is None:
            return
        # After a timeout the state of the connection is unknown; after a refused statement it is usable.
        is_usable = not isinstance(why, DRIVER_ERRORS) or isinstance(why, asyncpg.PostgresError)
        if is_usable and not connection.is_closed():
            with suppress(*DRIVER_ERRORS):
                await connection.execute("ROLLBACK")
                return
        if not connection.is_closed():
            connection.terminate()
        self._connection = None

    async def _explained(self, exc: BaseException, after: float) -> SourceError:
        """The most specific error for an error of the driver ``after`` seconds in a transaction, which has ended."""
        if isinstance(exc, asyncpg.InsufficientPrivilegeError):
            return await self._missing_grants() or translate(exc)
        return await time_limit(exc, after, partial(connect, self._dsn, timeout=self._timeout), self._dsn)

    async def _missing_grants(self) -> SourceError | None:
        """What the role lacks, as doctor reports it; None where it lacks nothing that sitegenctl needs."""
        with suppress(SourceError, *DRIVER_ERRORS):
            connection = await self.open()
            async with connection.transaction(readonly=True):
                access = await read_access(connection)
            may_write = access.is_authoritative and not self._read_only
            obstacle = why_not_writable(access) if may_write else why_not_readable(access)
            # Without USAGE on the schema, its tables seem to be missing.
            if obstacle is not None and not obstacle.is_schema:
                return SourceError(obstacle.message, hint=obstacle.hint, source="database")
        return None
