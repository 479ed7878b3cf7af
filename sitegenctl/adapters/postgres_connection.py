"""Connections to the orders database through asyncpg: URLs, time limits, and its errors in our words.

asyncpg without SQLAlchemy, because every command pays for its imports (SQLAlchemy alone takes longer than the
whole of ``enqueue``).
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

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


async def connect(dsn: str, *, timeout: float, read_only: bool = False) -> asyncpg.Connection:
    """Open a connection that answers within ``timeout`` seconds; a read-only one is refused every write.

    A lock is waited for a little less long, so that the server can say that it was a lock.
    """
    settings = {"application_name": "sitegenctl"}
    if read_only:
        settings["default_transaction_read_only"] = "on"
    lock_timeout = {"lock_timeout": str(max(1, int(timeout * 800)))}  # in milliseconds
    try:
        return await _connect(dsn, timeout, settings | lock_timeout)
    except asyncpg.ProtocolViolationError:
        # A pooler refuses connections with settings that it doesn't know. Without this one we just know less.
        return await _connect(dsn, timeout, settings)


async def _connect(dsn: str, timeout: float, settings: Mapping[str, str]) -> asyncpg.Connection:
    return await asyncpg.connect(
        dsn,
        timeout=timeout,
        command_timeout=timeout,
        server_settings=dict(settings),
        # The pooler of a deployment may not keep prepared statements between transactions.
        statement_cache_size=0,
    )


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
        hint="is PostgreSQL up, and DATABASE_URL right? (sitegenctl config show)",
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
