"""The SQL that reads orders and their logs. Only constants are ever put into a text; values are parameters.

Ages are computed here, each timestamp against its own clock: naive order columns are UTC, naive log rows are in the
session's time zone, and in some installations either kind has a zone. What PostgreSQL takes for a timestamp and
Python does not (infinity, the year 200000, BC) is as good as none.
"""

from __future__ import annotations

from typing import Any

from sitegenctl.adapters.postgres.run_lock import HELD_RUN_LOCKS, unsigned_key
from sitegenctl.domain.diagnosis.listing import OrderFilter, OrderQuery, SortBy, order_number
from sitegenctl.domain.orders.order import OPEN_STATUSES, OrderStatus
from sitegenctl.domain.orders.run import STARTS

# The history of an order is read from at most so many of its newest rows: a run writes some 25.
_HISTORY_ROWS = 500

# One year is left at either end, so that a time can still be turned into another zone.
_FIRST, _LAST = "'0002-01-01'", "'9998-12-31'"


def _sane(column: str, value: str | None = None) -> str:
    """``value``, else the timestamp itself, if it is one that Python knows; NULL otherwise."""
    return f"CASE WHEN {column} BETWEEN {_FIRST} AND {_LAST} THEN {value or column} END"


def log_time(column: str) -> str:
    """The time of a log row on the session's clock, without a zone."""
    return _sane(column, f"{column}::timestamp")


def _moment(column: str) -> str:
    """The moment of an order column: ``epoch`` takes a time without zone for UTC, and of the other knows the zone."""
    return _sane(column, f"to_timestamp(date_part('epoch', {column}))")


#: This moment, as a time column of either type takes it: a naive one, which holds UTC, drops the Z.
UTC_NOW = """to_char(timezone('utc', now()), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


def utc_now(table: str, column: str) -> str:
    """This moment, in the type of the column."""
    return f"(json_populate_record(NULL::{table}, json_build_object('{column}', {UTC_NOW}))).{column}"


def _age(moment: str) -> str:
    """The time since then; NULL for a time that is yet to come, which says nothing of when anything moved.

    Clocks differ a little: what is a moment ahead is now.
    """
    return f"CASE WHEN {moment} <= now() + interval '1 minute' THEN greatest(now() - {moment}, interval '0') END"


def _order_age(column: str) -> str:
    return _age(_moment(column))


def _log_age(column: str) -> str:
    return _age(_sane(column, f"{column}::timestamptz"))


# Out of the text: what is json, and holds something odd elsewhere, may not be taken apart.
_COMMAND = 'substring(r.details::text from \'"command": ?"([^"]*)"\')'

_START_STEPS = ", ".join(f"'{step}'" for step in sorted(STARTS))

# `pg_locks` is read once for each query: it takes the locks of the server's whole lock table. A standby does not know
# the locks of its primary.
#
# `id + 0`, because for the newest rows of one order PostgreSQL may else walk the primary key backwards through
# everybody's log, once for each order, where it has no fresh statistics.
_READ = f"""
WITH held_run_locks AS MATERIALIZED ({HELD_RUN_LOCKS})
SELECT o.id, o.status::text AS status, o.customer_name, o.customer_email, o.site_url, o.admin_notes,
       timezone('utc', {_moment("o.created_at")}) AS created_at,
       timezone('utc', {_moment("o.updated_at")}) AS updated_at,
       timezone('utc', {_moment("o.onboarding_completed_at")}) AS onboarding_completed_at,
       s.order_id IS NOT NULL AS has_onboarding, coalesce(s.is_complete, false) AS is_complete, s.business_name,
       least({_order_age("o.updated_at")},
             {_order_age("o.onboarding_completed_at")},
             {_log_age("newest.created_at")}) AS idle,
       newest.id AS last_log_id, log.steps, log.commands, log.ages, log.announcement,
       journal.step AS journal_step, journal.details::text AS journal_details,
       {_log_age("journal.created_at")} AS journal_age,
       failure.message AS last_error,
       CASE WHEN NOT pg_is_in_recovery() THEN {unsigned_key("o.id")} IN (SELECT objid FROM held_run_locks) END
           AS run_lock_held
  FROM site_orders o
  LEFT JOIN site_onboardings s ON s.order_id = o.id
  LEFT JOIN LATERAL (
       SELECT array_agg(r.step ORDER BY r.id) AS steps,
              array_agg({_COMMAND} ORDER BY r.id) FILTER (WHERE r.step LIKE 'OPERATOR\\_%') AS commands,
              array_agg({_log_age("r.created_at")} ORDER BY r.id) AS ages,
              (array_agg(r.details::text ORDER BY r.id DESC)
                 FILTER (WHERE r.step IN ({_START_STEPS})))[1] AS announcement
         FROM (SELECT id, step, details, created_at FROM site_generation_logs WHERE order_id = o.id
                ORDER BY id + 0 DESC LIMIT {_HISTORY_ROWS}) r) log ON true
  LEFT JOIN LATERAL (
       SELECT id, created_at FROM site_generation_logs WHERE order_id = o.id
        ORDER BY id + 0 DESC LIMIT 1) newest ON true
  LEFT JOIN LATERAL (
       SELECT step, details, created_at FROM site_generation_logs WHERE order_id = o.id AND step LIKE 'OPERATOR\\_%'
        ORDER BY id + 0 DESC LIMIT 1) journal ON true
  LEFT JOIN LATERAL (
       SELECT message FROM site_generation_logs WHERE order_id = o.id AND step = 'ERROR'
        ORDER BY id + 0 DESC LIMIT 1) failure ON true
"""  # noqa: S608 - constants of this module

EXISTING = "SELECT id FROM site_orders WHERE id = ANY($1::bigint[])"

#: These orders: $1 their ids.
BY_ID = _READ + " WHERE o.id = ANY($1::bigint[])"

# $1 statuses, $2 a pattern for each word searched for, $3 the number that each is, $4 the time within which the order
# moved, $5 that for which it has not: see `restriction`.
_RESTRICTED = f"""
       ($1::text[] IS NULL OR o.status::text = ANY($1::text[]))
   AND ($2::text[] IS NULL OR NOT EXISTS (
        SELECT FROM unnest($2::text[], $3::bigint[]) AS word(pattern, number)
         WHERE o.id IS DISTINCT FROM word.number AND o.customer_name NOT ILIKE word.pattern
           AND o.customer_email NOT ILIKE word.pattern
           AND NOT EXISTS (SELECT FROM site_onboardings b
                            WHERE b.order_id = o.id AND b.business_name ILIKE word.pattern)))
   AND ($4::interval IS NULL OR {_moment("o.updated_at")} >= now() - $4::interval)
   AND ($5::interval IS NULL OR {_moment("o.updated_at")} <= now() - $5::interval)
"""  # noqa: S608 - constants of this module

_OPEN_LABELS = ", ".join(f"'{status}'" for status in sorted(OPEN_STATUSES))
_IS_OPEN = f"(o.status IS NULL OR o.status IN ({_OPEN_LABELS}))"

#: Orders that may need somebody, and those whose ids are $6, restricted by $1 to $5.
OPEN = f"{_READ} WHERE ({_IS_OPEN} OR o.id = ANY($6::bigint[])) AND {_RESTRICTED}"

_SETTLED = f"""
  FROM site_orders o
 WHERE o.status NOT IN ({_OPEN_LABELS}) AND NOT o.id = ANY($6::bigint[]) AND {_RESTRICTED}
"""

#: How many others there are, restricted by $1 to $5, without those whose ids are $6.
COUNT_SETTLED = f"SELECT count(*) {_SETTLED}"

# With the label in the text, PostgreSQL gives it the type that the column has, whichever that is.
_IN_STATUS = {status: f"SELECT id FROM site_orders WHERE status = '{status}' ORDER BY id" for status in OrderStatus}  # noqa: S608 - constants

NEWEST_FINISHED = "SELECT id FROM site_orders WHERE status IN ('REVIEW', 'DELIVERED') ORDER BY id DESC LIMIT $1"

COUNT_BY_STATUS = "SELECT status::text AS status, count(*) AS count FROM site_orders GROUP BY status"


def in_status(status: OrderStatus) -> str:
    """The ids of all orders in this status, lowest first."""
    return _IN_STATUS[status]


def bisection(since: str) -> str:
    """A query's beginning that finds, as ``min(high)`` of ``bisection``, the first id of the log since a timestamp.

    There is no index on created_at, and log rows of delivered orders are by far the most. But ids and times grow
    together: some 25 steps of bisection find the id, and only rows behind it need to be read.
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

COUNT_RUNS = f"""{_WINDOW}
SELECT count(*) FILTER (WHERE step = 'SUCCESS') AS succeeded, count(*) FILTER (WHERE step = 'ERROR') AS failed,
       count(*) FILTER (WHERE step = 'SKIP') AS skipped
  FROM site_generation_logs
 WHERE {_IN_WINDOW}
"""  # noqa: S608 - constants of this module

#: The newest $3 rows within the window $1 and behind id $2.
RECENT_STEPS = f"""{_WINDOW}
SELECT id, order_id, step, {_log_age("created_at")} AS age
  FROM site_generation_logs
 WHERE {_IN_WINDOW} AND id > $2
 ORDER BY id DESC LIMIT $3
"""  # noqa: S608 - constants of this module

_KNOWN = ", ".join(f"'{status}'" for status in OrderStatus)
# NULL for a status that is not known, which is not the place that it has in the enum.
_LIFE = f"array_position(ARRAY[{_KNOWN}], o.status::text)"
_UPDATED, _CREATED = _sane("o.updated_at"), _sane("o.created_at")

# As ``domain.listing.sort_key`` sorts; by fault is a case of its own.
_ORDER_BY = {
    SortBy.ID: ("o.id ASC", "o.id DESC"),
    SortBy.UPDATED: (f"{_UPDATED} DESC NULLS LAST, o.id", f"{_UPDATED} ASC NULLS LAST, o.id"),
    SortBy.CREATED: (f"{_CREATED} DESC NULLS LAST, o.id", f"{_CREATED} ASC NULLS LAST, o.id"),
    SortBy.NAME: (
        'lower(o.customer_name) COLLATE "C", o.id',
        'lower(o.customer_name) COLLATE "C" DESC, o.id',
    ),
    SortBy.STATUS: (
        f"{_LIFE} NULLS LAST, {_UPDATED} DESC NULLS LAST, o.id",
        f"{_LIFE} DESC NULLS LAST, {_UPDATED} ASC NULLS LAST, o.id",
    ),
}


def settled(query: OrderQuery) -> str:
    """The ids of the other orders, sorted; parameters as in ``COUNT_SETTLED``, and $7 how many."""
    if query.sort is SortBy.FAULT:
        return _settled_by_fault(reverse=query.reverse)
    return f"SELECT o.id {_SETTLED} ORDER BY {_ORDER_BY[query.sort][query.reverse]} LIMIT $7"


def _settled_by_fault(*, reverse: bool) -> str:
    """Those in a status that is not known are what somebody should look at: they come before all others.

    In two parts, because sorting by it would mean sorting every order there ever was: the first goes from label to
    label along the index, whatever their type, and looks for the orders of each that is not known. As a rule there are
    none.
    """
    rank, way = ("DESC", "ASC") if reverse else ("ASC", "DESC")
    return f"""
WITH RECURSIVE label(status) AS (
       (SELECT status FROM site_orders WHERE status IS NOT NULL ORDER BY status LIMIT 1)
       UNION ALL
       SELECT (SELECT n.status FROM site_orders n WHERE n.status > label.status ORDER BY n.status LIMIT 1)
         FROM label WHERE label.status IS NOT NULL)
SELECT id FROM (
       SELECT l.id, 0 AS rank
         FROM label
        CROSS JOIN LATERAL (SELECT o.id {_SETTLED} AND o.status = label.status ORDER BY o.id {way} LIMIT $7) l
        WHERE label.status::text NOT IN ({_KNOWN})
       UNION ALL
       (SELECT o.id, 1 AS rank {_SETTLED} AND o.status::text IN ({_KNOWN}) ORDER BY o.id {way} LIMIT $7)) parts
 ORDER BY rank {rank}, id {way} LIMIT $7
"""  # noqa: S608 - constants of this module


def restriction(only: OrderFilter) -> tuple[Any, ...]:
    """The parameters $1 to $5 for a filter."""
    patterns = numbers = None
    if only.search is not None:
        patterns = [f"%{_literally(word)}%" for word in only.words]
        numbers = [order_number(word) for word in only.words]
    statuses = sorted(only.statuses) if only.statuses else None
    return statuses, patterns, numbers, only.since, only.still_for


def _literally(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
