"""The orders database: reading orders and their log, and applying transitions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import asyncpg

from sitegenctl.adapters.postgres import log, queries, transitions
from sitegenctl.adapters.postgres.access import read_access
from sitegenctl.adapters.postgres.connection import Link, asyncpg_dsn, is_refusal, translating
from sitegenctl.adapters.postgres.locks import MaintenanceLock
from sitegenctl.domain.diagnosis.listing import OrderFilter, OrderQuery
from sitegenctl.domain.health.access import DatabaseAccess, why_not_writable
from sitegenctl.domain.orders.order import LogRow, Order, OrderStatus
from sitegenctl.domain.orders.run import RunCounts
from sitegenctl.domain.orders.run_reader import RunRow
from sitegenctl.domain.plans.plan import Step
from sitegenctl.domain.ports import Actor, TransitionResult
from sitegenctl.domain.statistics.statistics import LogWindow
from sitegenctl.domain.statistics.throughput import StepMark
from sitegenctl.errors import Refused, SourceError, Unconfirmed

#: Orders per query.
_BATCH_SIZE = 2000

# Rows converted before the event loop gets a turn.
_ROWS_PER_TURN = 100


class PostgresOrders:
    """``OrdersStore`` on PostgreSQL. It connects when first used; ``timeout`` is in seconds, for each statement."""

    def __init__(self, url: str, *, timeout: float, read_only: bool = False) -> None:
        dsn = asyncpg_dsn(url)
        # The second one applies transitions while the first one is busy.
        self._links = tuple(Link(dsn, timeout=timeout, read_only=read_only) for _ in range(2))
        self._maintenance = MaintenanceLock(dsn, timeout=timeout)
        self._access: DatabaseAccess | None = None

    async def close(self) -> None:
        """Close the connections, if there are any."""
        for link in self._links:
            await link.close()

    async def read_orders(self, order_ids: Collection[int]) -> dict[int, Order]:
        """Read these orders; missing ones are left out."""
        ids = list(order_ids)
        orders: dict[int, Order] = {}

        async def fetch(batch: Sequence[int]) -> list[asyncpg.Record]:
            # A transaction for each batch, because the time limit is for a statement.
            async with self._reading() as connection:
                return list(await connection.fetch(queries.BY_ID, batch))

        async def convert(rows: Sequence[asyncpg.Record]) -> None:
            for number, row in enumerate(rows):
                orders[row["id"]] = queries.order_of(row)
                if number % _ROWS_PER_TURN == 0:
                    await asyncio.sleep(0)

        rows: list[asyncpg.Record] = []
        for start in range(0, len(ids), _BATCH_SIZE):
            # The database reads one batch while the previous one is converted.
            rows, _ = await asyncio.gather(fetch(ids[start : start + _BATCH_SIZE]), convert(rows))
        await convert(rows)
        return orders

    async def read_open(self, also: Collection[int], only: OrderFilter | None = None) -> dict[int, Order]:
        """Read open orders and these; ``only`` restricts both."""
        async with self._reading() as connection:
            rows = await connection.fetch(queries.OPEN, *queries.restriction(only or OrderFilter()), list(also))
        return {row["id"]: queries.order_of(row) for row in rows}

    async def read_settled(self, query: OrderQuery, *, excluding: Collection[int]) -> list[Order]:
        """Read the first ``offset + limit`` settled orders, sorted and filtered by the query."""
        parameters = (*queries.restriction(query.filter), list(excluding), query.offset + query.limit)
        async with self._reading() as connection:
            ids = [row["id"] for row in await connection.fetch(queries.settled(query), *parameters)]
            rows = await connection.fetch(queries.BY_ID, ids)
        orders = {row["id"]: queries.order_of(row) for row in rows}
        return [orders[order_id] for order_id in ids if order_id in orders]

    async def count_settled(self, only: OrderFilter, *, excluding: Collection[int]) -> int:
        """Count settled orders."""
        async with self._reading() as connection:
            parameters = (*queries.restriction(only), list(excluding))
            return int(await connection.fetchval(queries.COUNT_SETTLED, *parameters))

    async def count_by_status(self) -> dict[OrderStatus | str | None, int]:
        """Count orders by status; an unknown status is given as the database's label."""
        async with self._reading() as connection:
            rows = await connection.fetch(queries.COUNT_BY_STATUS)
        return {queries.status_of(row["status"]) or row["status"]: row["count"] for row in rows}

    async def count_runs(self, window: timedelta) -> RunCounts:
        """Count the runs that ended within the window until now, by the database's clock."""
        async with self._reading() as connection:
            row = await connection.fetchrow(log.COUNT_RUNS, window)
        return RunCounts(succeeded=row["succeeded"], failed=row["failed"], skipped=row["skipped"])

    async def recent_steps(self, window: timedelta, *, after_id: int = 0, limit: int = 10_000) -> list[StepMark]:
        """Read the newest log rows within the window and above ``after_id``, oldest first."""
        async with self._reading() as connection:
            rows = await connection.fetch(log.RECENT_STEPS, window, after_id, limit)
        return [
            StepMark(log_id=row["id"], order_id=row["order_id"], step=row["step"], age=row["age"])
            for row in reversed(rows)
            if row["age"] is not None
        ]

    async def log_window(self, since: timedelta | datetime | None, *, lead: timedelta) -> LogWindow:
        """Find the ids of log rows since a time; see ``OrdersStore``."""
        async with self._reading() as connection:
            return await log.log_window(connection, since, lead=lead)

    async def read_run_rows(self, first_id: int, last_id: int, *, limit: int) -> list[RunRow]:
        """Read the log rows of all orders from one id to another, lowest first."""
        async with self._reading() as connection:
            return await log.read_run_rows(connection, first_id, last_id, limit=limit)

    async def read_log(
        self,
        order_ids: Collection[int],
        *,
        after_id: int = 0,
        last: int | None = None,
        since: timedelta | datetime | None = None,
        levels: Collection[str] | None = None,
        limit: int | None = None,
    ) -> list[LogRow]:
        """Read log rows of these orders in the order of their ids; see ``OrdersStore``."""
        async with self._reading() as connection:
            return await log.read_log(
                connection, order_ids, after_id=after_id, last=last, since=since, levels=levels, limit=limit
            )

    async def existing(self, order_ids: Collection[int]) -> set[int]:
        """Which of these orders exist."""
        return set(await self._read_ids(queries.EXISTING, list(order_ids)))

    async def in_status(self, status: OrderStatus) -> list[int]:
        """The ids of all orders in this status, lowest first."""
        return await self._read_ids(queries.in_status(status))

    async def newest_finished(self, limit: int) -> list[int]:
        """The ids of orders in REVIEW or DELIVERED, newest first."""
        return await self._read_ids(queries.NEWEST_FINISHED, limit)

    async def require_writable(self) -> None:
        """Raise ``SourceError`` or ``Refused`` if orders cannot be changed; see ``OrdersStore``."""
        obstacle = why_not_writable(await self._read_access())
        if obstacle is not None:
            error = Refused if obstacle.is_refusal else SourceError
            raise error(obstacle.message, hint=obstacle.hint, source="database")

    async def is_authoritative(self) -> bool:
        """Whether an order that is missing here does not exist; see ``OrdersStore``."""
        access = self._access or await self._read_access()
        return access.is_authoritative

    async def apply(self, steps: Sequence[Step], actor: Actor) -> TransitionResult:
        """Apply transitions; see ``OrdersStore``."""
        await self._maintenance.require()
        mark = uuid4().hex
        link = await self._free_link()
        try:
            with translating():
                return await transitions.isolate_failures(partial(transitions.apply, link, actor, mark), steps)
        except SourceError as exc:
            with _unless_refused(exc):
                return await transitions.applied(self._links[0], steps, mark, exc.message)

    async def confirm(self, steps: Mapping[int, Step]) -> Mapping[int, str]:
        """Re-check orders after their tasks were revoked; see ``OrdersStore``."""
        with translating():
            return await transitions.confirm(await self._free_link(), steps)

    async def roll_back(self, steps: Mapping[int, Step], actor: Actor, reasons: Mapping[int, str]) -> TransitionResult:
        """Restore the status of these orders and journal why; see ``OrdersStore``."""
        undo = transitions.Rollback(
            actor=actor,
            mark=uuid4().hex,
            reasons=reasons,
            journal_ids={step.order_id: journal_id for journal_id, step in steps.items()},
        )
        link = await self._free_link()
        try:
            with translating():
                return await transitions.isolate_failures(partial(transitions.roll_back, link, undo), [*steps.values()])
        except SourceError as exc:
            with _unless_refused(exc):
                return await transitions.resume_roll_back(self._links[0], undo, [*steps.values()])

    def maintenance_lock(self) -> AbstractAsyncContextManager[bool]:
        """Hold the lock that one maintenance run holds at a time; False if another run holds it."""
        return self._maintenance.held()

    async def require_maintenance_lock(self) -> None:
        """Raise ``SourceError`` if the maintenance lock was taken and is lost; see ``OrdersStore``."""
        await self._maintenance.require()

    async def utc_now(self) -> datetime:
        """Read the database's clock, in UTC."""
        async with self._reading() as connection:
            now: datetime = await connection.fetchval("SELECT clock_timestamp()")
        return now.astimezone(UTC)

    async def _read_access(self) -> DatabaseAccess:
        async with self._reading() as connection:
            self._access = await read_access(connection)
        return self._access

    async def _read_ids(self, query: str, *parameters: object) -> list[int]:
        async with self._reading() as connection:
            return [row["id"] for row in await connection.fetch(query, *parameters)]

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[asyncpg.Connection]:
        with translating():
            async with self._links[0].transaction() as connection:
                yield connection

    async def _free_link(self) -> Link:
        """A connection that is not in use, if there is one; opened, so that later errors are not about connecting."""
        main, other = self._links
        link = other if main.is_busy else main
        with translating():
            await link.open()
        return link


@contextmanager
def _unless_refused(lost: SourceError) -> Iterator[None]:
    """Re-raise a refusal; otherwise the connection was lost and the block finds out what was done.

    Raises ``Unconfirmed`` if the block cannot find out.
    """
    if is_refusal(lost.__cause__):
        raise lost
    try:
        with translating():
            yield
    except SourceError:
        message = f"it is unknown whether the change was made: {lost.message}"
        raise Unconfirmed(message, source=lost.source) from lost
