"""Connections to the orders database through asyncpg: URLs, time limits, errors.

asyncpg without SQLAlchemy, whose import alone takes longer than ``enqueue``.

Nothing relies on session state, because a pooler in transaction mode runs each transaction in another session: settings
are made inside the transaction, and every statement runs in one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.health.access import NEEDED_COLUMNS, hidden_rows
from sitegenctl.errors import SourceError, Unreachable, UsageProblem

#: What asyncpg raises if a server is unreachable, refuses or responds too late. 0.29 raises the internal error for a
#: connection that was cut between two calls.
DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

# Errors of a server that is starting, stopping or out of connections.
_UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidCatalogNameError,
)

# Message and hint by class of error; the first match counts.
_MESSAGES: tuple[tuple[tuple[type[BaseException], ...], str, str | None], ...] = (
    (
        (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError),
        "the database is not an orders database: {}",
        "check DATABASE_URL: does it name the CRM's database?",
    ),
    ((asyncpg.ReadOnlySQLTransactionError,), "the database refuses writes: it is read-only", None),
    (
        (asyncpg.LockNotAvailableError,),
        "a table is locked by another transaction",
        "a migration? list transactions: SELECT pid, application_name, query FROM pg_stat_activity ORDER BY xact_start",
    ),
    ((asyncpg.InsufficientPrivilegeError,), "the database refused: {}", "grant the role of DATABASE_URL what it lacks"),
    (
        (asyncpg.QueryCanceledError,),
        "the database canceled the query: {}",
        "is the server busy, or statement_timeout of the role too short? --timeout gives it more time",
    ),
    (
        (asyncpg.ProtocolViolationError,),
        "the pooler refused: {}",
        "check the log and settings of the pooler, and the options in DATABASE_URL",
    ),
    (
        (asyncpg.InvalidAuthorizationSpecificationError,),
        "the database refuses the login: {}",
        "check user and password in DATABASE_URL",
    ),
)

# The function of PostgreSQL that raises if `row_security = off` and a policy would hide rows.
_ROW_SECURITY_CHECK = "check_enable_rls"

#: The tables that sitegenctl reads.
TABLES = tuple(NEEDED_COLUMNS)

_HIDDEN = """
SELECT current_user::text AS role,
       array(SELECT t FROM unnest($1::text[]) t WHERE row_security_active(to_regclass(t))) AS tables
"""


async def connect(dsn: str, *, timeout: float) -> asyncpg.Connection:
    """Open a connection; ``timeout`` is in seconds, for connecting and for each statement."""
    return await asyncpg.connect(
        dsn,
        timeout=timeout,
        command_timeout=timeout,
        # The only startup parameter that poolers accept.
        server_settings={"application_name": "sitegenctl"},
        # Named prepared statements would be missing in the pooler's next session.
        statement_cache_size=0,
    )


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
            with translating():
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
            with translating():
                try:
                    await connection.execute(self._begin + also)
                    yield connection
                    await connection.execute("COMMIT")
                except BaseException as exc:
                    await self._roll_back(connection, exc)
                    if getattr(exc, "server_source_function", None) == _ROW_SECURITY_CHECK:
                        raise await _hidden_rows(connection) from exc
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


@contextmanager
def translating() -> Iterator[None]:
    """Raise ``SourceError`` for the driver's errors."""
    try:
        yield
    except DRIVER_ERRORS as exc:
        raise translate(exc) from exc


def translate(exc: BaseException) -> SourceError:
    """The most specific error for an error of the driver, in one line."""
    reason = "it did not respond in time" if isinstance(exc, TimeoutError) else str(exc) or type(exc).__name__
    reason = reason.splitlines()[0]
    for classes, message, hint in _MESSAGES:
        if isinstance(exc, classes):
            return SourceError(message.format(reason), hint=hint, source="database")
    if is_refusal(exc):
        return SourceError(f"the database refused: {reason}", source="database")
    return Unreachable(
        f"the database can't be reached: {reason}",
        hint=Remedy.run(Command.CONFIG_SHOW, advice="check that PostgreSQL is running and that DATABASE_URL is right"),
        source="database",
    )


def is_refusal(exc: BaseException | None) -> bool:
    """Whether the server is available and refused only this statement."""
    return isinstance(exc, asyncpg.PostgresError) and not isinstance(exc, _UNAVAILABLE)


def asyncpg_dsn(url: str) -> str:
    """The URL for asyncpg, from one that may be written for SQLAlchemy or psycopg2. Raises ``UsageProblem``."""
    parts = urlsplit(url)
    scheme = parts.scheme.partition("+")[0].replace("postgres", "postgresql").replace("postgresqlql", "postgresql")
    if scheme != "postgresql":
        raise UsageProblem(
            "DATABASE_URL is not a PostgreSQL URL", hint="use the form postgresql://user:password@host:5432/name"
        )
    # SQLAlchemy's asyncpg dialect calls libpq's `sslmode` `ssl`. asyncpg sends unknown options to the server as
    # settings, and the server refuses the connection.
    renamed = {"ssl": "sslmode"}
    query = [
        (renamed.get(key, key), value)
        for key, value in parse_qsl(parts.query)
        if key not in {"connect_timeout", "prepared_statement_cache_size", "client_encoding"}
    ]
    return urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(query), ""))
