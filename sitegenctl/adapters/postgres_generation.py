"""The database as the reference worker uses it: one order's lock, brief, log, deliverable and end.

Through SQLAlchemy on the contract's tables. A generation's lock is a PostgreSQL advisory lock on the very
connection that its writes use: a worker that dies loses both at once, and one that lost its lock can't write.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Text, cast, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from sitegenctl.adapters.postgres_connection import DRIVER_ERRORS, asyncpg_dsn, connect, translate
from sitegenctl.adapters.run_lock import LOCK_SPACE, run_lock_key
from sitegenctl.adapters.schema import site_deliverables, site_generation_logs, site_onboardings, site_orders
from sitegenctl.domain.brief import Brief, TeamMember, Testimonial
from sitegenctl.domain.generation import GenerationRecords
from sitegenctl.domain.order import OrderStatus
from sitegenctl.errors import GenerationError

_UTC_NOW = func.timezone("utc", func.now())
_FAILURE_NOTE = r"^Generation Failed:[^\n]*\n?"


class PostgresGeneration:
    """``GenerationStore`` on PostgreSQL; ``timeout`` is in seconds, for each statement."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self._dsn = asyncpg_dsn(url)
        self._timeout = timeout

    @asynccontextmanager
    async def lock(self, order_id: int) -> AsyncIterator[GenerationRecords | None]:
        """Hold the order's generation lock; None when another generation holds it."""
        async with self._connected() as connection:
            held = await connection.scalar(select(func.pg_try_advisory_lock(LOCK_SPACE, run_lock_key(order_id))))
            try:
                yield _Records(connection) if held else None
            finally:
                if held and not connection.invalidated and not connection.closed:
                    await connection.execute(select(func.pg_advisory_unlock(LOCK_SPACE, run_lock_key(order_id))))

    @asynccontextmanager
    async def records(self) -> AsyncIterator[GenerationRecords]:
        """The records without the lock, for whoever has lost it and must tell why."""
        async with self._connected() as connection:
            yield _Records(connection)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        # An engine for each use: a task runs in an event loop of its own, which its connections die with.
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=lambda: connect(self._dsn, timeout=self._timeout),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
        )
        try:
            async with engine.connect() as connection:
                yield connection
        except SQLAlchemyError as exc:
            raise translate(_driver_s_own(exc)) from exc
        except DRIVER_ERRORS as exc:
            raise translate(exc) from exc
        finally:
            await engine.dispose()


def _driver_s_own(exc: SQLAlchemyError) -> BaseException:
    """What asyncpg raised: SQLAlchemy wraps it in a DBAPI error of its making, and that in its own."""
    wrapped = getattr(exc, "orig", None)
    return getattr(wrapped, "__cause__", None) or wrapped or exc


class _Records:
    """``GenerationRecords`` on one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def status(self, order_id: int) -> OrderStatus | None:
        row = (await self._connection.execute(select(site_orders.c.status).where(site_orders.c.id == order_id))).first()
        if row is None:
            raise GenerationError(f"there is no order {order_id}")
        return OrderStatus(row.status) if row.status in OrderStatus.__members__ else None

    async def brief(self, order_id: int, site_url: str) -> Brief:
        query = select(site_onboardings).where(site_onboardings.c.order_id == order_id)
        row = (await self._connection.execute(query)).mappings().first()
        if row is None:
            raise GenerationError(f"order {order_id} has no onboarding")
        if not row["is_complete"]:
            raise GenerationError(f"the onboarding of order {order_id} is not complete")
        return _brief(order_id, row, site_url)

    async def log(self, order_id: int, step: str, message: str, status: str = "info", **details: Any) -> None:
        # From the orders table, so that a failure of an order that doesn't exist needs no case of its own.
        order = select(site_orders.c.id).where(site_orders.c.id == order_id).subquery()
        await self._write_log(order.c.id, step, message, status, details)

    async def _write_log(
        self, order: ColumnElement[int], step: str, message: str, status: str, details: dict[str, Any]
    ) -> bool:
        """Write a row for the order, if there is one; returns whether there was."""
        values = select(
            order,
            cast(step, site_generation_logs.c.step.type),
            cast(message, Text),
            cast(status, site_generation_logs.c.status.type),
            cast(details or None, site_generation_logs.c.details.type),
        )
        written = await self._connection.execute(
            insert(site_generation_logs).from_select(["order_id", "step", "message", "status", "details"], values)
        )
        return bool(written.rowcount)

    async def has_briefing(self, order_id: int) -> bool:
        query = select(func.count()).where(_is_briefing(order_id))
        return bool(await self._connection.scalar(query))

    async def save_briefing(self, order_id: int, title: str, content: str) -> None:
        values = {"title": title, "content": content, "status": "READY", "updated_at": _UTC_NOW}
        written = await self._connection.execute(
            update(site_deliverables).where(_is_briefing(order_id)).values(**values)
        )
        if not written.rowcount:
            await self._connection.execute(
                insert(site_deliverables).values(
                    order_id=order_id,
                    type="BRIEFING",
                    is_visible_to_client=False,
                    created_at=_UTC_NOW,
                    **values,
                )
            )

    async def finish(self, order_id: int, site_url: str, message: str, **details: Any) -> bool:
        # One statement: a worker that dies leaves no order that is finished while its run is not.
        moved = (
            update(site_orders)
            .where(
                site_orders.c.id == order_id,
                site_orders.c.status.in_([OrderStatus.BUILDING, OrderStatus.GENERATING]),
            )
            .values(
                status=OrderStatus.REVIEW,
                site_url=site_url,
                updated_at=_UTC_NOW,
                admin_notes=func.nullif(func.regexp_replace(site_orders.c.admin_notes, _FAILURE_NOTE, ""), ""),
            )
            .returning(site_orders.c.id)
            .cte("moved")
        )
        return await self._write_log(moved.c.id, "SUCCESS", message, "success", details)

    async def note_failure(self, order_id: int, message: str) -> None:
        others = func.regexp_replace(func.coalesce(site_orders.c.admin_notes, ""), _FAILURE_NOTE, "")
        note = f"Generation Failed: {' '.join(message.split())}"
        await self._connection.execute(
            update(site_orders)
            .where(site_orders.c.id == order_id)
            .values(admin_notes=func.rtrim(func.concat(note, "\n", others), "\n"), updated_at=_UTC_NOW)
        )


def _is_briefing(order_id: int) -> Any:
    return (site_deliverables.c.order_id == order_id) & (site_deliverables.c.type == "BRIEFING")


# The columns of texts and numbers that a brief has under the same names.
_AS_TYPED = (
    "cta_text",
    "business_address",
    "custom_niche",
    "site_objective",
    "site_description",
    "primary_color",
    "secondary_color",
    "accent_color",
    "logo_url",
    "google_reviews_link",
    "about_owner",
    "years_in_business",
    "meta_title",
    "meta_description",
)


def _brief(order_id: int, row: RowMapping, site_url: str) -> Brief:
    social = {
        network: row[f"social_{network}"]
        for network in ("facebook", "instagram", "linkedin", "youtube", "tiktok")
        if row[f"social_{network}"]
    }
    return Brief(
        order_id=order_id,
        business_name=row["business_name"],
        business_email=row["business_email"],
        business_phone=row["business_phone"],
        niche=row["niche"],
        primary_city=row["primary_city"],
        state=row["state"],
        primary_service=row["primary_service"],
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
        **{name: row[name] for name in _AS_TYPED},
    )


# The columns are free JSON: what isn't of the shape that the contract names is left out.
def _texts(value: Any) -> list[str]:
    return [str(item) for item in value if isinstance(item, str | int | float)] if isinstance(value, list) else []


def _texts_by_key(value: Any) -> dict[str, str]:
    return {str(key): str(item) for key, item in value.items() if item} if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
