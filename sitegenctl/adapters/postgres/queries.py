"""The SQL that reads orders, and orders made from its rows. Statements contain only constants; values are parameters.

Ages are computed in SQL, each timestamp against its own clock: naive order columns are UTC, naive log rows are in the
session's time zone, and in some installations either kind has a zone. Timestamps that Python cannot represent
(infinity, the year 200000, BC) count as NULL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import asyncpg

from sitegenctl.adapters.postgres.locks import HELD_RUN_LOCKS, RUN_LOCK_KEY
from sitegenctl.domain.diagnosis.listing import (
    BASE_LETTERS,
    LETTERS,
    MARKS,
    OrderFilter,
    OrderQuery,
    SortBy,
    order_number,
)
from sitegenctl.domain.orders.operation import idle_in
from sitegenctl.domain.orders.order import (
    OPEN_STATUSES,
    PROMISED_STATUSES,
    JournalEntry,
    Onboarding,
    Order,
    OrderStatus,
)
from sitegenctl.domain.orders.run import OPERATOR_RESTORE, OPERATOR_UNDO, STARTS, Announcement
from sitegenctl.domain.orders.run_reader import read_history

# Newest log rows that the history of an order is read from; a run writes about 25.
_HISTORY_ROWS = 500

# One year less than Python's range at either end, so that a time can be converted to another zone.
_FIRST, _LAST = "'0002-01-01'", "'9998-12-31'"


def sane(column: str, value: str) -> str:
    """``value``, or NULL for a timestamp that Python cannot represent."""
    return f"CASE WHEN {column} BETWEEN {_FIRST} AND {_LAST} THEN {value} END"


# With zone: `epoch` reads a time without zone as UTC.
_CREATED, UPDATED, _ONBOARDED = (
    sane(column, f"to_timestamp(date_part('epoch', {column}))")
    for column in ("o.created_at", "o.updated_at", "o.onboarding_completed_at")
)

#: The current time as text for columns with and without zone: those without hold UTC and ignore the Z.
UTC_NOW = """to_char(timezone('utc', now()), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


def utc_now(table: str, column: str) -> str:
    """The current time in the type of the column."""
    return f"(json_populate_record(NULL::{table}, json_build_object('{column}', {UTC_NOW}))).{column}"


def _age(moment: str) -> str:
    """The age of a time; NULL for one in the future, but clocks may differ by a minute."""
    return f"CASE WHEN {moment} <= now() + interval '1 minute' THEN greatest(now() - {moment}, interval '0') END"


def is_repeated(column: str) -> str:
    """Whether the time of a log row comes twice, because clocks go back an hour at the end of daylight saving time."""
    first = sane(column, f"({column}::timestamptz - interval '1 hour')::timestamp = {column}::timestamp")
    return f"coalesce({first}, false)"


def log_age(column: str) -> str:
    """The age of a log row. PostgreSQL takes a repeated time for the second one, which may be in the future."""
    moment = sane(column, f"{column}::timestamptz")
    first = f"({moment} - interval '1 hour')"
    return f"CASE WHEN {moment} > now() AND {is_repeated(column)} THEN {_age(first)} ELSE {_age(moment)} END"


_PROMISED_LABELS = ", ".join(f"'{status}'" for status in sorted(PROMISED_STATUSES))
# Written so that the index on the status finds these orders.
_IS_PROMISED = f"(o.status IS NULL OR o.status IN ({_PROMISED_LABELS}))"

# More days are a typing error, as are none.
_MAX_DELIVERY_DAYS = 3650


def promise(columns: Mapping[str, str], *, is_past: bool = False) -> str:
    """A join that adds ``promise.due_at``, from those of the `PROMISE_COLUMNS` that this schema has, with their types.

    It is the expected date, unless that is before the order was created or paid; else ``delivery_days`` after the
    payment. A date without a time is due when its day ends. Only undelivered orders have one; with ``is_past``, all
    that were not delivered in time.
    """

    def moment(name: str, more: str = "") -> str:
        return sane(f"o.{name}", f"to_timestamp(date_part('epoch', o.{name})){more}")

    dates = []
    paid_at = moment("paid_at") if "paid_at" in columns else "NULL"
    if "expected_delivery_date" in columns:
        is_date = columns["expected_delivery_date"] == "date"
        expected = moment("expected_delivery_date", " + interval '24 hours'" if is_date else "")
        began = f"coalesce(greatest({_CREATED}, {paid_at}), '-infinity')"
        dates.append(f"CASE WHEN {expected} >= {began} THEN {expected} END")
    if {"delivery_days", "paid_at"} <= columns.keys():
        # Not in days, which are longer or shorter where clocks are changed.
        later = f"{paid_at} + o.delivery_days * interval '24 hours'"
        dates.append(
            f"CASE WHEN o.delivery_days BETWEEN 1 AND {_MAX_DELIVERY_DAYS} THEN {sane(f'({later})', later)} END"
        )
    undelivered = [_IS_PROMISED]
    undelivered += [f"o.{name} IS NULL" for name in ("delivered_at", "actual_delivery_date") if name in columns]
    due_at = f"coalesce({', '.join(dates)})" if dates else "NULL"
    if is_past:
        delivered = [moment(name) for name in ("delivered_at", "actual_delivery_date") if name in columns]
        is_kept = f"least({', '.join(delivered)}) <= {due_at}" if delivered else "false"
        due_at = f"CASE WHEN ({is_kept}) IS NOT TRUE THEN {due_at} END"
    else:
        due_at = f"CASE WHEN {' AND '.join(undelivered)} THEN {due_at} END"
    return f" CROSS JOIN LATERAL (SELECT ({due_at})::timestamptz AS due_at) promise "


def due_dates(promised: str) -> str:
    """The due dates of the orders with the ids $1, by the clock of the log."""
    return f"""
SELECT o.id, promise.due_at::timestamp AS due_at FROM site_orders o {promised}
 WHERE o.id = ANY($1::bigint[]) AND promise.due_at IS NOT NULL
"""  # noqa: S608 - constants of this module


def count_due(promised: str) -> str:
    """The numbers of orders that are late, and of those due within $1; only undelivered orders are read."""
    return f"""
SELECT count(*) FILTER (WHERE due_at < now()) AS late, count(*) FILTER (WHERE due_at >= now()) AS due_soon
  FROM site_orders o {promised} WHERE {_IS_PROMISED} AND due_at < now() + $1::interval
"""  # noqa: S608 - constants of this module


# From the text: PostgreSQL fails to take apart json that holds an invalid escape anywhere.
_COMMAND = 'substring(r.details::text from \'"command": ?"([^"]*)"\')'

_START_STEPS = ", ".join(f"'{step}'" for step in sorted(STARTS))

# `pg_locks` is read once per query, because reading it locks the server's whole lock table. A standby does not know the
# locks of its primary. About `id + 0` see log.py.
_READ = f"""
WITH held_run_locks AS MATERIALIZED ({HELD_RUN_LOCKS})
SELECT o.id, o.status::text AS status, o.customer_name, o.customer_email, o.site_url, o.admin_notes,
       timezone('utc', {_CREATED}) AS created_at,
       timezone('utc', {UPDATED}) AS updated_at,
       timezone('utc', {_ONBOARDED}) AS onboarding_completed_at,
       s.order_id IS NOT NULL AS has_onboarding, coalesce(s.is_complete, false) AS is_complete, s.business_name,
       least({_age(UPDATED)},
             {_age(_ONBOARDED)},
             {log_age("newest.created_at")}) AS idle, timezone('utc', now()) AS read_at,
       timezone('utc', promise.due_at) AS due_at, promise.due_at - now() AS due_in,
       newest.id AS last_log_id, log.steps, log.commands, log.ages, log.announcement,
       journal.step AS journal_step, journal.details::text AS journal_details,
       {log_age("journal.created_at")} AS journal_age,
       failure.message AS last_error,
       CASE WHEN NOT pg_is_in_recovery() THEN {RUN_LOCK_KEY} IN (SELECT objid FROM held_run_locks) END
           AS run_lock_held
  FROM site_orders o
  LEFT JOIN site_onboardings s ON s.order_id = o.id
  LEFT JOIN LATERAL (
       SELECT array_agg(r.step ORDER BY r.id) AS steps,
              array_agg({_COMMAND} ORDER BY r.id) FILTER (WHERE r.step LIKE 'OPERATOR\\_%') AS commands,
              array_agg({log_age("r.created_at")} ORDER BY r.id) AS ages,
              (array_agg(r.details::text ORDER BY r.id DESC)
                 FILTER (WHERE r.step IN ({_START_STEPS})))[1] AS announcement
         FROM (SELECT id, step, details, created_at FROM site_generation_logs WHERE order_id = o.id
                ORDER BY id + 0 DESC LIMIT {_HISTORY_ROWS}) r) log ON true
  LEFT JOIN LATERAL (
       SELECT id, created_at FROM site_generation_logs WHERE order_id = o.id
        ORDER BY id + 0 DESC LIMIT 1) newest ON true
  LEFT JOIN LATERAL (
       SELECT step, details, created_at FROM site_generation_logs WHERE order_id = o.id AND step LIKE 'OPERATOR\\_%'
          AND step NOT LIKE '{OPERATOR_RESTORE}%'
        ORDER BY id + 0 DESC LIMIT 1) journal ON true
  LEFT JOIN LATERAL (
       SELECT message FROM site_generation_logs WHERE order_id = o.id AND step = 'ERROR'
        ORDER BY id + 0 DESC LIMIT 1) failure ON true
"""  # noqa: S608 - constants of this module

EXISTING = "SELECT id FROM site_orders WHERE id = ANY($1::bigint[])"

CUSTOMERS = """
SELECT o.id, coalesce(nullif(s.business_name, ''), o.customer_name) AS name
  FROM site_orders o LEFT JOIN site_onboardings s ON s.order_id = o.id WHERE o.id = ANY($1::bigint[])
"""


def by_id(promised: str) -> str:
    """The orders with the ids $1. ``promised`` is the join of `promise`, here and below."""
    return f"{_READ} {promised} WHERE o.id = ANY($1::bigint[])"


# Names that match a word of the search. Most orders have none, so that the join is small.
_BUSINESS = """
  LEFT JOIN (SELECT order_id, business_name FROM site_onboardings WHERE business_name ILIKE ANY ($2::text[])) b
         ON b.order_id = o.id
"""


def _restricted(only: OrderFilter, business: str) -> str:
    """The condition for a filter, whose parameters are those of `restriction`.

    $1 statuses, $2 a pattern for each search word, $3 the order number that each word may be, $4 maximum and $5 minimum
    age of the last change, $6 maximum and $7 minimum time until it is due. No word has a line break, so all names are
    searched at once. The collation, which folds the case of ASCII letters only, makes that twice as fast.
    """
    searched = "$2::text[] IS NULL AND $3::bigint[] IS NULL"
    if only.search is not None:
        names = f"concat_ws(E'\\n', o.customer_name, o.customer_email, {business})"
        names += ' COLLATE "C"' if only.search.isascii() else ""
        searched = f"""({names} ILIKE ALL ($2::text[]) OR num_nonnulls(VARIADIC $3::bigint[]) > 0 AND NOT EXISTS (
        SELECT FROM unnest($2::text[], $3::bigint[]) AS word(pattern, number)
         WHERE o.id IS DISTINCT FROM word.number AND {names} NOT ILIKE word.pattern))"""  # noqa: S608 - constants
    return f"""
       ($1::text[] IS NULL OR o.status::text = ANY($1::text[]))
   AND {searched}
   AND ($4::interval IS NULL OR {UPDATED} >= now() - $4::interval)
   AND ($5::interval IS NULL OR {UPDATED} <= now() - $5::interval)
   AND ($6::interval IS NULL OR promise.due_at < now() + $6::interval)
   AND ($7::interval IS NULL OR promise.due_at > now() + $7::interval)
   AND {_IS_PROMISED if only.is_by_due_date else "true"}
"""


_OPEN_LABELS = ", ".join(f"'{status}'" for status in sorted(OPEN_STATUSES))
_IS_OPEN = f"(o.status IS NULL OR o.status IN ({_OPEN_LABELS}))"


def open_orders(only: OrderFilter, promised: str) -> str:
    """Open orders and the orders with the ids $8, restricted by $1 to $7."""
    is_read = f"({_IS_OPEN} OR o.id = ANY($8::bigint[]))"
    return f"{_READ} {promised} WHERE {is_read} AND {_restricted(only, 's.business_name')}"


def _settled(only: OrderFilter, promised: str, *, named: bool = False) -> str:
    """Settled orders, restricted by $1 to $7; if ``named``, with their onboarding as s."""
    onboarding = "LEFT JOIN site_onboardings s ON s.order_id = o.id" if named else ""
    return f"""
  FROM site_orders o {onboarding} {"" if only.search is None else _BUSINESS} {promised}
 WHERE o.status NOT IN ({_OPEN_LABELS}) AND NOT o.id = ANY($8::bigint[]) AND {_restricted(only, "b.business_name")}
"""


def count_settled(only: OrderFilter, promised: str) -> str:
    """The number of settled orders, restricted by $1 to $7, without the ids $8."""
    return f"SELECT count(*) {_settled(only, promised)}"


#: The ids of all orders in a status, lowest first.
# The label is part of the text, so that PostgreSQL gives it the type of the column, whichever that is.
IN_STATUS = {status: f"SELECT id FROM site_orders WHERE status = '{status}' ORDER BY id" for status in OrderStatus}  # noqa: S608 - constants

NEWEST_FINISHED = "SELECT id FROM site_orders WHERE status IN ('REVIEW', 'DELIVERED') ORDER BY id DESC LIMIT $1"

COUNT_BY_STATUS = "SELECT status::text AS status, count(*) AS count FROM site_orders GROUP BY status"

_FINISHED = ", ".join(f"'{status}'" for status in OrderStatus if status.is_finished)
_KNOWN = ", ".join(f"'{status}'" for status in OrderStatus)
# NULL for an unknown status.
_LIFE = f"array_position(ARRAY[{_KNOWN}], o.status::text)"
_BY_UPDATED, _BY_CREATED = (sane(column, column) for column in ("o.updated_at", "o.created_at"))
_BY_CHANGE = f"greatest({UPDATED}, {_ONBOARDED})"
# In the collation "C", which every database has and which sorts as Python does.
_BY_NAME = (
    "translate(lower(coalesce(nullif(s.business_name, ''), o.customer_name)),"
    f" '{LETTERS}{MARKS}', '{BASE_LETTERS}') COLLATE \"C\""
)

# The order of ``domain.diagnosis.listing.sort_key``; by fault and by due date see `settled`.
_ORDER_BY = {
    SortBy.ID: ("o.id ASC", "o.id DESC"),
    SortBy.UPDATED: (f"{_BY_CHANGE} DESC NULLS LAST, o.id", f"{_BY_CHANGE} ASC NULLS LAST, o.id"),
    SortBy.CREATED: (f"{_BY_CREATED} DESC NULLS LAST, o.id", f"{_BY_CREATED} ASC NULLS LAST, o.id"),
    SortBy.NAME: (f"{_BY_NAME}, o.id", f"{_BY_NAME} DESC, o.id"),
    SortBy.STATUS: (
        f"{_LIFE} NULLS LAST, {_BY_UPDATED} DESC NULLS LAST, o.id",
        f"{_LIFE} DESC NULLS LAST, {_BY_UPDATED} ASC NULLS LAST, o.id",
    ),
}


def settled(query: OrderQuery, promised: str) -> str:
    """The ids of settled orders, sorted; parameters as in ``count_settled``, and $9 as the limit."""
    orders = _settled(query.filter, promised, named=query.sort is SortBy.NAME)
    if query.sort is SortBy.FAULT:
        return _settled_by_fault(orders, reverse=query.reverse)
    if query.sort is SortBy.DUE:
        return _settled_by_due_date(orders, reverse=query.reverse)
    return f"SELECT o.id {orders} ORDER BY {_ORDER_BY[query.sort][query.reverse]} LIMIT $9"


def _settled_by_due_date(selected: str, *, reverse: bool) -> str:
    """Delivered orders, which may be millions, have no due date: they are read by id until there are enough."""
    by_due_date = f"due_at {'DESC' if reverse else 'ASC'} NULLS LAST, id LIMIT $9"
    return f"""
SELECT id FROM (
       (SELECT o.id, due_at {selected} AND {_IS_PROMISED} ORDER BY {by_due_date})
       UNION ALL
       (SELECT o.id, NULL {selected} AND NOT {_IS_PROMISED} ORDER BY o.id LIMIT $9)) parts
 ORDER BY {by_due_date}
"""  # noqa: S608 - constants of this module


def _settled_by_fault(selected: str, *, reverse: bool) -> str:
    """Orders in an unknown status need attention and come first; then the groups of ``sort_key``.

    Sorting by it would sort every order. Finished ones, which may be millions, are read by id until there are enough.
    For the others, the first part walks the index from label to label and fetches the orders of each; `+ 0` keeps
    PostgreSQL from looking for these few among all.
    """
    way = "DESC" if reverse else "ASC"
    return f"""
WITH RECURSIVE label(status) AS (
       (SELECT status FROM site_orders WHERE status IS NOT NULL ORDER BY status LIMIT 1)
       UNION ALL
       SELECT (SELECT n.status FROM site_orders n WHERE n.status > label.status ORDER BY n.status LIMIT 1)
         FROM label WHERE label.status IS NOT NULL)
SELECT id FROM (
       SELECT l.id, CASE WHEN label.status::text = 'CANCELLED' THEN 3
                         WHEN label.status::text IN ({_KNOWN}) THEN 1 ELSE 0 END AS rank
         FROM label
        CROSS JOIN LATERAL (SELECT o.id {selected} AND o.status = label.status ORDER BY o.id + 0 {way} LIMIT $9) l
        WHERE label.status::text NOT IN ({_FINISHED})
       UNION ALL
       (SELECT o.id, 2 AS rank {selected} AND o.status::text IN ({_FINISHED}) ORDER BY o.id {way} LIMIT $9)) parts
 ORDER BY rank {way}, id {way} LIMIT $9
"""  # noqa: S608 - constants of this module


def restriction(only: OrderFilter) -> tuple[Any, ...]:
    """The parameters $1 to $7 for a filter."""
    patterns = numbers = None
    if only.search is not None:
        patterns = [f"%{_literally(word)}%" for word in only.words]
        numbers = [order_number(word) for word in only.words]
    statuses = sorted(only.statuses) if only.statuses else None
    return statuses, patterns, numbers, only.since, only.still_for, only.due_within, only.due_after


def _literally(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


#: Looking a status up in the enum takes as long as the rest of an order.
STATUSES: Mapping[str | None, OrderStatus] = {status.value: status for status in OrderStatus}


def order_of(row: asyncpg.Record) -> Order:
    """The order in a row of the queries above."""
    status = STATUSES.get(row["status"])
    announcement, details = (
        parsed if isinstance(parsed, dict) else {}
        for parsed in (parse_details(row["announcement"]), parse_details(row["journal_details"]))
    )
    idle = _idle(row, details)
    onboarding = Onboarding.COMPLETE if row["is_complete"] else Onboarding.PARTIAL
    journal = None
    if row["journal_step"] is not None:
        journal = JournalEntry(
            step=row["journal_step"],
            task_id=_text(details, "task_id"),
            actor=_text(details, "actor"),
            resume=details.get("resume") is not False,
            age=row["journal_age"],
            after=_text(details, "after"),
        )
    return Order(
        order_id=row["id"],
        status=status,
        status_label=row["status"] if status is None else None,
        customer_name=row["customer_name"],
        customer_email=row["customer_email"],
        business_name=row["business_name"],
        onboarding=onboarding if row["has_onboarding"] else Onboarding.MISSING,
        onboarding_completed_at=row["onboarding_completed_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        site_url=row["site_url"],
        admin_notes=row["admin_notes"],
        idle=idle,
        changed_at=row["read_at"] - idle if idle is not None else None,
        due_at=row["due_at"],
        due_in=row["due_in"],
        last_log_id=row["last_log_id"] or 0,
        history=read_history(
            row["steps"] or (),
            row["commands"] or (),
            ages=row["ages"] or (),
            announcement=Announcement(
                task_id=_text(announcement, "task_id"), takes_lock=announcement.get("run_lock") is True
            ),
        ),
        journal=journal,
        last_error=row["last_error"],
        run_lock_held=row["run_lock_held"],
    )


def _idle(row: asyncpg.Record, journal: Mapping[str, Any]) -> timedelta | None:
    """Since the order's last change; an undo as the last change does not count, because it made the order as before."""
    idle: timedelta | None = row["idle"]
    undone_ago: timedelta | None = row["journal_age"]
    if idle is None or undone_ago is None or row["steps"][-1] != OPERATOR_UNDO:
        return idle
    before = idle_in(journal)
    # Both times are those of the transaction of the undo, unless something changed the order afterwards.
    return idle + before if before is not None and undone_ago - idle < timedelta(milliseconds=1) else idle


def parse_details(text: str | None) -> Any:
    """The details of a log row; the text itself if Python cannot read it."""
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        # PostgreSQL accepts json that Python does not, such as very deep nesting.
        return text


def _text(details: dict[str, Any], name: str) -> str | None:
    value = details.get(name)
    return value if isinstance(value, str) else None
