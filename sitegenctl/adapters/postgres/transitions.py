"""Applying transitions to orders and rolling them back.

Many orders share one transaction, which locks their rows, re-checks them and writes the journal.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncpg

from sitegenctl.adapters.postgres.connection import Link
from sitegenctl.adapters.postgres.queries import UTC_NOW
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.plans.plan import Step
from sitegenctl.domain.ports import Actor, TransitionFailure, TransitionResult

# NO KEY UPDATE, not UPDATE: a worker's log row takes KEY SHARE on its order and must not wait for this lock.
_LOCK = "SELECT id FROM site_orders WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE"
_LOCK_AVAILABLE = f"{_LOCK} SKIP LOCKED"

# A statement of its own after the lock: a subquery of the locking statement would still see the log as it was before
# the wait. Grouped, because for `max(id)` of one order PostgreSQL may walk the primary key backwards through the whole
# log.
_CURRENT = """
SELECT o.id, o.status::text AS status, coalesce(l.last_log_id, 0) AS last_log_id
  FROM site_orders o
  LEFT JOIN (SELECT order_id, max(id) AS last_log_id FROM site_generation_logs
              WHERE order_id = ANY($1::bigint[]) GROUP BY order_id) l ON l.order_id = o.id
 WHERE o.id = ANY($1::bigint[])
"""

# Through the table's own row type, so that status and time may be of any type that accepts the text.
_SET_STATUS = f"""
UPDATE site_orders o SET status = r.status, updated_at = r.updated_at
  FROM json_populate_recordset(NULL::site_orders, (
       SELECT json_agg(json_build_object('id', c.id, 'status', c.status, 'updated_at', {UTC_NOW}))
         FROM unnest($1::bigint[], $2::text[]) AS c(id, status))) r
 WHERE o.id = r.id
"""  # noqa: S608 - a constant

# Through the table's own row type, because `details` is json in some installations and jsonb in others.
_JOURNAL = """
INSERT INTO site_generation_logs (order_id, step, message, status, details)
SELECT r.order_id, r.step, r.message, r.status, r.details
  FROM json_populate_recordset(NULL::site_generation_logs, $1::json) r
RETURNING id, order_id
"""

# The details are searched as text: PostgreSQL fails to take apart json that holds an invalid escape.
_MARKED = """
SELECT order_id, max(id) AS id FROM site_generation_logs
 WHERE order_id = ANY($1::bigint[]) AND step LIKE 'OPERATOR\\_%' AND strpos(details::text, $2) > 0
 GROUP BY order_id
"""

# The status of each order, and the step that ended its run since: $1 orders, $2 the ids of their journal rows.
_ENDED_SINCE = """
SELECT o.id, o.status::text AS status, ended.step
  FROM unnest($1::bigint[], $2::bigint[]) AS c(order_id, journal_id)
  JOIN site_orders o ON o.id = c.order_id
  LEFT JOIN LATERAL (
       SELECT step FROM site_generation_logs
        WHERE order_id = c.order_id AND id > c.journal_id AND step IN ('FINALIZE', 'SUCCESS')
        ORDER BY id + 0 DESC LIMIT 1) ended ON true
"""

# A row's `xmax` is the transaction that locks it, and a live transaction holds the lock on its own number. A row that
# several transactions lock together names none of them: then this finds nothing.
_LOCK_HOLDERS = """
SELECT o.id, a.pid, a.application_name, a.usename, now() - a.xact_start AS open_for
  FROM site_orders o
  JOIN pg_locks l ON l.locktype = 'transactionid' AND l.granted AND l.transactionid = o.xmax
  JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE o.id = ANY($1::bigint[]) AND a.pid <> pg_backend_pid()
"""

# Errors that concern the server or all orders alike: repeating the statement for each order would not help.
_NOT_ABOUT_ONE_ORDER = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.SyntaxOrAccessError,
)

# The status of an order and the id of its newest log row.
_State = tuple[str | None, int | None]


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """What a rollback writes: ``reasons`` and the journal rows of the transitions, by order, and the ``mark``."""

    actor: Actor
    mark: str
    reasons: Mapping[int, str]
    journal_ids: Mapping[int, int]


async def isolate_failures(
    attempt: Callable[[Sequence[Step], str], Awaitable[TransitionResult]], steps: Sequence[Step], lock: str = _LOCK
) -> TransitionResult:
    """Attempt all steps in one transaction; if the database refuses, in halves until the refused order is alone.

    Orders that another transaction locks fail, too, and do not stop the others.
    """
    try:
        return await attempt(steps, lock)
    except asyncpg.LockNotAvailableError:
        if lock != _LOCK:
            raise
        return await isolate_failures(attempt, steps, _LOCK_AVAILABLE)
    except _NOT_ABOUT_ONE_ORDER:
        raise
    except asyncpg.PostgresError as exc:
        if len(steps) == 1:
            failure = TransitionFailure(reason=f"the database refused: {str(exc).splitlines()[0]}")
            return TransitionResult(failed={steps[0].order_id: failure})
    half = len(steps) // 2
    first = await isolate_failures(attempt, steps[:half], lock)
    return _merged(first, await isolate_failures(attempt, steps[half:], lock))


async def apply(link: Link, actor: Actor, mark: str, steps: Sequence[Step], lock: str) -> TransitionResult:
    """Lock the orders, re-check them, set their status and journal it, all in one transaction.

    Orders that changed since the plan are left alone. ``applied`` finds the journal rows by ``mark``.
    """
    async with link.transaction() as connection:
        states = {step.order_id: (step.before, step.last_log_id) for step in steps}
        unchanged, changed, locked = await _lock(connection, steps, states, lock)
        await _set_status(connection, {step.order_id: step.after for step in unchanged})
        journal_ids = await _write_journal(connection, [_transition_row(step, actor, mark) for step in unchanged])
    return TransitionResult(journal_ids=journal_ids, changed=changed, failed=await _lock_failures(link, locked))


async def applied(link: Link, steps: Sequence[Step], mark: str, lost: str) -> TransitionResult:
    """Find out what an ``apply`` did whose connection was lost; ``lost`` is the reason."""
    written = await _marked_rows(link, steps, mark)
    failure = TransitionFailure(reason=f"{lost}; nothing was changed")
    return TransitionResult(
        journal_ids=written, failed={step.order_id: failure for step in steps if step.order_id not in written}
    )


async def confirm(link: Link, steps: Mapping[int, Step]) -> dict[int, str]:
    """Why the generation of an order went on in spite of its transition, by order; keys are ids of journal rows."""
    async with link.transaction() as connection:
        rows = await connection.fetch(_ENDED_SINCE, [step.order_id for step in steps.values()], list(steps))
    by_order = {row["id"]: row for row in rows}
    went_on = {}
    for step in steps.values():
        row = by_order.get(step.order_id)
        current = None if row is None else (row["status"], None)
        reason = _difference(current, (step.after or step.before, None))
        if reason is None and row is not None and row["step"] is not None:
            reason = f"its generation reached {row['step']} meanwhile"
        if reason is not None:
            went_on[step.order_id] = reason
    return went_on


async def roll_back(link: Link, undo: Rollback, steps: Sequence[Step], lock: str) -> TransitionResult:
    """Restore each status and journal why; orders that changed since the transition are left alone."""
    states: dict[int, _State] = {}
    for step in steps:
        # Where a task runs, the log may have grown.
        last_log_id = None if step.last_log_id is None else undo.journal_ids[step.order_id]
        states[step.order_id] = (step.after or step.before, last_log_id)
    async with link.transaction() as connection:
        unchanged, changed, locked = await _lock(connection, steps, states, lock)
        await _set_status(connection, {step.order_id: step.before if step.after else None for step in unchanged})
        journal_ids = await _write_journal(connection, [_rollback_row(step, undo) for step in unchanged])
    return TransitionResult(journal_ids=journal_ids, changed=changed, failed=await _lock_failures(link, locked))


async def resume_roll_back(link: Link, undo: Rollback, steps: Sequence[Step]) -> TransitionResult:
    """Find out what a ``roll_back`` did whose connection was lost, and do the rest."""
    written = await _marked_rows(link, steps, undo.mark)
    done = TransitionResult(journal_ids=written)
    rest = [step for step in steps if step.order_id not in written]
    return _merged(done, await isolate_failures(partial(roll_back, link, undo), rest)) if rest else done


async def _marked_rows(link: Link, steps: Sequence[Step], mark: str) -> dict[int, int]:
    """The ids of the journal rows with this mark, by order."""
    order_ids = [step.order_id for step in steps]
    async with link.transaction() as connection:
        # Until the server has noticed the lost connection and ended its transaction, that holds the rows' locks.
        await connection.fetch(_LOCK, order_ids)
        rows = await connection.fetch(_MARKED, order_ids, mark)
    return {row["order_id"]: row["id"] for row in rows}


def _merged(first: TransitionResult, second: TransitionResult) -> TransitionResult:
    return TransitionResult(
        journal_ids={**first.journal_ids, **second.journal_ids},
        changed={**first.changed, **second.changed},
        failed={**first.failed, **second.failed},
    )


async def _lock(
    connection: asyncpg.Connection, steps: Sequence[Step], expected: Mapping[int, _State], lock: str
) -> tuple[list[Step], dict[int, str], set[int]]:
    """Lock the orders and compare them with the expected states.

    Returns the steps of unchanged orders, what changed about others, and those that another transaction locks.
    """
    order_ids = [step.order_id for step in steps]
    held = {row["id"] for row in await connection.fetch(lock, order_ids)}
    rows = await connection.fetch(_CURRENT, order_ids)
    current = {row["id"]: (row["status"], row["last_log_id"]) for row in rows}
    locked = current.keys() - held
    unchanged: list[Step] = []
    changed: dict[int, str] = {}
    for step in steps:
        if step.order_id in locked:
            continue
        difference = _difference(current.get(step.order_id), expected[step.order_id])
        if difference is None:
            unchanged.append(step)
        else:
            changed[step.order_id] = difference
    return unchanged, changed, locked


async def _lock_failures(link: Link, order_ids: Collection[int]) -> dict[int, TransitionFailure]:
    """Describe the transaction that locks each of these orders, where PostgreSQL shows it."""
    if not order_ids:
        return {}
    reasons = dict.fromkeys(order_ids, "it is locked by another transaction")
    rows = []
    # The failure is certain; the holder is only a help.
    with suppress(asyncpg.PostgresError):
        async with link.transaction() as connection:
            rows = await connection.fetch(_LOCK_HOLDERS, list(order_ids))
    for row in rows:
        name = row["application_name"] or "a client without a name"
        reasons[row["id"]] = (
            f"it is locked by another transaction: pid {row['pid']} ({name}, as {row['usename']}),"
            f" open for {describe_age(row['open_for'])}"
        )
    hint = "try again when that transaction has ended"
    return {order_id: TransitionFailure(reason=reason, hint=hint) for order_id, reason in reasons.items()}


async def _set_status(connection: asyncpg.Connection, status: Mapping[int, OrderStatus | None]) -> None:
    """Set the status of these orders; None leaves it as it is."""
    to_set = {order_id: label for order_id, label in status.items() if label is not None}
    if to_set:
        await connection.execute(_SET_STATUS, list(to_set), list(to_set.values()))


async def _write_journal(connection: asyncpg.Connection, rows: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Write journal rows; returns their ids by order."""
    written = await connection.fetch(_JOURNAL, json.dumps(rows)) if rows else ()
    return {row["order_id"]: row["id"] for row in written}


def _difference(current: _State | None, expected: _State) -> str | None:
    """What differs from the expected state; without an expected log row id the log may have grown."""
    if current is None:
        return "the order no longer exists"
    if current[0] != expected[0]:
        return f"it changed meanwhile: {expected[0]} became {current[0]}"
    if expected[1] is not None and current[1] != expected[1]:
        return "it changed meanwhile: its log has new rows"
    return None


def _transition_row(step: Step, actor: Actor, mark: str) -> dict[str, Any]:
    details: dict[str, Any] = {"before": step.before}
    if step.after is not None:
        details["after"] = step.after
    if step.publish is not None:
        details["resume"] = step.resume
    if step.revoke:
        details["withdrawn"] = [task.task_id for task in step.revoke]
    if step.trash:
        details["files"] = "trash"
    message = f"{step.description[:1].upper()}{step.description[1:]}; by {actor}"
    return _journal_row(step, step.action.value, message, actor, mark, **details)


def _rollback_row(step: Step, undo: Rollback) -> dict[str, Any]:
    message = f"Not done: {undo.reasons[step.order_id]}"
    return _journal_row(step, step.action.rollback_step, message, undo.actor, undo.mark, status="error")


def _journal_row(
    step: Step, kind: str, message: str, actor: Actor, mark: str, *, status: str = "info", **details: Any
) -> dict[str, Any]:
    return {
        "order_id": step.order_id,
        "step": kind,
        "message": message,
        "status": status,
        "details": {
            "task_id": step.task_id,
            "actor": actor.user,
            "host": actor.host,
            "command": actor.command,
            "mark": mark,
            **details,
        },
    }
