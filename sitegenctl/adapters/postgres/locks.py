"""Advisory locks that outlive one statement: the maintenance lock and the run locks of the reference worker.

Each lock is held by an open transaction on its own connection. PostgreSQL releases it when this process dies, and a
pooler in transaction mode keeps the session for us until then. A session-level lock would stay on the pooler's
connection.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import asyncpg

from sitegenctl.adapters.postgres.connection import connect
from sitegenctl.adapters.postgres.errors import DRIVER_ERRORS
from sitegenctl.adapters.postgres.time_limits import time_limit

# The transaction is idle while it holds the lock, so the server's time limits must not end it. PostgreSQL before 17 has
# no transaction_timeout, and SET would refuse the unknown name.
_BEGIN = """
BEGIN;
SELECT set_config(name, '0', true) FROM pg_settings
 WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout');
"""

#: A run lock has two keys: this constant ("site" in ASCII) and the one of the order. A free lock proves that the run
#: which took it is dead.
LOCK_SPACE = 0x73697465

#: First key of the lock that all writes of one run share. The next run waits for it before it begins.
FENCE_SPACE = LOCK_SPACE + 1

_INT4_MAX = 2**31 - 1

#: SQL for ``run_lock_key`` of ``o.id``, unsigned as ``pg_locks`` shows it.
RUN_LOCK_KEY = f"CASE WHEN o.id <= {_INT4_MAX} THEN o.id::bigint ELSE o.id::bigint % {_INT4_MAX} + {2**31} END"

#: The second keys of the run locks that are held, unsigned as ``pg_locks`` shows them.
HELD_RUN_LOCKS = f"""
SELECT objid::bigint FROM pg_locks
 WHERE locktype = 'advisory' AND classid::bigint = {LOCK_SPACE} AND objsubid = 2 AND granted
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608 - constants of this module


def run_lock_key(order_id: int) -> int:
    """The second key, limited to 32 bits: the order id, or a negative number for a larger id."""
    return order_id if order_id <= _INT4_MAX else order_id % _INT4_MAX - 2**31


@asynccontextmanager
async def advisory_lock(dsn: str, *keys: int, timeout: float) -> AsyncIterator[asyncpg.Connection | None]:
    """Hold the lock with one or two keys; None if another session holds it.

    ``timeout`` is in seconds, for each statement. Raises ``SourceError``.
    """
    reconnect = partial(connect, dsn, timeout=timeout)
    connection, began = await reconnect(), time.monotonic()
    try:
        try:
            await connection.execute(_BEGIN)
            parameters = ", ".join(f"${number}" for number in range(1, len(keys) + 1))
            is_held = await connection.fetchval(f"SELECT pg_try_advisory_xact_lock({parameters})", *keys)
            if not is_held:
                await connection.execute("ROLLBACK")
        except DRIVER_ERRORS as exc:
            raise await time_limit(exc, time.monotonic() - began, reconnect, dsn) from exc
        yield connection if is_held else None
    finally:
        with suppress(*DRIVER_ERRORS):
            if connection.is_in_transaction():
                await connection.execute("ROLLBACK")
        with suppress(*DRIVER_ERRORS):
            await connection.close(timeout=1)
