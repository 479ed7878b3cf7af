"""The orders database: reading orders and logs, claiming orders, journaling.

How it is reached is in ``postgres_connection``, what it is asked in ``order_queries``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import uuid4

import asyncpg

from sitegenctl.adapters.postgres import queries as order_queries, transitions
from sitegenctl.adapters.postgres.access import read_access
from sitegenctl.adapters.postgres.advisory_lock import MaintenanceLock
from sitegenctl.adapters.postgres.connection import Link, asyncpg_dsn, is_refusal, translating
from sitegenctl.adapters.postgres.log import read_log
from sitegenctl.adapters.postgres.rows import order_of, status_of
from sitegenctl.adapters.postgres.runs import log_window, read_run_rows
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

T = TypeVar("T")

#: Orders read in one query.
_CHUNK = 2000

# Rows taken in before it is seen whether the database has answered.
_SLICE = 100


class PostgresOrders:
    """``OrdersStore`` on PostgreSQL. Connects when first used; ``timeout`` is in seconds, for each call."""

    def __init__(self, url: str, *, timeout: float, read_only: bool = False) -> None:
        dsn = asyncpg_dsn(url)
        # The second is for claiming orders while others are claimed.
        self._links = tuple(Link(dsn, timeout=timeout, read_only=read_only) for _ in range(2))
        self._maintenance = MaintenanceLock(dsn, timeout=timeout)
        self._access: DatabaseAccess | None = None

    async def close(self) -> None:
        """Close the connections, if there are any."""
        for link in self._links:
            await link.close()

    async def read_orders(self, order_ids: Collection[int]) -> dict[int, Order]:
        """Read these orders; those that don't exist are left out."""
        ids = list(order_ids)
        known: dict[int, Order] = {}

        async def fetch(some: Sequence[int]) -> list[asyncpg.Record]:
            # A call of its own each: the time limit is for what one chunk takes.
            async with self._reading() as connection:
                return list(await connection.fetch(order_queries.BY_ID, some))

        async def take_in(rows: Sequence[asyncpg.Record]) -> None:
            for number, row in enumerate(rows):
                known[row["id"]] = order_of(row)
                if number % _SLICE == 0:
                    await asyncio.sleep(0)

        rows: list[asyncpg.Record] = []
        for start in range(0, len(ids), _CHUNK):
            # The database is at a chunk while the one before it is taken in.
            rows, _ = await asyncio.gather(fetch(ids[start : start + _CHUNK]), take_in(rows))
        await take_in(rows)
        return known

    async def read_open(self, also: Collection[int], only: OrderFilter | None = None) -> dict[int, Order]:
        """Read every order that may need somebody, and these, as far as they exist; ``only`` restricts them."""
        restricted = order_queries.restriction(only or OrderFilter())
        async with self._reading() as connection:
            rows = await connection.fetch(order_queries.OPEN, *restricted, list(also))
        return {row["id"]: order_of(row) for row in rows}

    async def read_settled(self, query: OrderQuery, *, excluding: Collection[int]) -> list[Order]:
        """Read the first ``offset + limit`` of the other orders, sorted and filtered as the query says."""
        restricted = order_queries.restriction(query.filter)
        statement = order_queries.settled(query)
        async with self._reading() as connection:
            ids = [
                row["id"]
                for row in await connection.fetch(statement, *restricted, list(excluding), query.offset + query.limit)
            ]
            rows = await connection.fetch(order_queries.BY_ID, ids)
        known = {row["id"]: order_of(row) for row in rows}
        return [known[order_id] for order_id in ids if order_id in known]

    async def count_settled(self, only: OrderFilter, *, excluding: Collection[int]) -> int:
        """How many other orders there are."""
        restricted = order_queries.restriction(only)
        async with self._reading() as connection:
            return int(await connection.fetchval(order_queries.COUNT_SETTLED, *restricted, list(excluding)))

    async def count_by_status(self) -> dict[OrderStatus | str | None, int]:
        """How many orders are in each status; one that is not known is under the database's label for it."""
        async with self._reading() as connection:
            rows = await connection.fetch(order_queries.COUNT_BY_STATUS)
        return {status_of(row["status"]) or row["status"]: row["count"] for row in rows}

    async def count_runs(self, window: timedelta) -> RunCounts:
        """How many runs ended within the window until now, by the database's clock."""
        async with self._reading() as connection:
            row = await connection.fetchrow(order_queries.COUNT_RUNS, window)
        return RunCounts(succeeded=row["succeeded"], failed=row["failed"], skipped=row["skipped"])

    async def recent_steps(self, window: timedelta, *, after_id: int = 0, limit: int = 10_000) -> list[StepMark]:
        """The newest log rows within the window and behind ``after_id``, oldest first; ``limit`` of them at most."""
        async with self._reading() as connection:
            rows = await connection.fetch(order_queries.RECENT_STEPS, window, after_id, limit)
        return [
            StepMark(log_id=row["id"], order_id=row["order_id"], step=row["step"], age=row["age"])
            for row in reversed(rows)
            if row["age"] is not None
        ]

    async def log_window(self, since: timedelta | datetime | None, *, lead: timedelta) -> LogWindow:
        """Find the stretch of the log since then; ``OrdersStore`` has the rest."""
        async with self._reading() as connection:
            return await log_window(connection, since, lead=lead)

    async def read_run_rows(self, first_id: int, last_id: int, *, limit: int) -> list[RunRow]:
        """Read everybody's log rows with these ids, both included, lowest first; ``limit`` of them at most."""
        async with self._reading() as connection:
            return await read_run_rows(connection, first_id, last_id, limit=limit)

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
        """Read log rows with an id above ``after_id``, in the order of their ids; ``OrdersStore`` has the rest."""
        async with self._reading() as connection:
            return await read_log(
                connection, order_ids, after_id=after_id, last=last, since=since, levels=levels, limit=limit
            )

    async def existing(self, order_ids: Collection[int]) -> set[int]:
        """Which of these orders there are."""
        async with self._reading() as connection:
            return {row["id"] for row in await connection.fetch(order_queries.EXISTING, list(order_ids))}

    async def in_status(self, status: OrderStatus) -> list[int]:
        """The numbers of all orders in this status, lowest first."""
        async with self._reading() as connection:
            return [row["id"] for row in await connection.fetch(order_queries.in_status(status))]

    async def newest_finished(self, limit: int) -> list[int]:
        """So many of the orders in REVIEW or DELIVERED, the newest first."""
        async with self._reading() as connection:
            return [row["id"] for row in await connection.fetch(order_queries.NEWEST_FINISHED, limit)]

    async def require_writable(self) -> None:
        """Raise ``SourceError`` or ``Refused`` where orders can't be changed; ``OrdersStore`` has the rest."""
        access = await self._read_access()
        obstacle = why_not_writable(access)
        if obstacle is not None:
            raise (Refused if obstacle.is_refusal else SourceError)(
                obstacle.message, hint=obstacle.hint, source="database"
            )

    async def is_authoritative(self) -> bool:
        """Whether an order that is missing here does not exist; ``OrdersStore`` has the rest."""
        access = self._access or await self._read_access()
        return access.is_authoritative

    async def apply(self, steps: Sequence[Step], actor: Actor) -> TransitionResult:
        """Apply transitions in one transaction; see ``OrdersStore``."""
        await self._maintenance.require()
        mark = uuid4().hex
        return await self._surely(
            lambda link: transitions.apply(link, steps, actor, mark),
            lambda link, lost: transitions.applied(link, steps, mark, lost),
        )

    async def confirm(self, steps: Mapping[int, Step]) -> Mapping[int, str]:
        """Re-check orders after their tasks were revoked; see ``OrdersStore``."""
        with translating():
            return await transitions.confirm(self._aside(), steps)

    async def roll_back(self, steps: Mapping[int, Step], actor: Actor, reasons: Mapping[int, str]) -> TransitionResult:
        """Restore the status of these orders and journal why; see ``OrdersStore``."""
        mark = uuid4().hex
        return await self._surely(
            lambda link: transitions.roll_back(link, steps, actor, reasons, mark),
            lambda link, _: transitions.rolled_back(link, steps, actor, reasons, mark),
        )

    def maintenance_lock(self) -> AbstractAsyncContextManager[bool]:
        """Hold the lock that one maintenance run holds at a time; False when another one has it."""
        return self._maintenance.held()

    async def require_maintenance_lock(self) -> None:
        """Raise ``SourceError`` where the maintenance lock was taken here and is lost; ``OrdersStore`` has the rest."""
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

    async def _surely(self, work: Callable[[Link], Awaitable[T]], look: Callable[[Link, str], Awaitable[T]]) -> T:
        """Do what changes something; where the connection is lost on the way, ``look`` on a new one what took place.

        It is told why the connection was lost. Raises ``Unconfirmed`` where it can't be looked.
        """
        link = self._aside()
        with translating():
            await link.open()
        try:
            with translating():
                return await work(link)
        except SourceError as exc:
            if is_refusal(exc.__cause__):
                raise
            lost = exc
        try:
            with translating():
                return await look(self._links[0], lost.message)
        except SourceError:
            raise Unconfirmed(f"it isn't known whether it was done: {lost.message}", source=lost.source) from lost

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[asyncpg.Connection]:
        """A transaction, when it is this call's turn."""
        with translating():
            async with self._links[0].transaction() as connection:
                yield connection

    def _aside(self) -> Link:
        """The connection that need not be waited for, if there is one."""
        main, other = self._links
        return other if main.is_busy else main
