"""Which of the server's time limits canceled a query or ended a connection, where it is set, and how to change it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from urllib.parse import unquote_plus, urlsplit

import asyncpg

from sitegenctl.adapters.postgres.errors import DRIVER_ERRORS, reported, translate
from sitegenctl.errors import SourceError, TimedOut, Unreachable

_CANCELED = "57014"  # also the code of a query that an administrator canceled
# Without a code, or with one of the driver, for which what the server sent before the end is lost.
_LOST = ("", "08003", "08006")
_LIMITS = {
    _CANCELED: "statement_timeout",
    "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout",
    "57P05": "idle_session_timeout",
}

# Parameters of the connection are stronger than what is set for a role or database, which is shown here.
_LIMIT = """
SELECT s.name, s.reset_val::bigint AS milliseconds, quote_ident(session_user) AS role,
       quote_ident(current_database()) AS database,
       coalesce(c.setrole, 0) <> 0 AS is_for_role, coalesce(c.setdatabase, 0) <> 0 AS is_for_database
  FROM pg_settings s
  LEFT JOIN LATERAL (
       SELECT setrole, setdatabase FROM pg_db_role_setting, unnest(setconfig) AS assignment
        WHERE split_part(assignment, '=', 1) = s.name
          AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user))
          AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
        ORDER BY setrole = 0, setdatabase = 0 LIMIT 1) c ON true
 WHERE s.name = ANY($1)
"""

# The limit may be too short even for these statements.
_ATTEMPTS = 10


async def time_limit(
    exc: BaseException, after: float, connect: Callable[[], Awaitable[asyncpg.Connection]], dsn: str
) -> SourceError:
    """The error for an error of the driver ``after`` seconds; it names the time limit if there is one."""
    exc, error = reported(exc), translate(exc)
    code = exc.sqlstate or "" if isinstance(exc, asyncpg.PostgresError) else ""
    if code in _LIMITS:
        names = [_LIMITS[code]]
    elif isinstance(error, Unreachable) and code in _LOST:
        names = [name for name in _LIMITS.values() if name != _LIMITS[_CANCELED]]
    else:
        return error
    rows = await _limits(names, connect)
    is_certain = code in _LIMITS and code != _CANCELED
    limits = [row for row in rows if row["milliseconds"] > 0 and (is_certain or row["milliseconds"] <= after * 1000)]
    if not limits and rows and code == _CANCELED:
        return SourceError("an administrator canceled the query", hint="run it again", source="database")
    if not limits:
        return error
    (name, limit, role, database, is_for_role, is_for_database), *_ = limits
    whole_role = f"{role} IN DATABASE {database}" if is_for_role and is_for_database else role
    origin, hint = "the server", f"give it more time: ALTER ROLE {whole_role} SET {name} = '30s'"
    if name in unquote_plus(urlsplit(dsn).query).lower():
        origin, hint = "DATABASE_URL", f"remove {name} from DATABASE_URL, or give it more time"
    elif is_for_role:
        origin = f"role {role}" + (f" in database {database}" if is_for_database else "")
    elif is_for_database:
        origin = f"database {database}"
    if code not in _LIMITS:
        return TimedOut(
            f"{error.message}; the {name} of {origin} is {limit} ms",
            hint=f"run it again; if it happens again, {hint}",
            source="database",
        )
    event = "canceled the query" if code == _CANCELED else "ended the connection"
    return TimedOut(f"the database {event} after {limit} ms, the {name} of {origin}", hint=hint, source="database")


async def _limits(
    names: Sequence[str], connect: Callable[[], Awaitable[asyncpg.Connection]]
) -> Sequence[asyncpg.Record]:
    """These limits in a new session, and what they are set for; none if they can't be read."""
    with suppress(SourceError, *DRIVER_ERRORS):
        connection = await connect()
        try:
            for _ in range(_ATTEMPTS):
                with suppress(asyncpg.QueryCanceledError):
                    if names == [_LIMITS[_CANCELED]]:
                        await connection.execute("ROLLBACK; BEGIN READ ONLY; SET LOCAL statement_timeout = 0")
                    rows: Sequence[asyncpg.Record] = await connection.fetch(_LIMIT, names)
                    return rows
        finally:
            with suppress(*DRIVER_ERRORS):
                await connection.close(timeout=1)
    return ()
