"""Orders that somebody else has locked: who it is, as far as PostgreSQL tells, and how it is said.

How long a lock is waited for is set in each transaction, by ``Link`` in ``postgres_connection.py``.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

import asyncpg

from sitegenctl.adapters.postgres.connection import Link
from sitegenctl.domain.diagnosis.describe import describe_age

# A row's `xmax` is the transaction that locks it; whoever lives holds the lock on its own number. A row that
# several lock together names none of them: then nobody is found.
_HOLDERS = """
SELECT o.id, a.pid, a.application_name, a.usename, now() - a.xact_start AS open_for
  FROM site_orders o
  JOIN pg_locks l ON l.locktype = 'transactionid' AND l.granted AND l.transactionid = o.xmax
  JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE o.id = ANY($1::bigint[]) AND a.pid <> pg_backend_pid()
"""


async def who_locks(link: Link, order_ids: Collection[int]) -> dict[int, str]:
    """Say of each of these orders that it is locked, and by whom."""
    said = dict.fromkeys(order_ids, "it is locked by somebody else")
    rows = []
    with suppress(asyncpg.PostgresError):
        # Who it is helps, and that it is locked is known without.
        async with link.transaction() as connection:
            rows = await connection.fetch(_HOLDERS, list(order_ids))
    for row in rows:
        name = row["application_name"] or "a client without a name"
        said[row["id"]] = (
            f"it is locked by somebody else: pid {row['pid']} ({name}, as {row['usename']}), in a transaction"
            f" that has been open for {describe_age(row['open_for'])}"
        )
    return said
