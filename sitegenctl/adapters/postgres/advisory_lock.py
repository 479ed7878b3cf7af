"""Advisory locks that outlive one statement: each in an open transaction on a connection of its own.

Such a lock ends with its transaction. When this process dies, PostgreSQL releases it at once, and a pooler in
transaction mode keeps the session for us until then. A lock of the session would stay behind on the pooler's
connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg

from sitegenctl.adapters.postgres.connection import DRIVER_ERRORS, connect, translating
from sitegenctl.errors import SourceError

# The transaction is idle for as long as the lock is held: the server's time limits must not end it. Releases before 17
# have no transaction_timeout, and SET refuses a name that it doesn't know.
_BEGIN = """
BEGIN;
SELECT set_config(name, '0', true) FROM pg_settings
 WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout');
"""

# A key that no other program is likely to lock: the letters of "sitegen".
_MAINTENANCE = int.from_bytes(b"sitegen")


@asynccontextmanager
async def advisory_lock(dsn: str, *keys: int, timeout: float) -> AsyncIterator[asyncpg.Connection | None]:
    """Hold the lock of one or two keys; None while another session has it.

    ``timeout`` is in seconds, for each statement. Raises ``SourceError``.
    """
    with translating():
        connection = await connect(dsn, timeout=timeout)
    try:
        with translating():
            await connection.execute(_BEGIN)
            parameters = ", ".join(f"${number}" for number in range(1, len(keys) + 1))
            is_held = await connection.fetchval(f"SELECT pg_try_advisory_xact_lock({parameters})", *keys)
            if not is_held:
                await connection.execute("ROLLBACK")
        yield connection if is_held else None
    finally:
        with suppress(*DRIVER_ERRORS):
            if connection.is_in_transaction():
                await connection.execute("ROLLBACK")
        with suppress(*DRIVER_ERRORS):
            await connection.close(timeout=1)


class MaintenanceLock:
    """The lock that one maintenance run holds at a time; ``timeout`` is in seconds, for each statement."""

    def __init__(self, dsn: str, *, timeout: float) -> None:
        self._dsn = dsn
        self._timeout = timeout
        # One question at a time: orders are claimed over two connections at once.
        self._turn = asyncio.Lock()
        self._connection: asyncpg.Connection | None = None

    @asynccontextmanager
    async def held(self) -> AsyncIterator[bool]:
        """Hold the lock; False when another run has it."""
        async with advisory_lock(self._dsn, _MAINTENANCE, timeout=self._timeout) as connection:
            self._connection = connection
            try:
                yield connection is not None
            finally:
                self._connection = None

    async def require(self) -> None:
        """Raise ``SourceError`` where the lock was taken here and is lost; nothing where it was not taken."""
        connection = self._connection
        if connection is None:
            return
        lost: BaseException | None = None
        try:
            async with self._turn:
                await connection.execute("SELECT 1")
        except DRIVER_ERRORS as exc:
            lost = exc
        if lost is not None or not connection.is_in_transaction():
            raise SourceError(
                "the maintenance lock is lost: its connection to the database ended, and another run may have begun",
                hint="run it again; if that goes on, look at what ends idle connections between here and the database",
                source="database",
            ) from lost
