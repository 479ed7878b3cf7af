"""Seeding: writing the planned sample orders into PostgreSQL, Redis and the directory of sites.

All times come from the servers' own clocks: those of rows from PostgreSQL, those of messages from Redis.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import asyncpg
from sqlalchemy import JSON, Table
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from sitegenctl.adapters.postgres import schema
from sitegenctl.adapters.postgres.errors import DRIVER_ERRORS, translate
from sitegenctl.adapters.postgres.url import asyncpg_dsn
from sitegenctl.config.atomic_write import write_whole
from sitegenctl.demo.samples.businesses import half_filled
from sitegenctl.demo.samples.logs import SampleLog
from sitegenctl.demo.samples.plan import DETAILED_UP_TO, TOUR_ORDER, Manifest, SampleOrder, plan_samples
from sitegenctl.demo.samples.recipes import FOREIGN
from sitegenctl.demo.samples.sites import remove_sites, write_sites
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.orders.operation import new_operation_id
from sitegenctl.domain.orders.order import Onboarding
from sitegenctl.domain.orders.run import OPERATOR_PREFIX
from sitegenctl.session import backend_class

#: The name of the file for the manifest.
MANIFEST = "manifest.json"

# The newest orders always get their sites: they show that the directory is the right one.
_NEWEST = 100
_BATCH_SIZE = 5000

# Order columns are in UTC, log rows in the session's time zone.
_CLOCKS = "SELECT timezone('utc', now()) AS utc, localtimestamp AS local"
_TOUCH = "UPDATE site_orders SET updated_at = timezone('utc', clock_timestamp()) WHERE id = ANY($1::int[])"


def _sample_queue(backend: str) -> ModuleType:
    """Import the module that writes the sample tasks of a backend: each backend needs a library of its own."""
    return importlib.import_module(backend_class(backend).samples)


async def seed(
    *,
    database_url: str,
    redis_url: str,
    sites_dir: Path,
    backend: str = "celery",
    orders: int = 60,
    seed: int = 42,
) -> Manifest:
    """Create the schema and the sample orders, replacing those of an earlier seeding; return the manifest.

    Drops the contract's tables, the demo's queue and its site folders first: never use it on a real system. No worker
    may run. The manifest is written last, beside ``sites_dir``. Above ``DETAILED_UP_TO`` orders, only those created by
    recipe and the newest get their site folders, of 40 kB on disk each.

    Raises ``UsageProblem`` if the number of orders is out of range, ``SourceError`` if a server is unreachable.
    """
    plan = plan_samples(orders, seed)
    queue = _sample_queue(backend)
    manifest_path = sites_dir.parent / MANIFEST
    manifest_path.unlink(missing_ok=True)
    await queue.reset_queue(redis_url, [task.task_id for task in plan.tasks])
    await asyncio.to_thread(remove_sites, sites_dir)
    async with _fresh_schema(database_url) as connection:
        clocks = await connection.fetchrow(_CLOCKS)
        remaining = iter(plan)
        first_site = 1 if orders <= DETAILED_UP_TO else orders - _NEWEST + 1
        while batch := list(itertools.islice(remaining, _BATCH_SIZE)):
            await _insert(connection, batch, clocks)
            with_site = [order for order in batch if order.order_id in plan.crafted or order.order_id >= first_site]
            await asyncio.to_thread(write_sites, sites_dir, with_site)
        await connection.execute("SELECT setval(pg_get_serial_sequence('site_orders', 'id'), $1)", orders)
    await queue.publish_samples(redis_url, plan.tasks, FOREIGN)
    manifest = plan.manifest()
    async with _connected(database_url) as connection:
        # Writing a hundred thousand orders takes longer than the grace period.
        await connection.execute(_TOUCH, manifest.conditions[Condition.SETTLING])
        await connection.execute("ANALYZE")
    await asyncio.to_thread(write_whole, manifest_path, manifest.to_json())
    return manifest


async def restore_order(
    *,
    database_url: str,
    redis_url: str,
    sites_dir: Path,
    manifest: Manifest,
    backend: str = "celery",
) -> None:
    """Restore the order of the tour as it was seeded: row, onboarding, log, deliverables, messages and files.

    No worker may have its task. Raises ``SourceError`` if a server is unreachable.
    """
    order_id = TOUR_ORDER
    order = plan_samples(manifest.orders, manifest.seed).order(order_id)
    queue = _sample_queue(backend)
    await queue.remove_tasks(redis_url, order_id)
    async with _connected(database_url) as connection, connection.transaction():
        for table in ("site_generation_logs", "site_deliverables", "site_onboardings"):
            await connection.execute(f"DELETE FROM {table} WHERE order_id = $1", order_id)  # noqa: S608
        await connection.execute("DELETE FROM site_orders WHERE id = $1", order_id)
        await _insert(connection, [order], await connection.fetchrow(_CLOCKS))
    await asyncio.to_thread(shutil.rmtree, sites_dir / f"project_{order_id}", ignore_errors=True)
    await asyncio.to_thread(write_sites, sites_dir, [order])
    await queue.publish_samples(redis_url, order.tasks)


@asynccontextmanager
async def _connected(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    try:
        connection = await asyncpg.connect(asyncpg_dsn(database_url))
        try:
            yield connection
        finally:
            await connection.close()
    except DRIVER_ERRORS as exc:
        raise translate(exc) from exc


@asynccontextmanager
async def _fresh_schema(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Create the contract's tables again, in one transaction: an interrupted seeding leaves the old ones or none."""

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(asyncpg_dsn(database_url))

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.begin() as transaction:
            await transaction.run_sync(schema.metadata.drop_all)
            await transaction.run_sync(schema.metadata.create_all)
            raw = await transaction.get_raw_connection()
            yield raw.driver_connection
    except DRIVER_ERRORS as exc:
        raise translate(exc) from exc
    finally:
        await engine.dispose()


async def _insert(connection: asyncpg.Connection, orders: Sequence[SampleOrder], clocks: asyncpg.Record) -> None:
    now = clocks["utc"]
    started = [order for order in orders if order.onboarding is not Onboarding.MISSING]
    logs = [
        {**vars(row), "order_id": order.order_id, "created_at": clocks["local"] - timedelta(seconds=row.age)}
        | _operation(row, now)
        for order in orders
        for row in order.logs
    ]
    await _copy(connection, schema.site_orders, [_order_row(order, now) for order in orders])
    await _copy(connection, schema.site_onboardings, [_onboarding_row(order, now) for order in started])
    await _copy(connection, schema.site_deliverables, [_briefing_row(order, now) for order in orders if order.briefing])
    # Ids grow with time, as in a real system.
    await _copy(connection, schema.site_generation_logs, sorted(logs, key=lambda row: row["created_at"]))


def _operation(row: SampleLog, now: datetime) -> dict[str, Any]:
    """The details of a journal row with the id of its operation, which has the time of the row."""
    if not row.step.startswith(OPERATOR_PREFIX):
        return {}
    operation = new_operation_id(now.replace(tzinfo=UTC) - timedelta(seconds=row.age))
    return {"details": {**(row.details or {}), "operation": operation}}


async def _copy(connection: asyncpg.Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """COPY rows of column values. Missing values are NULL, and a missing id is taken from the sequence."""
    if not rows:
        return
    columns = [column for column in table.columns if column.name != "id" or "id" in rows[0]]
    documents = {column.name for column in columns if isinstance(column.type, JSON)}

    def value(row: dict[str, Any], name: str) -> Any:
        is_document = name in documents and row.get(name) is not None
        return json.dumps(row[name], ensure_ascii=False) if is_document else row.get(name)

    names = [column.name for column in columns]
    records = (tuple(value(row, name) for name in names) for row in rows)
    await connection.copy_records_to_table(table.name, columns=names, records=records)


def _order_row(order: SampleOrder, now: datetime) -> dict[str, Any]:
    def at(age: float | None) -> datetime | None:
        return None if age is None else now - timedelta(seconds=age)

    business = order.business
    delivery = timedelta(days=business.order["delivery_days"])
    host = f"{business.slug}-{order.order_id}"
    return {
        **business.order,
        "id": order.order_id,
        "stripe_session_id": f"cs_test_{order.order_id:08d}",
        "stripe_customer_id": f"cus_{order.order_id:08d}",
        "stripe_payment_intent_id": None if order.paid is None else f"pi_{order.order_id:08d}",
        "status": order.status,
        "expected_delivery_date": now + timedelta(seconds=order.due)
        if order.due is not None
        else now - timedelta(seconds=order.created) + delivery,
        "actual_delivery_date": at(order.delivered),
        "site_url": f"https://{host}.sites.example.com" if order.has_site else None,
        "repository_url": f"https://git.example.com/sites/{host}" if order.has_site else None,
        "admin_notes": order.admin_notes,
        "created_at": at(order.created),
        "updated_at": at(order.updated),
        "paid_at": at(order.paid),
        "onboarding_completed_at": at(order.onboarding_completed),
        "delivered_at": at(order.delivered),
    }


def _onboarding_row(order: SampleOrder, now: datetime) -> dict[str, Any]:
    form = order.business.onboarding
    last = order.updated if order.onboarding_completed is None else order.onboarding_completed
    return {
        **(form if order.onboarding is Onboarding.COMPLETE else half_filled(form)),
        "order_id": order.order_id,
        "created_at": now - timedelta(seconds=(order.created + last) / 2),
        "updated_at": now - timedelta(seconds=last),
    }


def _briefing_row(order: SampleOrder, now: datetime) -> dict[str, Any]:
    written = now - timedelta(seconds=order.logs[0].age if order.logs else order.updated)
    form = order.business.onboarding
    return {
        "order_id": order.order_id,
        "type": "BRIEFING",
        "title": f"Briefing: {order.business.name}",
        "content": f"# {order.business.name}\n\n{form['site_description']}\n\n{form['site_objective']}\n",
        "metadata_json": {"niche": form["niche"], "services": form["services"]},
        "status": "READY",
        "is_visible_to_client": False,
        "created_at": written,
        "updated_at": written,
    }
