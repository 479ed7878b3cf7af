"""The SQL that reads orders and their logs. Only constants are ever put into a text; values are parameters.

Ages are computed here, each timestamp against its own clock: order columns are naive UTC, log rows are in the
session's time zone.
"""

from __future__ import annotations

from typing import Any

from sitegenctl.domain.listing import OPEN_STATUSES, OrderFilter, OrderQuery, SortBy

# The history of an order is read from at most so many of its newest rows: a run writes some 25.
_HISTORY_ROWS = 500

_READ = f"""
SELECT o.id, o.status::text AS status, o.customer_name, o.customer_email, o.site_url, o.admin_notes,
       o.created_at, o.updated_at, o.onboarding_completed_at,
       s.order_id IS NOT NULL AS has_onboarding, coalesce(s.is_complete, false) AS is_complete, s.business_name,
       least(timezone('utc', now()) - o.updated_at,
             timezone('utc', now()) - o.onboarding_completed_at,
             localtimestamp - newest.created_at) AS idle,
       newest.id AS last_log_id, log.steps,
       journal.step AS journal_step, journal.details::text AS journal_details,
       failure.message AS last_error
  FROM site_orders o
  LEFT JOIN site_onboardings s ON s.order_id = o.id
  LEFT JOIN LATERAL (
       SELECT array_agg(r.step ORDER BY r.id) AS steps
         FROM (SELECT id, step FROM site_generation_logs WHERE order_id = o.id
                ORDER BY id DESC LIMIT {_HISTORY_ROWS}) r) log ON true
  LEFT JOIN LATERAL (
       SELECT id, created_at FROM site_generation_logs WHERE order_id = o.id
        ORDER BY id DESC LIMIT 1) newest ON true
  LEFT JOIN LATERAL (
       SELECT step, details FROM site_generation_logs WHERE order_id = o.id AND step LIKE 'OPERATOR\\_%'
        ORDER BY id DESC LIMIT 1) journal ON true
  LEFT JOIN LATERAL (
       SELECT message FROM site_generation_logs WHERE order_id = o.id AND step = 'ERROR'
        ORDER BY id DESC LIMIT 1) failure ON true
"""  # noqa: S608 - the only thing put in is a constant number

EXISTING = "SELECT id FROM site_orders WHERE id = ANY($1::int[])"

#: These orders: $1 their ids.
BY_ID = _READ + " WHERE o.id = ANY($1::int[])"

# $1 statuses, $2 search pattern, $3 the number searched for, $4 time since the order moved: see `restriction`.
_RESTRICTED = """
       ($1::text[] IS NULL OR o.status::text = ANY($1::text[]))
   AND ($2::text IS NULL OR o.customer_name ILIKE $2 OR o.customer_email ILIKE $2 OR o.id = $3::int
        OR EXISTS (SELECT FROM site_onboardings b WHERE b.order_id = o.id AND b.business_name ILIKE $2))
   AND ($4::interval IS NULL OR o.updated_at >= timezone('utc', now()) - $4::interval)
"""

_OPEN_LABELS = ", ".join(f"'{status}'" for status in sorted(OPEN_STATUSES))
_IS_OPEN = f"(o.status IS NULL OR o.status IN ({_OPEN_LABELS}))"

#: Orders that may need somebody, and those whose ids are $5, restricted by $1 to $4.
OPEN = f"{_READ} WHERE ({_IS_OPEN} OR o.id = ANY($5::int[])) AND {_RESTRICTED}"

_SETTLED = f"""
  FROM site_orders o
 WHERE o.status NOT IN ({_OPEN_LABELS}) AND NOT o.id = ANY($5::int[]) AND {_RESTRICTED}
"""

#: How many others there are, restricted by $1 to $4, without those whose ids are $5.
COUNT_SETTLED = f"SELECT count(*) {_SETTLED}"

HAS_FINISHED = "SELECT EXISTS (SELECT FROM site_orders WHERE status IN ('REVIEW', 'DELIVERED'))"

COUNT_BY_STATUS = "SELECT status::text AS status, count(*) AS count FROM site_orders GROUP BY status"

# There is no index on created_at, and log rows of delivered orders are by far the most. But ids and times grow
# together: some 25 steps of bisection find the first id of the window ($1), and only rows behind it are read.
COUNT_RUNS = """
WITH RECURSIVE bisection(low, high) AS (
    SELECT coalesce(min(id), 0)::bigint, coalesce(max(id), -1)::bigint + 1 FROM site_generation_logs
    UNION ALL
    SELECT CASE WHEN probe.in_window THEN low ELSE middle + 1 END, CASE WHEN probe.in_window THEN middle ELSE high END
      FROM bisection,
           LATERAL (SELECT (low + high) / 2 AS middle) m,
           LATERAL (SELECT coalesce((SELECT created_at >= localtimestamp - $1::interval FROM site_generation_logs
                                      WHERE id >= middle ORDER BY id LIMIT 1), true) AS in_window) probe
     WHERE low < high
)
SELECT count(*) FILTER (WHERE step = 'SUCCESS') AS succeeded, count(*) FILTER (WHERE step = 'ERROR') AS failed,
       count(*) FILTER (WHERE step = 'SKIP') AS skipped
  FROM site_generation_logs
 WHERE id >= (SELECT min(high) FROM bisection) AND created_at >= localtimestamp - $1::interval
"""

_ORDER_BY = {
    SortBy.FAULT: ("o.id DESC", "o.id ASC"),
    SortBy.ID: ("o.id ASC", "o.id DESC"),
    SortBy.UPDATED: ("o.updated_at DESC NULLS LAST, o.id", "o.updated_at ASC NULLS LAST, o.id"),
    SortBy.CREATED: ("o.created_at DESC NULLS LAST, o.id", "o.created_at ASC NULLS LAST, o.id"),
    SortBy.NAME: (
        'lower(o.customer_name) COLLATE "C", o.id',
        'lower(o.customer_name) COLLATE "C" DESC, o.id',
    ),
    SortBy.STATUS: (
        "o.status, o.updated_at DESC NULLS LAST, o.id",
        "o.status DESC, o.updated_at ASC NULLS LAST, o.id",
    ),
}


def settled(query: OrderQuery) -> str:
    """The ids of the other orders, sorted; parameters as in ``COUNT_SETTLED``, and $6 how many."""
    return f"SELECT o.id {_SETTLED} ORDER BY {_ORDER_BY[query.sort][query.reverse]} LIMIT $6"


def restriction(only: OrderFilter) -> tuple[Any, ...]:
    """The parameters $1 to $4 for a filter."""
    pattern = None
    number = None
    if only.search is not None:
        escaped = only.search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        pattern = f"%{escaped}%"
        number = int(only.search) if only.search.isdecimal() and len(only.search) < 10 else None
    statuses = sorted(only.statuses) if only.statuses else None
    return statuses, pattern, number, only.since
