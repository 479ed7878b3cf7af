"""SQL as somebody else sends it: over one connection to each database, which takes longer to make than to use."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import asyncpg

# What a connection says that was closed from the other side since it was used last.
_CLOSED = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    ConnectionError,
)

_known: dict[str, Sql] = {}


class Sql:
    """A connection to one database, in a loop of its own; whoever comes from another thread waits."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._turn = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._connection: asyncpg.Connection | None = None

    def __call__(self, *statements: tuple[Any, ...]) -> list[asyncpg.Record]:
        """Run these, each with its arguments, as on a new connection; returns the rows of the last."""
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
                # It is for connections that are made from now on.
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
