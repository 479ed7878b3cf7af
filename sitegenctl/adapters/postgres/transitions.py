"""Claiming orders and giving them back: under their rows' locks, set-based, journaled in the same transaction."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import asyncpg

from sitegenctl.adapters.postgres.connection import Link
from sitegenctl.adapters.postgres.locks import who_locks
from sitegenctl.adapters.postgres.queries import UTC_NOW
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.plans.plan import Step
from sitegenctl.domain.ports import Actor, Claim, Release

T = TypeVar("T")
R = TypeVar("R")

# NO KEY UPDATE and not UPDATE: a worker's log row takes KEY SHARE on its order and must not wait for us.
_LOCK = "SELECT id FROM site_orders WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE"

# A statement of its own after the lock: in the locking one, a subquery would still see the log as it was
# before the wait. Grouped, because for `max(id)` of one order PostgreSQL may walk the primary key backwards
# through everybody's log.
_SEEN_NOW = """
SELECT o.id, o.status::text AS status, coalesce(l.last_log_id, 0) AS last_log_id
  FROM site_orders o
  LEFT JOIN (SELECT order_id, max(id) AS last_log_id FROM site_generation_logs
              WHERE order_id = ANY($1::bigint[]) GROUP BY order_id) l ON l.order_id = o.id
 WHERE o.id = ANY($1::bigint[])
"""

# Through the table's own row type, so that status and time may be of any type that takes the text.
_SET_STATUS = f"""
UPDATE site_orders o SET status = r.status, updated_at = r.updated_at
  FROM json_populate_recordset(NULL::site_orders, (
       SELECT json_agg(json_build_object('id', c.id, 'status', c.status, 'updated_at', {UTC_NOW}))
         FROM unnest($1::bigint[], $2::text[]) AS c(id, status))) r
 WHERE o.id = r.id
"""  # noqa: S608 - a constant

# Through the table's own row type, so that it works whether `details` is json or jsonb.
_JOURNAL = """
INSERT INTO site_generation_logs (order_id, step, message, status, details)
SELECT r.order_id, r.step, r.message, r.status, r.details
  FROM json_populate_recordset(NULL::site_generation_logs, $1::json) r
RETURNING id, order_id
"""

# As text, because what is json, and holds something odd elsewhere, may not be taken apart.
_MARKED = """
SELECT order_id, max(id) AS id FROM site_generation_logs
 WHERE order_id = ANY($1::bigint[]) AND step LIKE 'OPERATOR\\_%' AND strpos(details::text, $2) > 0
 GROUP BY order_id
"""

# Status and id of the newest log row, by order.
_Seen = Mapping[int, tuple[str | None, int]]


# What the claimed orders' logs say of a run's end since the claim: $1 orders, $2 the claims' journal ids.
_ENDED_SINCE = """
SELECT o.id, o.status::text AS status, ended.step
  FROM unnest($1::bigint[], $2::bigint[]) AS c(order_id, journal_id)
  JOIN site_orders o ON o.id = c.order_id
  LEFT JOIN LATERAL (
       SELECT step FROM site_generation_logs
        WHERE order_id = c.order_id AND id > c.journal_id AND step IN ('FINALIZE', 'SUCCESS')
        ORDER BY id + 0 DESC LIMIT 1) ended ON true
"""

# What the server says of itself, or of all orders alike: asking it again for each order would not help.
_NOT_ABOUT_ONE_ORDER = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.SyntaxOrAccessError,
)


async def claim(link: Link, steps: Sequence[Step], actor: Actor, mark: str) -> Claim:
    """Lock, re-check, set the status and journal; orders that moved, or that somebody else locks, are left alone.

    An order that the database refuses fails alone: the others are claimed without it. ``mark`` is put into the
    journal, for ``claimed`` to look for.
    """

    async def attempt(some: Sequence[Step], lock: str) -> Claim:
        return await _claim(link, some, actor, mark, lock)

    def refused(step: Step, reason: str) -> Claim:
        return Claim(journal_ids={}, moved={}, failed={step.order_id: reason})

    claims = await _one_by_one_if_need_be(attempt, steps, refused)
    return Claim(
        journal_ids={order_id: row for each in claims for order_id, row in each.journal_ids.items()},
        moved={order_id: reason for each in claims for order_id, reason in each.moved.items()},
        failed={order_id: reason for each in claims for order_id, reason in each.failed.items()},
    )


async def claimed(link: Link, steps: Sequence[Step], mark: str, lost: str) -> Claim:
    """What took place of a claim whose connection was ``lost``, for that reason."""
    written = await _written(link, [step.order_id for step in steps], mark)
    failed = {step.order_id: f"{lost}; nothing was done" for step in steps if step.order_id not in written}
    return Claim(journal_ids=written, moved={}, failed=failed)


async def _written(link: Link, order_ids: Sequence[int], mark: str) -> dict[int, int]:
    """The ids of the journal rows with this mark, by order."""
    async with link.transaction() as connection:
        # The server may not have noticed that we are gone: until it has decided, it holds the rows' locks.
        await connection.fetch(_LOCK, order_ids)
        rows = await connection.fetch(_MARKED, order_ids, mark)
    return {row["order_id"]: row["id"] for row in rows}


async def _one_by_one_if_need_be(
    attempt: Callable[[Sequence[T], str], Awaitable[R]],
    items: Sequence[T],
    refused: Callable[[T, str], R],
    lock: str = _LOCK,
) -> list[R]:
    """What came of attempting these orders with this lock, together or, if the database refuses, in parts."""
    try:
        return [await attempt(items, lock)]
    except asyncpg.LockNotAvailableError:
        if lock != _LOCK:
            raise
        # One locked row must not stop the others: this time, those that can't be had are passed over.
        return await _one_by_one_if_need_be(attempt, items, refused, f"{_LOCK} SKIP LOCKED")
    except _NOT_ABOUT_ONE_ORDER:
        raise
    except asyncpg.PostgresError as exc:
        if len(items) == 1:
            return [refused(items[0], f"the database refused: {str(exc).splitlines()[0]}")]
    half = len(items) // 2
    first = await _one_by_one_if_need_be(attempt, items[:half], refused, lock)
    return [*first, *await _one_by_one_if_need_be(attempt, items[half:], refused, lock)]


async def confirm(link: Link, steps: Mapping[int, Step]) -> dict[int, str]:
    """Why claimed orders went on in spite of the claim, by order; keys of ``steps`` are the claims' journal ids."""
    by_order = {step.order_id: step for step in steps.values()}
    async with link.transaction() as connection:
        rows = await connection.fetch(_ENDED_SINCE, [step.order_id for step in steps.values()], list(steps))
    found = {row["id"]: row for row in rows}
    went_on = {}
    for order_id, step in by_order.items():
        row = found.get(order_id)
        if row is None:
            went_on[order_id] = "it is gone"
        elif row["status"] != (step.after or step.before):
            went_on[order_id] = f"it moved meanwhile: {step.after or step.before} became {row['status']}"
        elif row["step"] is not None:
            went_on[order_id] = f"its generation got as far as {row['step']} meanwhile"
    return went_on


async def _claim(link: Link, steps: Sequence[Step], actor: Actor, mark: str, lock: str) -> Claim:
    ids = [step.order_id for step in steps]
    moved: dict[int, str] = {}
    journal_ids: dict[int, int] = {}
    async with link.transaction() as connection:
        held = {row["id"] for row in await connection.fetch(lock, ids)}
        now = await _seen_now(connection, ids)
        locked = {order_id for order_id in ids if order_id in now and order_id not in held}
        still = []
        for step in steps:
            if step.order_id in locked:
                continue
            reason = _moved(step, now.get(step.order_id))
            if reason is None:
                still.append(step)
            else:
                moved[step.order_id] = reason
        if still:
            await _set_status(connection, {step.order_id: step.after for step in still})
            written = await connection.fetch(_JOURNAL, json.dumps([_claim_row(step, actor, mark) for step in still]))
            journal_ids = {row["order_id"]: row["id"] for row in written}
    return Claim(journal_ids=journal_ids, moved=moved, failed=await who_locks(link, locked) if locked else {})


async def release(
    link: Link, steps: Mapping[int, Step], actor: Actor, reasons: Mapping[int, str], mark: str
) -> Release:
    """Restore each status and journal why; an order that moved since is left alone.

    One that somebody else locks, or that the database refuses, fails alone. Keys of ``steps`` are the claims'
    journal ids; ``mark`` is put into the journal, for ``released`` to look for.
    """

    async def attempt(some: Sequence[tuple[int, Step]], lock: str) -> Release:
        return await _release(link, dict(some), actor, reasons, mark, lock)

    def refused(item: tuple[int, Step], reason: str) -> Release:
        return Release(restored=(), moved={}, failed={item[1].order_id: reason})

    releases = await _one_by_one_if_need_be(attempt, list(steps.items()), refused)
    return Release(
        restored={order_id for each in releases for order_id in each.restored},
        moved={order_id: reason for each in releases for order_id, reason in each.moved.items()},
        failed={order_id: reason for each in releases for order_id, reason in each.failed.items()},
    )


async def released(
    link: Link, steps: Mapping[int, Step], actor: Actor, reasons: Mapping[int, str], mark: str
) -> Release:
    """What took place of a release whose connection was lost, and the rest of it."""
    written = await _written(link, [step.order_id for step in steps.values()], mark)
    rest = {journal_id: step for journal_id, step in steps.items() if step.order_id not in written}
    if not rest:
        return Release(restored=set(written), moved={})
    again = await release(link, rest, actor, reasons, mark)
    return replace(again, restored={*written, *again.restored})


async def _release(
    link: Link,
    steps: Mapping[int, Step],
    actor: Actor,
    reasons: Mapping[int, str],
    mark: str,
    lock: str,
) -> Release:
    ids = [step.order_id for step in steps.values()]
    async with link.transaction() as connection:
        held = {row["id"] for row in await connection.fetch(lock, ids)}
        now = await _seen_now(connection, ids)
        locked = {order_id for order_id in ids if order_id in now and order_id not in held}
        still = [
            step
            for journal_id, step in steps.items()
            if step.order_id in held and _as_claimed(step, journal_id, now.get(step.order_id))
        ]
        if still:
            await _set_status(connection, {step.order_id: step.before if step.after else None for step in still})
            entries = [
                _journal_row(
                    step, step.action.taken_back, f"Not done: {reasons[step.order_id]}", actor, mark, status="error"
                )
                for step in still
            ]
            await connection.fetch(_JOURNAL, json.dumps(entries))
    restored = {step.order_id for step in still}
    moved = {
        step.order_id: _moved(replace(step, before=step.after or step.before), now.get(step.order_id)) or "it moved"
        for step in steps.values()
        if step.order_id not in restored | locked
    }
    return Release(restored=restored, moved=moved, failed=await who_locks(link, locked) if locked else {})


async def _seen_now(connection: asyncpg.Connection, order_ids: Sequence[int]) -> _Seen:
    rows = await connection.fetch(_SEEN_NOW, order_ids)
    return {row["id"]: (row["status"], row["last_log_id"]) for row in rows}


async def _set_status(connection: asyncpg.Connection, status: Mapping[int, OrderStatus | None]) -> None:
    """Set these orders' status, where there is one to set."""
    to_set = {order_id: label for order_id, label in status.items() if label is not None}
    if to_set:
        await connection.execute(_SET_STATUS, list(to_set), list(to_set.values()))


def _moved(step: Step, now: tuple[str | None, int] | None) -> str | None:
    if now is None:
        return "it is gone"
    status, last_log_id = now
    if status != step.before:
        return f"it moved meanwhile: {step.before} became {status}"
    if step.last_log_id is not None and last_log_id != step.last_log_id:
        return "it moved meanwhile: its log has grown"
    return None


def _as_claimed(step: Step, journal_id: int, now: tuple[str | None, int] | None) -> bool:
    """Whether the order is as the claim left it; where a task runs, its log may have grown."""
    if now is None:
        return False
    status, last_log_id = now
    return status == (step.after or step.before) and (step.last_log_id is None or last_log_id == journal_id)


def _claim_row(step: Step, actor: Actor, mark: str) -> dict[str, Any]:
    details: dict[str, Any] = {"before": step.before}
    if step.after is not None:
        details["after"] = step.after
    if step.publish is not None:
        details["resume"] = step.resume
    if step.withdraw:
        details["withdrawn"] = [task.task_id for task in step.withdraw]
    if step.trash:
        details["files"] = "trash"
    message = f"{step.saying[:1].upper()}{step.saying[1:]}; by {actor}"
    return _journal_row(step, step.action.value, message, actor, mark, **details)


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
