"""Reading ``site_generation_logs``.

Its only index besides the primary key is on ``order_id``. Ordering by ``id + 0`` keeps the planner from walking the
primary key of the whole table in the hope of meeting the order's rows soon.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from sitegenctl.adapters.postgres.queries import log_age, log_time
from sitegenctl.domain.orders.order import LogRow
from sitegenctl.domain.orders.run_reader import RunRow
from sitegenctl.domain.statistics.statistics import LONGEST, LogWindow

_COLUMNS = f"""id, order_id, step, message, status, {log_time("created_at")} AS created_at, details::text AS details,
       localtimestamp - {log_time("created_at")} AS age"""

# At most one of $3 to $5 is given, see `_since_parameters`.
_WANTED = """id > $2
   AND ($6::text[] IS NULL OR lower(coalesce(status, 'info')) = ANY($6::text[]))
   AND (num_nonnulls($3::interval, $4::timestamptz, $5::timestamp) = 0
        OR created_at >= coalesce(localtimestamp - $3::interval, $4::timestamptz::timestamp, $5::timestamp))"""

_OLDEST = f"""
SELECT {_COLUMNS} FROM site_generation_logs
 WHERE order_id = ANY($1::bigint[]) AND {_WANTED}
 ORDER BY id + 0 LIMIT $7
"""  # noqa: S608 - constants of this module

# Order by order, so that PostgreSQL keeps no more rows of any order than are requested.
_NEWEST = f"""
SELECT l.* FROM unnest($1::bigint[]) AS o(wanted) CROSS JOIN LATERAL (
       SELECT {_COLUMNS} FROM site_generation_logs
        WHERE order_id = o.wanted AND {_WANTED}
        ORDER BY id + 0 DESC LIMIT $7) l
 ORDER BY l.id
"""  # noqa: S608 - constants of this module


def bisection(since: str) -> str:
    """The beginning of a query that finds the first id of the log since a timestamp, as ``min(high)``.

    There is no index on ``created_at``, and most log rows are of delivered orders. But ids and times grow together:
    some 25 steps of bisection find the id, and only rows from there on are read.
    """
    return f"""
WITH RECURSIVE bisection(low, high) AS (
    SELECT coalesce(min(id), 0)::bigint, coalesce(max(id), -1)::bigint + 1 FROM site_generation_logs
    UNION ALL
    SELECT CASE WHEN probe.in_window THEN low ELSE middle + 1 END, CASE WHEN probe.in_window THEN middle ELSE high END
      FROM bisection,
           LATERAL (SELECT (low + high) / 2 AS middle) m,
           LATERAL (SELECT coalesce((SELECT created_at >= {since} FROM site_generation_logs
                                      WHERE id >= middle ORDER BY id LIMIT 1), true) AS in_window) probe
     WHERE low < high
)
"""  # noqa: S608 - constants of this package


_WINDOW = bisection("localtimestamp - $1::interval")
_IN_WINDOW = "id >= (SELECT min(high) FROM bisection) AND created_at >= localtimestamp - $1::interval"

#: How many runs ended within the window $1, by outcome.
COUNT_RUNS = f"""{_WINDOW}
SELECT count(*) FILTER (WHERE step = 'SUCCESS') AS succeeded, count(*) FILTER (WHERE step = 'ERROR') AS failed,
       count(*) FILTER (WHERE step = 'SKIP') AS skipped
  FROM site_generation_logs
 WHERE {_IN_WINDOW}
"""  # noqa: S608 - constants of this module

#: The newest $3 rows within the window $1 with an id above $2.
RECENT_STEPS = f"""{_WINDOW}
SELECT id, order_id, step, {log_age("created_at")} AS age
  FROM site_generation_logs
 WHERE {_IN_WINDOW} AND id > $2
 ORDER BY id DESC LIMIT $3
"""  # noqa: S608 - constants of this module

# $1 to $3 as in `_since_parameters`; without any of them, the beginning of the day.
_BEGINNING = """
SELECT localtimestamp AS until,
       coalesce(localtimestamp - $1::interval, $2::timestamptz::timestamp, $3::timestamp,
                date_trunc('day', localtimestamp)) AS since
"""

_IDS = f"""{bisection("$1::timestamp")}
SELECT (SELECT min(high) FROM bisection) AS first_id, coalesce(max(id), -1) AS last_id FROM site_generation_logs
"""  # noqa: S608 - constants of this package

# Only the part of an ERROR that the failure reason is derived from.
_RUN_ROWS = f"""
SELECT id, order_id, step, {log_time("created_at")} AS at,
       CASE WHEN step = 'ERROR' THEN left(message, {LONGEST * 4}) END AS message
  FROM site_generation_logs
 WHERE id BETWEEN $1 AND $2
 ORDER BY id LIMIT $3
"""  # noqa: S608 - constants of this package


async def read_log(
    connection: asyncpg.Connection,
    order_ids: Collection[int],
    *,
    after_id: int,
    last: int | None,
    since: timedelta | datetime | None,
    levels: Collection[str] | None,
    limit: int | None,
) -> list[LogRow]:
    """See ``OrdersStore.read_log``; raises the driver's errors."""
    statement, number = (_OLDEST, limit) if last is None else (_NEWEST, last)
    rows = await connection.fetch(
        statement,
        list(dict.fromkeys(order_ids)),
        after_id,
        *_since_parameters(since),
        None if levels is None else list(levels),
        number,
    )
    return [
        LogRow(
            log_id=row["id"],
            order_id=row["order_id"],
            step=row["step"],
            message=row["message"],
            status=row["status"] or "info",
            created_at=row["created_at"],
            age=row["age"],
            details=_details(row["details"]),
        )
        for row in rows
    ]


async def log_window(
    connection: asyncpg.Connection, since: timedelta | datetime | None, *, lead: timedelta
) -> LogWindow:
    """See ``OrdersStore.log_window``; raises the driver's errors."""
    clock = await connection.fetchrow(_BEGINNING, *_since_parameters(since))
    ids = await connection.fetchrow(_IDS, clock["since"] - lead)
    return LogWindow(since=clock["since"], until=clock["until"], first_id=ids["first_id"], last_id=ids["last_id"])


async def read_run_rows(connection: asyncpg.Connection, first_id: int, last_id: int, *, limit: int) -> list[RunRow]:
    """See ``OrdersStore.read_run_rows``; raises the driver's errors."""
    return [
        RunRow(log_id=row["id"], order_id=row["order_id"], step=row["step"], at=row["at"], message=row["message"])
        for row in await connection.fetch(_RUN_ROWS, first_id, last_id, limit)
    ]


def _since_parameters(since: timedelta | datetime | None) -> Sequence[timedelta | datetime | None]:
    """An age by the database's clock, a moment (with zone), and a time on the clock of the log rows; one is set."""
    if isinstance(since, timedelta):
        return since, None, None
    if since is None or since.tzinfo is None:
        return None, None, since
    return None, since, None


def _details(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        # PostgreSQL accepts json that Python does not, such as very deep nesting: show it as text.
        return text
