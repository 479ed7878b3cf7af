"""Databases with the empty contract tables, and one connection to each.

Creating one takes a hundred times as long as deleting a few rows, so it is used again unless its schema has changed.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from sqlalchemy.ext.asyncio import create_async_engine

from sitegenctl.adapters.postgres.schema import metadata
from sitegenctl.adapters.postgres.url import asyncpg_dsn

# Errors of a connection that the server has closed since it was used last.
_CLOSED = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    ConnectionError,
)

_known: dict[str, Sql] = {}


class Sql:
    """A connection to one database, in a loop of its own; usable from any thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._turn = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._connection: asyncpg.Connection | None = None

    def __call__(self, *statements: tuple[Any, ...]) -> list[asyncpg.Record]:
        """Run statements, each with its arguments, as on a new connection; returns the rows of the last."""
        with self._turn:
            return self._loop.run_until_complete(self._run(statements))

    def close(self) -> None:
        """Close the connection, for good."""
        with self._turn:
            if self._connection is not None and not self._connection.is_closed():
                self._loop.run_until_complete(self._connection.close(timeout=5))
            self._loop.close()

    async def _run(self, statements: tuple[tuple[Any, ...], ...]) -> list[asyncpg.Record]:
        connection = await self._ready()
        rows: list[asyncpg.Record] = []
        for statement, *arguments in statements:
            rows = await connection.fetch(statement, *arguments)
            if "ALTER DATABASE" in statement or "ALTER ROLE" in statement:
                # It takes effect on new connections.
                await connection.close()
                connection = await self._ready()
        return rows

    async def _ready(self) -> asyncpg.Connection:
        connection = self._connection
        if connection is not None and not connection.is_closed():
            try:
                await connection.reset()
                return connection
            except _CLOSED:
                connection.terminate()
        # Without prepared statements: tests alter types and tables.
        self._connection = await asyncpg.connect(self._url, statement_cache_size=0)
        return self._connection


def sql(url: str) -> Sql:
    """The connection to this database."""
    if url not in _known:
        _known[url] = Sql(url)
    return _known[url]


def forget(url: str) -> None:
    """Close the connection to this database, if there is one."""
    if url in _known:
        _known.pop(url).close()


def forget_all() -> None:
    """Close all connections."""
    for url in list(_known):
        forget(url)


_TEMPLATE = "contract"

# Detects every change but that of rows: each row of a catalog carries the number of the transaction that wrote it.
# TRUNCATE changes none of the columns of pg_class that are read here.
_CATALOGS = (
    *("pg_attrdef", "pg_attribute", "pg_cast", "pg_collation", "pg_constraint", "pg_default_acl", "pg_enum"),
    *("pg_event_trigger", "pg_extension", "pg_index", "pg_inherits", "pg_language", "pg_namespace", "pg_operator"),
    *("pg_policy", "pg_proc", "pg_publication", "pg_rewrite", "pg_sequence", "pg_trigger", "pg_type"),
)
_STATE = f"""
SELECT concat_ws(
    ' ',
    {", ".join(f"(SELECT (count(*), sum(xmin::text::bigint)) FROM {catalog})" for catalog in _CATALOGS)},
    (SELECT md5(string_agg((relname, relnamespace, reltype, relowner, relkind, relpersistence, relnatts, relchecks,
                            relhasindex, relhasrules, relhastriggers, relrowsecurity, relacl, reloptions)::text,
                           ' ' ORDER BY oid)) FROM pg_class),
    (SELECT (datacl, datconnlimit, datallowconn, datdba) FROM pg_database WHERE datname = current_database()),
    (SELECT count(*) FROM pg_db_role_setting JOIN pg_database ON setdatabase = oid WHERE datname = current_database())
)"""  # noqa: S608 - of nothing but the names above
_LEAVE = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()"""
_SIZE = "SELECT sum(pg_table_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
# Bytes of dead rows that would slow tests down.
_LARGE = 2_000_000
_TRUNCATE = f"TRUNCATE {', '.join(metadata.tables)} CASCADE"
# Referring tables first. TRUNCATE creates new files for all, which takes ten times as long.
_DELETE = [(f"DELETE FROM {table.name}",) for table in reversed(metadata.sorted_tables)]  # noqa: S608 - as above
_RESTART = "SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence"


def query(url: str, statement: str, *arguments: Any) -> list[asyncpg.Record]:
    """Run one statement on a connection of its own, and return its rows."""

    async def run() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    return asyncio.run(run())


async def create_schema(url: str) -> None:
    """Create the contract's tables."""
    engine = create_async_engine(asyncpg_dsn(url).replace("postgresql:", "postgresql+asyncpg:", 1))
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    await engine.dispose()


class Databases:
    """A pool of databases of one server."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._numbers = itertools.count(1)
        self._states: dict[str, str] = {}
        self._free: list[str] = []
        query(server, f"CREATE DATABASE {_TEMPLATE}")
        asyncio.run(create_schema(_in_database(server, _TEMPLATE)))

    def take(self) -> str:
        """The URL of a database that no other test uses."""
        if self._free:
            return self._free.pop()
        name = f"test_{next(self._numbers)}"
        query(self._server, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        url = _in_database(self._server, name)
        self._states[url] = sql(url)((_STATE,))[0][0]
        return url

    def release(self, url: str) -> None:
        """Empty a database for the next test, or drop it."""
        if self._empty(url):
            self._free.append(url)
            return
        forget(url)
        name = urlsplit(url).path[1:]
        query(self._server, f"DROP DATABASE {name} WITH (FORCE)")

    def _empty(self, url: str) -> bool:
        """Empty the tables; False if more than their rows has changed."""
        try:
            # A connection that is still open must not write to the next test's database.
            (state,) = sql(url)((_LEAVE,), (_STATE,))
            if state[0] != self._states[url]:
                return False
            ((size,),) = sql(url)((_SIZE,))
            empty = [(_TRUNCATE,)] if size > _LARGE else _DELETE
            sql(url)(*empty, (_RESTART,))
        except asyncpg.PostgresError:  # it takes no connections, or no writes
            return False
        return True


def _in_database(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()
