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
from urllib.parse import parse_qsl, unquote, urlsplit

import asyncpg

from sitegenctl.adapters.postgres.errors import DRIVER_ERRORS, connection_error, no_host, translating
from sitegenctl.adapters.postgres.url import one_per_host
from sitegenctl.domain.health.access import NEEDED_COLUMNS, hidden_rows
from sitegenctl.errors import SourceError, TimedOut, Unreachable

# The function of PostgreSQL that raises if `row_security = off` and a policy would hide rows.
_ROW_SECURITY_CHECK = "check_enable_rls"

#: The tables that sitegenctl reads.
TABLES = tuple(NEEDED_COLUMNS)

# For a canceled query: its role, and the time limit of the server in milliseconds, 0 for none.
_TIME_LIMIT = """
SELECT current_user::text AS role, reset_val::int AS milliseconds FROM pg_settings WHERE name = 'statement_timeout'
"""

_HIDDEN = """
SELECT current_user::text AS role,
       array(SELECT t FROM unnest($1::text[]) t WHERE row_security_active(to_regclass(t))) AS tables
"""


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
            connection = await self.open()
            began = time.monotonic()
            with translating():
                try:
                    await connection.execute(self._begin + also)
                    yield connection
                    await connection.execute("COMMIT")
                except BaseException as exc:
                    await self._roll_back(connection, exc)
                    if getattr(exc, "server_source_function", None) == _ROW_SECURITY_CHECK:
                        raise await _hidden_rows(connection) from exc
                    if isinstance(exc, asyncpg.QueryCanceledError):
                        raise await _canceled(connection, time.monotonic() - began, self._dsn) from exc
                    raise

    async def _roll_back(self, connection: asyncpg.Connection, why: BaseException) -> None:
        # After a timeout the state of the connection is unknown; after a refused statement it is usable.
        is_usable = not isinstance(why, DRIVER_ERRORS) or isinstance(why, asyncpg.PostgresError)
        if is_usable and not connection.is_closed():
            with suppress(*DRIVER_ERRORS):
                await connection.execute("ROLLBACK")
                return
        if not connection.is_closed():
            connection.terminate()
        self._connection = None


async def _hidden_rows(connection: asyncpg.Connection) -> SourceError:
    """The error for tables that hide rows from a role; for a connection outside a transaction."""
    role, tables = "of DATABASE_URL", ()
    with suppress(*DRIVER_ERRORS):
        async with connection.transaction(readonly=True):
            row = await connection.fetchrow(_HIDDEN, list(TABLES))
        role, tables = row["role"], tuple(row["tables"])
    obstacle = hidden_rows(role, tables)
    return SourceError(obstacle.message, hint=obstacle.hint, source="database")


async def _canceled(connection: asyncpg.Connection, after: float, dsn: str) -> SourceError:
    """The error for a canceled query; the code is the same for a time limit and an administrator."""
    with translating():
        async with connection.transaction(readonly=True):
            # The limit may be too short for this query, too.
            await connection.execute("SET LOCAL statement_timeout = 0")
            row = await connection.fetchrow(_TIME_LIMIT)
    limit, role = row["milliseconds"], row["role"]
    if limit and after * 1000 >= limit:
        # What the URL sets is stronger than what is set for the role.
        in_url = "statement_timeout" in unquote(urlsplit(dsn).query)
        return TimedOut(
            f"the database canceled the query after {limit} ms, the statement_timeout of "
            + ("DATABASE_URL" if in_url else f"role {role}"),
            hint="remove statement_timeout from DATABASE_URL, or give it more time"
            if in_url
            else f"give it more time: ALTER ROLE {role} SET statement_timeout = '30s'",
            source="database",
        )
    return SourceError("an administrator canceled the query", hint="run it again", source="database")
