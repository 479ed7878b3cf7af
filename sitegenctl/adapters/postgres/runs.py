"""Reading a window of ``site_generation_logs`` for the runs in it: everybody's rows, in the order of their ids.

The connection, its turns and its errors are ``postgres_orders.py``'s.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import asyncpg

from sitegenctl.adapters.postgres.log import ways_of_since
from sitegenctl.adapters.postgres.queries import bisection, log_time
from sitegenctl.domain.orders.run_reader import RunRow
from sitegenctl.domain.statistics.failure_reasons import LONGEST
from sitegenctl.domain.statistics.statistics import LogWindow

# As in ``postgres_log.py``: an age by the database's clock, a moment, or a time on the rows' own; without any of
# them today, as that clock has it. $4 is how much earlier than that rows are read.
_BEGINNING = """
SELECT localtimestamp AS until,
       coalesce(localtimestamp - $1::interval, $2::timestamptz::timestamp, $3::timestamp,
                date_trunc('day', localtimestamp)) AS since
"""

_IDS = f"""{bisection("$1::timestamp")}
SELECT (SELECT min(high) FROM bisection) AS first_id, coalesce(max(id), -1) AS last_id FROM site_generation_logs
"""  # noqa: S608 - constants of this package

# Of an ERROR no more is read than a reason is told from.
_ROWS = f"""
SELECT id, order_id, step, {log_time("created_at")} AS at,
       CASE WHEN step = 'ERROR' THEN left(message, {LONGEST * 4}) END AS message
  FROM site_generation_logs
 WHERE id BETWEEN $1 AND $2
 ORDER BY id LIMIT $3
"""  # noqa: S608 - constants of this package


async def log_window(
    connection: asyncpg.Connection, since: timedelta | datetime | None, *, lead: timedelta
) -> LogWindow:
    """Find as ``OrdersStore.log_window`` says; raises what the driver raises."""
    clock = await connection.fetchrow(_BEGINNING, *ways_of_since(since))
    ids = await connection.fetchrow(_IDS, clock["since"] - lead)
    return LogWindow(since=clock["since"], until=clock["until"], first_id=ids["first_id"], last_id=ids["last_id"])


async def read_run_rows(connection: asyncpg.Connection, first_id: int, last_id: int, *, limit: int) -> list[RunRow]:
    """Read as ``OrdersStore.read_run_rows`` says; raises what the driver raises."""
    return [
        RunRow(log_id=row["id"], order_id=row["order_id"], step=row["step"], at=row["at"], message=row["message"])
        for row in await connection.fetch(_ROWS, first_id, last_id, limit)
    ]
