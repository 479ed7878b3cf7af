"""The database of the reference worker: run lock, brief, log, deliverable and result of an order.

The run lock is an advisory lock on its own connection; reads and writes use a second one. A run that has lost its lock
cannot write: each write checks in its transaction that the lock is still held, and the next run begins only after the
writes of the previous one.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from sitegenctl.adapters.postgres.connection import Database
from sitegenctl.adapters.postgres.errors import translating
from sitegenctl.adapters.postgres.locks import FENCE_SPACE, HELD_RUN_LOCKS, LOCK_SPACE, advisory_lock, run_lock_key
from sitegenctl.adapters.postgres.queries import utc_now
from sitegenctl.adapters.postgres.url import asyncpg_dsn
from sitegenctl.domain.orders.generation import Brief, GenerationRecords, TeamMember, Testimonial
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.errors import GenerationError, SourceError

_FAILURE_NOTE = r"^Generation Failed:[^\n]*\n?"

# $1 the second key as `pg_locks` shows it, $2 the session that must hold it, NULL for any.
_IS_HELD = f"SELECT EXISTS ({HELD_RUN_LOCKS} AND objid::bigint = $1 AND pid = coalesce($2, pid))"

# As json, because the driver would have to ask the server about the types of some columns.
_ONBOARDING = "SELECT row_to_json(s)::text FROM site_onboardings s WHERE order_id = $1::bigint"

# Through the table's own row type, because `details` is json in some installations and jsonb in others.
_LOG_ROW = "json_populate_record(NULL::site_generation_logs, $2::json) r"
_LOG_COLUMNS = "(order_id, step, message, status, details)"

# From the orders table, so that nothing is written for an order that does not exist.
_LOG = f"""
INSERT INTO site_generation_logs {_LOG_COLUMNS}
SELECT o.id, r.step, r.message, r.status, r.details FROM site_orders o, {_LOG_ROW} WHERE o.id = $1::bigint
"""  # noqa: S608 - constants of this module

# One statement, so that a crash cannot leave a finished order with an unfinished run.
_FINISH = f"""
WITH moved AS (
    UPDATE site_orders SET status = 'REVIEW', site_url = $3, updated_at = {utc_now("site_orders", "updated_at")},
           admin_notes = nullif(regexp_replace(admin_notes, $4, ''), '')
     WHERE id = $1::bigint AND status IN ('BUILDING', 'GENERATING') RETURNING id)
INSERT INTO site_generation_logs {_LOG_COLUMNS}
SELECT moved.id, r.step, r.message, r.status, r.details FROM moved, {_LOG_ROW}
RETURNING id
"""  # noqa: S608 - constants of this module

_NOTE_FAILURE = f"""
UPDATE site_orders SET updated_at = {utc_now("site_orders", "updated_at")}, admin_notes =
       rtrim(concat($2::text, E'\\n', regexp_replace(coalesce(admin_notes, ''), $3, '')), E'\\n')
 WHERE id = $1::bigint
"""  # noqa: S608 - constants of this module

_HAS_BRIEFING = "SELECT EXISTS (SELECT FROM site_deliverables WHERE order_id = $1::bigint AND type = 'BRIEFING')"

_UPDATE_BRIEFING = f"""
UPDATE site_deliverables SET title = $2, content = $3, status = 'READY',
       updated_at = {utc_now("site_deliverables", "updated_at")}
 WHERE order_id = $1::bigint AND type = 'BRIEFING' RETURNING id
"""  # noqa: S608 - constants of this module

_INSERT_BRIEFING = f"""
INSERT INTO site_deliverables (order_id, type, title, content, status, is_visible_to_client, created_at, updated_at)
VALUES ($1::bigint, 'BRIEFING', $2, $3, 'READY', false,
        {utc_now("site_deliverables", "created_at")}, {utc_now("site_deliverables", "updated_at")})
"""  # noqa: S608 - constants of this module


class PostgresGeneration:
    """``GenerationStore`` on PostgreSQL; ``timeout`` is in seconds, for each statement."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self._dsn = asyncpg_dsn(url)
        self._timeout = timeout

    @asynccontextmanager
    async def lock(self, order_id: int) -> AsyncIterator[GenerationRecords | None]:
        """Hold the order's run lock; None if another run holds it."""
        key = run_lock_key(order_id)
        async with advisory_lock(self._dsn, LOCK_SPACE, key, timeout=self._timeout) as holder:
            if holder is None:
                yield None
                return
            # A new connection for each use: each task has its own event loop.
            database = Database(self._dsn, timeout=self._timeout)
            try:
                with translating():
                    # Not the pid from connecting: behind a pooler that is another session's.
                    pid = await holder.fetchval("SELECT pg_backend_pid()")
                # Wait for a write of a run that has just lost this lock.
                async with database.transaction(f"SELECT pg_advisory_xact_lock({FENCE_SPACE}, {key});"):
                    pass
                yield _Records(database, order_id, pid)
            finally:
                await database.close()

    async def record_failure(self, order_id: int, message: str, note: str, **details: Any) -> None:
        """Log an ERROR and note it in ``admin_notes``; see ``GenerationStore``."""
        key = run_lock_key(order_id)
        database = Database(self._dsn, timeout=self._timeout)
        try:
            # Not the run lock itself: a run that begins now would fail to get it.
            async with database.transaction(_fence(key)) as connection:
                if await connection.fetchval(_IS_HELD, key % 2**32, None):
                    return
                await connection.execute(_LOG, order_id, _log_row("ERROR", message, "error", details))
                note = f"Generation Failed: {' '.join(note.split())}"
                await connection.execute(_NOTE_FAILURE, order_id, note, _FAILURE_NOTE)
        finally:
            await database.close()


def _fence(key: int) -> str:
    """SQL that shares the fence lock, so that the next run waits for the end of this transaction."""
    return f"SELECT pg_advisory_xact_lock_shared({FENCE_SPACE}, {key});"


class _Records:
    """``GenerationRecords`` over one connection, while the session ``pid`` holds the order's run lock."""

    def __init__(self, database: Database, order_id: int, pid: int) -> None:
        self._database = database
        self._order_id = order_id
        self._key = run_lock_key(order_id)
        self._pid = pid

    async def status(self, order_id: int) -> OrderStatus | None:
        rows = await self._database.fetch("SELECT status::text FROM site_orders WHERE id = $1::bigint", order_id)
        if not rows:
            raise GenerationError(f"there is no order {order_id}")
        status = rows[0]["status"]
        return OrderStatus(status) if status in OrderStatus.__members__ else None

    async def brief(self, order_id: int, site_url: str) -> Brief:
        async with self._database.transaction() as connection:
            text = await connection.fetchval(_ONBOARDING, order_id)
        if text is None:
            raise GenerationError(f"order {order_id} has no onboarding")
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as exc:
            # PostgreSQL accepts json that Python does not, such as very deep nesting.
            raise GenerationError(f"the onboarding of order {order_id} can't be read") from exc
        return _brief(order_id, row, site_url)

    async def log(self, order_id: int, step: str, message: str, status: str = "info", **details: Any) -> None:
        async with self._writing() as connection:
            await connection.execute(_LOG, order_id, _log_row(step, message, status, details))

    async def has_briefing(self, order_id: int) -> bool:
        async with self._database.transaction() as connection:
            return bool(await connection.fetchval(_HAS_BRIEFING, order_id))

    async def save_briefing(self, order_id: int, title: str, content: str) -> None:
        async with self._writing() as connection:
            if not await connection.fetch(_UPDATE_BRIEFING, order_id, title, content):
                await connection.execute(_INSERT_BRIEFING, order_id, title, content)

    async def finish(self, order_id: int, site_url: str, message: str, **details: Any) -> bool:
        row = _log_row("SUCCESS", message, "success", details)
        async with self._writing() as connection:
            return bool(await connection.fetch(_FINISH, order_id, row, site_url, _FAILURE_NOTE))

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[asyncpg.Connection]:
        """A transaction that the next run waits for. Raises ``SourceError`` if the run lock is lost."""
        async with self._database.transaction(_fence(self._key)) as connection:
            if not await connection.fetchval(_IS_HELD, self._key % 2**32, self._pid):
                raise SourceError(f"the run lock of order {self._order_id} is lost", source="database")
            yield connection


def _log_row(step: str, message: str, status: str, details: dict[str, Any]) -> str:
    return json.dumps({"step": step, "message": message, "status": status, "details": details or None})


# Columns that a brief has under the same names.
_AS_TYPED = (
    *("business_name", "business_email", "business_phone", "niche", "primary_city", "state", "primary_service"),
    *("cta_text", "business_address", "custom_niche", "site_objective", "site_description"),
    *("primary_color", "secondary_color", "accent_color", "logo_url", "google_reviews_link"),
    *("about_owner", "years_in_business", "meta_title", "meta_description"),
)


def _brief(order_id: int, row: dict[str, Any], site_url: str) -> Brief:
    social = {
        network: row[f"social_{network}"]
        for network in ("facebook", "instagram", "linkedin", "youtube", "tiktok")
        if row[f"social_{network}"]
    }
    as_typed: dict[str, Any] = {name: row.get(name) for name in _AS_TYPED}
    return Brief(
        order_id=order_id,
        services=_texts(row["services"]),
        tone=row["tone"] or "PROFESSIONAL",
        primary_cta=row["primary_cta"] or "CALL",
        has_whatsapp=bool(row["has_whatsapp"]),
        service_areas=_texts(row["service_areas"]),
        service_descriptions=_texts_by_key(row["service_descriptions"]),
        selected_pages=_texts(row["selected_pages"]),
        business_hours=_texts_by_key(row["business_hours"]),
        social=social,
        testimonials=[
            Testimonial(name=str(item.get("name", "")), text=str(item["text"]), role=item.get("role"))
            for item in _objects(row["testimonials"])
            if item.get("text")
        ],
        team_members=[
            TeamMember(name=str(item["name"]), role=item.get("role"))
            for item in _objects(row["team_members"])
            if item.get("name")
        ],
        target_keywords=_texts(row["target_keywords"]),
        site_url=site_url,
        **as_typed,
    )


# The columns are free JSON: values of an unexpected shape are left out.
def _texts(value: Any) -> list[str]:
    return [str(item) for item in value if isinstance(item, str | int | float)] if isinstance(value, list) else []


def _texts_by_key(value: Any) -> dict[str, str]:
    return {str(key): str(item) for key, item in value.items() if item} if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
