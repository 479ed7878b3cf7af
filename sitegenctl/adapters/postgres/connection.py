"""Connections to the orders database through asyncpg: URLs, time limits, and its errors in our words.

asyncpg without SQLAlchemy, because every command pays for its imports (SQLAlchemy alone takes longer than the
whole of ``enqueue``).

Nothing here relies on the state of a session: a pooler in transaction mode hands every transaction to another one.
Settings are made inside the transaction, and every statement runs in one, because even an unnamed prepared statement
is gone when its transaction ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.health.access import NEEDED_COLUMNS, hidden_rows
from sitegenctl.errors import SourceError, UsageProblem

#: Everything that asyncpg lets out when a server is away, refuses or answers too late. The internal error is what
#: 0.29 raises for a connection that was cut between two calls.
DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

# The server's own ways of saying that it is away, starting, stopping or full.
_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidCatalogNameError,
)


# The function of PostgreSQL that raises where `row_security = off` would have to hide rows.
_ROW_SECURITY_CHECK = "check_enable_rls"

#: Tables of the contract that the console reads.
TABLES = tuple(NEEDED_COLUMNS)

_HIDDEN = """
SELECT current_user::text AS role,
       array(SELECT t FROM unnest($1::text[]) t WHERE row_security_active(to_regclass(t))) AS tables
"""


async def connect(dsn: str, *, timeout: float) -> asyncpg.Connection:
    """Open a connection that answers within ``timeout`` seconds."""
    return await asyncpg.connect(
        dsn,
        timeout=timeout,
        command_timeout=timeout,
        # The one setting that poolers take at the start. They refuse connections that bring others.
        server_settings={"application_name": "sitegenctl"},
        # Only unnamed prepared statements: a pooler hands the next transaction to another session.
        statement_cache_size=0,
    )


class Link:
    """One connection, opened when it is first used and again when it was lost. It serves one transaction at a time.

    ``timeout`` is in seconds, for each statement. A lock is waited for a little less long, so that the server can say
    that it was a lock. PostgreSQL refuses every write of a ``read_only`` one.
    """

    def __init__(self, dsn: str, *, timeout: float, read_only: bool = False) -> None:
        self._dsn = dsn
        self._timeout = timeout
        # One query, so that it costs one round trip. Without row_security = off, row-level security would hide rows.
        self._begin = (
            f"BEGIN {'READ ONLY' if read_only else ''}; SET LOCAL row_security = off;"
            f" SET LOCAL lock_timeout = {max(1, int(timeout * 800))};"
        )
        self._turn = asyncio.Lock()
        self._connection: asyncpg.Connection | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a transaction is under way."""
        return self._turn.locked()

    async def open(self) -> None:
        """Connect, if there is no connection."""
        async with self._turn:
            await self._opened()

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            with suppress(*DRIVER_ERRORS):
                await connection.close(timeout=1)

    @asynccontextmanager
    async def transaction(self, also: str = "") -> AsyncIterator[asyncpg.Connection]:
        """A transaction when it is this one's turn; ``also`` are statements without rows for its beginning.

        Raises what the driver raises, and ``SourceError`` where row-level security would hide rows.
        """
        async with self._turn:
            connection = await self._opened()
            try:
                await connection.execute(self._begin + also)
                yield connection
                await connection.execute("COMMIT")
            except BaseException as exc:
                await self._roll_back(connection, exc)
                if getattr(exc, "server_source_function", None) == _ROW_SECURITY_CHECK:
                    raise await _hidden_rows(connection) from exc
                raise

    async def _opened(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._dsn, timeout=self._timeout)
        return self._connection

    async def _roll_back(self, connection: asyncpg.Connection, why: BaseException) -> None:
        # After an answer that never came the connection is in an unknown state. After a mere refusal it is as good
        # as before.
        is_usable = not isinstance(why, DRIVER_ERRORS) or isinstance(why, asyncpg.PostgresError)
        if is_usable and not connection.is_closed():
            with suppress(*DRIVER_ERRORS):
                await connection.execute("ROLLBACK")
                return
        if not connection.is_closed():
            connection.terminate()
        self._connection = None


async def _hidden_rows(connection: asyncpg.Connection) -> SourceError:
    """Say which tables hide rows, and from which role; for a connection outside a transaction."""
    role, tables = "of DATABASE_URL", ()
    with suppress(*DRIVER_ERRORS):
        async with connection.transaction(readonly=True):
            row = await connection.fetchrow(_HIDDEN, list(TABLES))
        role, tables = row["role"], tuple(row["tables"])
    obstacle = hidden_rows(role, tables)
    return SourceError(obstacle.message, hint=obstacle.hint, source="database")


@contextmanager
def translating() -> Iterator[None]:
    """Raise ``SourceError`` for whatever the driver raises."""
    try:
        yield
    except DRIVER_ERRORS as exc:
        raise translate(exc) from exc


def translate(exc: BaseException) -> SourceError:
    """Say in one line what went wrong with the database."""
    if isinstance(exc, asyncpg.UndefinedTableError | asyncpg.UndefinedColumnError):
        return SourceError(
            f"the database is not an orders database: {exc}",
            hint="check DATABASE_URL: does it name the CRM's database?",
            source="database",
        )
    if isinstance(exc, asyncpg.ReadOnlySQLTransactionError):
        return SourceError("the database refuses writes: it is read-only", source="database")
    if isinstance(exc, asyncpg.LockNotAvailableError):
        return SourceError(
            "something in the database is locked by somebody else",
            hint="a migration? SELECT pid, application_name, query FROM pg_stat_activity ORDER BY xact_start tells who",
            source="database",
        )
    if isinstance(exc, asyncpg.InsufficientPrivilegeError):
        return SourceError(
            f"the database refused: {str(exc).splitlines()[0]}",
            hint="grant the role of DATABASE_URL what it lacks",
            source="database",
        )
    if isinstance(exc, asyncpg.QueryCanceledError):
        return SourceError(
            f"the database gave up: {str(exc).splitlines()[0]}",
            hint="is the server busy, or statement_timeout of the role too short? --timeout gives it more time",
            source="database",
        )
    if isinstance(exc, asyncpg.ProtocolViolationError):
        return SourceError(
            f"the pooler before the database refused: {str(exc).splitlines()[0]}",
            hint="look at the pooler's log and settings, and at what DATABASE_URL asks for",
            source="database",
        )
    reason = "it did not answer in time" if isinstance(exc, TimeoutError) else str(exc) or type(exc).__name__
    first_line = reason.splitlines()[0]
    if isinstance(exc, asyncpg.InvalidAuthorizationSpecificationError):
        return SourceError(
            f"the database refuses the login: {first_line}",
            hint="check user and password in DATABASE_URL",
            source="database",
        )
    if is_refusal(exc):
        return SourceError(f"the database refused: {first_line}", source="database")
    return SourceError(
        f"the database can't be reached: {first_line}",
        hint=Remedy.run(Command.CONFIG_SHOW, advice="check that PostgreSQL is running and that DATABASE_URL is right"),
        source="database",
    )


def is_refusal(exc: BaseException | None) -> bool:
    """Whether the server is there and well, and won't do just this."""
    return isinstance(exc, asyncpg.PostgresError) and not isinstance(exc, _AWAY)


def asyncpg_dsn(url: str) -> str:
    """The URL as asyncpg wants it, from one that SQLAlchemy or psycopg2 would take too."""
    parts = urlsplit(url)
    scheme = parts.scheme.partition("+")[0].replace("postgres", "postgresql").replace("postgresqlql", "postgresql")
    if scheme != "postgresql":
        raise UsageProblem(
            "DATABASE_URL is not a PostgreSQL URL", hint="it looks like postgresql://user:password@host:5432/name"
        )
    # SQLAlchemy's asyncpg dialect says `ssl` where libpq says `sslmode`; asyncpg would hand anything that it
    # doesn't know to the server as a setting, and the server would refuse the connection.
    renamed = {"ssl": "sslmode"}
    query = [
        (renamed.get(key, key), value)
        for key, value in parse_qsl(parts.query)
        if key not in {"connect_timeout", "prepared_statement_cache_size", "client_encoding"}
    ]
    return urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(query), ""))
