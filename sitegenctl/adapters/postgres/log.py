"""Reading ``site_generation_logs``.

Its only index besides the primary key is on ``order_id``. Ordering by ``id + 0`` keeps the planner from walking the
primary key of the whole table in the hope of meeting the order's rows soon.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sitegenctl.adapters.postgres.queries import UPDATED, is_repeated, log_age, sane
from sitegenctl.domain.orders.run import OUTCOME_STEPS, STARTS
from sitegenctl.domain.statistics.log_window import MAX_ERROR

# On the session's clock, without zone.
_TIME = sane("created_at", "created_at::timestamp")

_COLUMNS = f"""id AS log_id, order_id, step, message, coalesce(nullif(status, ''), 'info') AS status,
       {_TIME} AS created_at, details::text AS details, {log_age("created_at")} AS age"""

# At most one of $3 to $5 is given, see `since_parameters`.
_WANTED = """id > $2
   AND ($6::text[] IS NULL OR lower(coalesce(status, 'info')) = ANY($6::text[]))
   AND (num_nonnulls($3::interval, $4::timestamptz, $5::timestamp) = 0
        OR created_at >= coalesce(localtimestamp - $3::interval, $4::timestamptz::timestamp, $5::timestamp))"""

#: The rows of the orders $1 with an id above $2, the oldest $7.
OLDEST = f"""
SELECT {_COLUMNS} FROM site_generation_logs
 WHERE order_id = ANY($1::bigint[]) AND {_WANTED}
 ORDER BY id + 0 LIMIT $7
"""  # noqa: S608 - constants of this module

#: The newest $7 rows of each order. Order by order, so that PostgreSQL keeps no more rows of any than are requested.
NEWEST = f"""
SELECT l.* FROM unnest($1::bigint[]) AS o(wanted) CROSS JOIN LATERAL (
       SELECT {_COLUMNS} FROM site_generation_logs
        WHERE order_id = o.wanted AND {_WANTED}
        ORDER BY id + 0 DESC LIMIT $7) l
 ORDER BY l.log_id
"""  # noqa: S608 - constants of this module


#: The rows of all orders with the ids $1 to $2, the oldest $5; under True the newest, highest id first.
OF_ALL = {
    newest: f"""
SELECT {_COLUMNS} FROM site_generation_logs
 WHERE id BETWEEN $1::bigint AND $2::bigint
   AND ($3::text[] IS NULL OR lower(coalesce(status, 'info')) = ANY($3::text[]))
   AND (NOT $4 OR step LIKE 'OPERATOR\\_%')
 ORDER BY id {"DESC" if newest else "ASC"} LIMIT $5
"""  # noqa: S608 - constants of this module
    for newest in (False, True)
}


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

#: The newest $3 rows within the window $1 with an id above $2.
RECENT_STEPS = f"""{_WINDOW}
SELECT id AS log_id, order_id, step, {log_age("created_at")} AS age
  FROM site_generation_logs
 WHERE {_IN_WINDOW} AND id > $2
 ORDER BY id DESC LIMIT $3
"""  # noqa: S608 - constants of this module

_FINISHED = "status IN ('REVIEW', 'DELIVERED')"

#: The finished orders that were generated or changed within $1. There is no index on their times: of those changed,
#: only the newest $2 orders are searched.
RECENTLY_FINISHED = f"""{_WINDOW}
SELECT id FROM (SELECT id, updated_at FROM site_orders WHERE {_FINISHED} ORDER BY id DESC LIMIT $2) o
 WHERE {UPDATED} >= now() - $1::interval
 UNION
SELECT id FROM site_orders
 WHERE {_FINISHED} AND id IN (SELECT order_id FROM site_generation_logs WHERE {_IN_WINDOW} AND step = 'SUCCESS')
"""  # noqa: S608 - constants of this module

#: $1 to $3 as in `since_parameters`; without any of them, the beginning of the day.
BEGINNING = """
SELECT localtimestamp AS read_at,
       coalesce(localtimestamp - $1::interval, $2::timestamptz::timestamp, $3::timestamp,
                date_trunc('day', localtimestamp)) AS since
"""

#: The first id since the time $1, and the newest: in a query of its own, because PostgreSQL reads the whole table for
#: `max(id)` in a query that has a CTE.
IDS = f"""{bisection("$1::timestamp")}
SELECT (SELECT min(high) FROM bisection) AS first_id,
       (SELECT coalesce(max(id), -1) FROM site_generation_logs) AS last_id
"""  # noqa: S608 - constants of this package

#: The journal rows from id $1 to $2, those of the operation $3 if it is given. The details are searched as text:
#: PostgreSQL fails to take apart json that holds an invalid escape.
JOURNAL = f"""
SELECT {_COLUMNS} FROM site_generation_logs
 WHERE id BETWEEN $1 AND $2 AND step LIKE 'OPERATOR\\_%' AND ($3::text IS NULL OR strpos(details::text, $3) > 0)
 ORDER BY id
"""  # noqa: S608 - constants of this module

#: The journal rows of the orders $1, with an id above $2, that undo the operation $3 or that name it otherwise.
UNDOS = f"""
SELECT {_COLUMNS} FROM site_generation_logs
 WHERE order_id = ANY($1::bigint[]) AND id > $2 AND step LIKE 'OPERATOR\\_UNDO%' AND strpos(details::text, $3) > 0
 ORDER BY id + 0
"""  # noqa: S608 - constants of this module

NEWEST_ID = "SELECT coalesce(max(id), 0) AS id FROM site_generation_logs"

_START_STEPS = ", ".join(f"'{step}'" for step in sorted(STARTS))
_BOUNDS = ", ".join(f"'{step}'" for step in sorted(STARTS | OUTCOME_STEPS))

#: The rows from id $1 to $2, lowest first; with $4 only those that begin or end a run. Only the part of an ERROR that
#: the failure reason is derived from.
RUN_ROWS = f"""
SELECT id AS log_id, order_id, step, {_TIME} AS at, {is_repeated("created_at")} AS is_repeated,
       CASE WHEN step = 'ERROR' THEN left(message, {MAX_ERROR}) END AS message,
       CASE WHEN step IN ({_START_STEPS}) OR step LIKE 'OPERATOR\\_%'
            THEN substring(details::text from '"task_id": ?"([^"]*)"') END AS task_id
  FROM site_generation_logs
 WHERE id BETWEEN $1 AND $2 AND (NOT $4 OR step IN ({_BOUNDS}) OR step LIKE 'OPERATOR\\_%')
 ORDER BY id LIMIT $3
"""  # noqa: S608 - constants of this package


def since_parameters(since: timedelta | datetime | None) -> Sequence[timedelta | datetime | None]:
    """An age by the database's clock, a moment (with zone), and a time on the clock of the log rows; one is set."""
    if isinstance(since, timedelta):
        return since, None, None
    if since is None or since.tzinfo is None:
        return None, None, since
    return None, since, None
