"""Applying transitions to orders and rolling them back.

Many orders share one transaction, which locks their rows, re-checks them and writes the journal.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg

from sitegenctl.adapters.postgres.connection import Database
from sitegenctl.adapters.postgres.queries import UTC_NOW
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.plans.plan import Action, Step
from sitegenctl.domain.ports import Actor, TransitionFailure, TransitionResult
from sitegenctl.domain.queue.task import LiveTask, TaskState
from sitegenctl.errors import SourceError

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


@dataclass(frozen=True, kw_only=True)
class Change:
    """A transition of an order, or its rollback: what must be unchanged, what to set, and the journal row.

    ``expected`` is the status and the id of the newest log row; without an id the log may have grown. ``status`` None
    leaves the status as it is.
    """

    order_id: int
    expected: tuple[str | None, int | None]
    status: OrderStatus | None
    row: Mapping[str, Any]


def changes_of(steps: Sequence[Step], actor: Actor, mark: str) -> list[Change]:
    """The transitions; ``marked_rows`` finds their journal rows by ``mark``."""
    changes = []
    for step in steps:
        details: dict[str, Any] = {"before": step.before}
        if step.after is not None:
            details["after"] = step.after
        if step.publish is not None:
            details["resume"] = step.resume
        if step.revoke:
            details["withdrawn"] = [task.task_id for task in step.revoke]
            details["revoked"] = [_revoked(task) for task in step.revoke]
        if step.idle is not None:
            details["idle"] = round(step.idle.total_seconds(), 3)
        if step.trash:
            details |= {"files": "trash", "file_count": step.files}
        if step.untrash is not None:
            details |= {"files": "restored", "entry": step.untrash}
        if step.undoes is not None:
            details |= _details_of_undo(step)
        message = f"{step.description[:1].upper()}{step.description[1:]}; by {actor}"
        row = _journal_row(step, step.action.value, message, actor, mark) | {"status": "info"}
        row["details"] |= details
        expected = (step.before, step.last_log_id)
        changes.append(Change(order_id=step.order_id, expected=expected, status=step.after, row=row))
    return changes


def rollbacks_of(steps: Mapping[int, Step], actor: Actor, mark: str, reasons: Mapping[int, str]) -> list[Change]:
    """Restore each status and journal why. Keys of ``steps`` are ids of journal rows, those of ``reasons`` orders."""
    changes = []
    for journal_id, step in steps.items():
        message = f"Not done: {reasons[step.order_id]}"
        # Where a task runs, the log may have grown.
        expected = (step.after or step.before, None if step.last_log_id is None else journal_id)
        row = _journal_row(step, step.action.rollback_step, message, actor, mark) | {"status": "error"}
        if step.undoes is not None:
            # The newest row of the journal says what the order's task and status are.
            operation = {"task_id": step.undoes.task_id, "resume": _resumes(step), "after": step.before}
            row["details"] |= {"undoes": step.undoes.operation, **operation}
        status = step.before if step.after else None
        changes.append(Change(order_id=step.order_id, expected=expected, status=status, row=row))
    return changes


def _revoked(task: LiveTask) -> dict[str, Any]:
    """What an undo needs of a task that is removed."""
    return {
        "task_id": task.task_id,
        "waited": task.state is not TaskState.RUNNING,
        "resume": task.resume,
        "attempt": task.attempt,
        "eta": task.eta.isoformat() if task.eta is not None else None,
    }


def _details_of_undo(step: Step) -> dict[str, Any]:
    """What is undone, and what the newest row of the journal says of the order's task."""
    undone, restored = step.undoes, step.restores
    if undone is None:
        return {}
    details: dict[str, Any] = {"undoes": undone.operation, "after": step.after or step.before}
    if step.action is Action.UNDO_BEGIN:
        return details | {"task_id": undone.task_id, "resume": _resumes(step)}
    if step.publish is None and restored is not None:
        details |= {"task_id": restored.task_id, "resume": restored.resume}
    return details


def _resumes(step: Step) -> bool:
    """The flag of the operation's task while its undo is not complete: files from before must not be discarded."""
    return step.untrash is not None or (step.undoes is not None and step.undoes.resume)


def _journal_row(step: Step, kind: str, message: str, actor: Actor, mark: str) -> dict[str, Any]:
    return {
        "order_id": step.order_id,
        "step": kind,
        "message": message,
        "details": {
            "task_id": step.task_id,
            "actor": actor.user,
            "host": actor.host,
            "command": actor.command,
            "operation": actor.operation,
            "mark": mark,
        },
    }


async def write(database: Database, changes: Sequence[Change], lock: str = _LOCK) -> TransitionResult:
    """Write all changes in one transaction; if the database refuses, in halves until the refused order is alone.

    Orders that changed since are left alone. Orders that another transaction locks fail and do not stop the others.
    """
    try:
        return await _write_all(database, changes, lock)
    except SourceError as exc:
        refusal = exc.__cause__
        if isinstance(refusal, asyncpg.LockNotAvailableError):
            if lock != _LOCK:
                raise
            return await write(database, changes, _LOCK_AVAILABLE)
        if not isinstance(refusal, asyncpg.PostgresError) or isinstance(refusal, _NOT_ABOUT_ONE_ORDER):
            raise
        if len(changes) == 1:
            failure = TransitionFailure(reason=f"the database refused: {str(refusal).splitlines()[0]}")
            return TransitionResult(failed={changes[0].order_id: failure})
    half = len(changes) // 2
    first = await write(database, changes[:half], lock)
    return merged(first, await write(database, changes[half:], lock))


async def _write_all(database: Database, changes: Sequence[Change], lock: str) -> TransitionResult:
    """Lock the orders, compare them with the expected states, set their status and write the journal."""
    order_ids = [change.order_id for change in changes]
    changed: dict[int, str] = {}
    journal_ids: dict[int, int] = {}
    async with database.transaction() as connection:
        held = {row["id"] for row in await connection.fetch(lock, order_ids)}
        rows = await connection.fetch(_CURRENT, order_ids)
        current = {row["id"]: (row["status"], row["last_log_id"]) for row in rows}
        locked = current.keys() - held
        unchanged: list[Change] = []
        for change in changes:
            if change.order_id in locked:
                continue
            difference = _difference(current.get(change.order_id), *change.expected)
            if difference is None:
                unchanged.append(change)
            else:
                changed[change.order_id] = difference
        statuses = {change.order_id: change.status for change in unchanged if change.status is not None}
        if statuses:
            await connection.execute(_SET_STATUS, list(statuses), list(statuses.values()))
        if unchanged:
            rows = await connection.fetch(_JOURNAL, json.dumps([change.row for change in unchanged]))
            journal_ids = {row["order_id"]: row["id"] for row in rows}
    failed = await _lock_failures(database, locked) if locked else {}
    return TransitionResult(journal_ids=journal_ids, changed=changed, failed=failed)


async def marked_rows(database: Database, changes: Sequence[Change], mark: str) -> dict[int, int]:
    """The ids of the journal rows with this mark, by order: what a ``write`` did whose connection was lost."""
    order_ids = [change.order_id for change in changes]
    async with database.transaction() as connection:
        # Until the server has noticed the lost connection and ended its transaction, that holds the rows' locks.
        await connection.fetch(_LOCK, order_ids)
        rows = await connection.fetch(_MARKED, order_ids, mark)
    return {row["order_id"]: row["id"] for row in rows}


async def confirm(database: Database, steps: Mapping[int, Step]) -> dict[int, str]:
    """Why the generation of an order went on in spite of its transition, by order; keys are ids of journal rows."""
    rows = await database.fetch(_ENDED_SINCE, [step.order_id for step in steps.values()], list(steps))
    by_order = {row["id"]: row for row in rows}
    went_on = {}
    for step in steps.values():
        row = by_order.get(step.order_id)
        reason = _difference(None if row is None else (row["status"], None), step.after or step.before, None)
        if reason is None and row is not None and row["step"] is not None:
            reason = f"its generation reached {row['step']} meanwhile"
        if reason is not None:
            went_on[step.order_id] = reason
    return went_on


def merged(first: TransitionResult, second: TransitionResult) -> TransitionResult:
    """The result of both."""
    return TransitionResult(
        journal_ids={**first.journal_ids, **second.journal_ids},
        changed={**first.changed, **second.changed},
        failed={**first.failed, **second.failed},
    )


async def _lock_failures(database: Database, order_ids: Collection[int]) -> dict[int, TransitionFailure]:
    """Describe the transaction that locks each of these orders, where PostgreSQL shows it."""
    reasons = dict.fromkeys(order_ids, "it is locked by another transaction")
    rows = []
    # The failure is certain; the holder is only a help.
    with suppress(SourceError):
        rows = await database.fetch(_LOCK_HOLDERS, list(order_ids))
    for row in rows:
        name = row["application_name"] or "a client without a name"
        reasons[row["id"]] = (
            f"it is locked by another transaction: pid {row['pid']} ({name}, as {row['usename']}),"
            f" open for {describe_age(row['open_for'])}"
        )
    hint = "try again when that transaction has ended"
    return {order_id: TransitionFailure(reason=reason, hint=hint) for order_id, reason in reasons.items()}


def _difference(current: tuple[str | None, int | None] | None, status: str | None, log_id: int | None) -> str | None:
    """What differs from the expected status and newest log row, if its id is given."""
    if current is None:
        return "the order no longer exists"
    if current[0] != status:
        return f"it has changed since it was read: {status} became {current[0]}"
    if log_id is not None and current[1] != log_id:
        return "it has changed since it was read: its log has new rows"
    return None
