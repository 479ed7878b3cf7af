"""Reading ``site_generation_logs``: the SQL, and rows made of what it returns.

The connection, its turns and its errors are ``postgres_orders.py``'s. The table's one index besides its key is
on ``order_id``, and every statement here is meant for it: ordering by ``id + 0`` keeps the planner from
walking the whole table along its key in the hope of meeting the order's rows soon.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from sitegenctl.adapters.postgres.queries import log_time
from sitegenctl.domain.orders.order import LogRow

_COLUMNS = f"""id, order_id, step, message, status, {log_time("created_at")} AS created_at, details::text AS details,
       localtimestamp - {log_time("created_at")} AS age"""

# $3 to $5 are the three ways of saying since when, at most one of them given: an age by the database's clock,
# a moment (turned into the session's zone, as `now()` was when the row was written), a time on the rows' clock.
_WANTED = """id > $2
   AND ($6::text[] IS NULL OR lower(coalesce(status, 'info')) = ANY($6::text[]))
   AND (num_nonnulls($3::interval, $4::timestamptz, $5::timestamp) = 0
        OR created_at >= coalesce(localtimestamp - $3::interval, $4::timestamptz::timestamp, $5::timestamp))"""

_OLDEST = f"""
SELECT {_COLUMNS} FROM site_generation_logs
 WHERE order_id = ANY($1::bigint[]) AND {_WANTED}
 ORDER BY id + 0 LIMIT $7
"""  # noqa: S608 - constants of this module

# Order by order, so that no more than the rows asked for are kept of any.
_NEWEST = f"""
SELECT l.* FROM unnest($1::bigint[]) AS o(wanted) CROSS JOIN LATERAL (
       SELECT {_COLUMNS} FROM site_generation_logs
        WHERE order_id = o.wanted AND {_WANTED}
        ORDER BY id + 0 DESC LIMIT $7) l
 ORDER BY l.id
"""  # noqa: S608 - constants of this module


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
    """Read as ``OrdersStore.read_log`` says; raises what the driver raises."""
    statement, number = (_OLDEST, limit) if last is None else (_NEWEST, last)
    rows = await connection.fetch(
        statement,
        list(dict.fromkeys(order_ids)),
        after_id,
        *ways_of_since(since),
        None if levels is None else list(levels),
        number,
    )
    return [_row(row) for row in rows]


def ways_of_since(since: timedelta | datetime | None) -> Sequence[timedelta | datetime | None]:
    """The parameters for an age by the database's clock, for a moment, and for a time on the rows' own clock."""
    if isinstance(since, timedelta):
        return since, None, None
    if since is None or since.tzinfo is None:
        return None, None, since
    return None, since, None


def _row(row: asyncpg.Record) -> LogRow:
    return LogRow(
        log_id=row["id"],
        order_id=row["order_id"],
        step=row["step"],
        message=row["message"],
        status=row["status"] or "info",
        created_at=row["created_at"],
        age=row["age"],
        details=_details(row["details"]),
    )


def _details(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        # PostgreSQL takes what Python doesn't, such as nesting without end: then it is shown as it stands.
        return text
