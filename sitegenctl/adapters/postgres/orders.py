"""The orders database: reading orders and their log, and applying transitions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg

from sitegenctl.adapters.postgres import log, queries, transitions
from sitegenctl.adapters.postgres.access import read_access
from sitegenctl.adapters.postgres.connection import Database
from sitegenctl.adapters.postgres.errors import DRIVER_ERRORS, is_refusal
from sitegenctl.adapters.postgres.locks import advisory_lock
from sitegenctl.adapters.postgres.transitions import Change
from sitegenctl.adapters.postgres.url import asyncpg_dsn
from sitegenctl.domain.diagnosis.listing import OrderFilter, OrderQuery
from sitegenctl.domain.health.access import DatabaseAccess, schema_obstacle, why_not_writable
from sitegenctl.domain.orders.operation import JournalRow, Operation, began_at, journal_row, operations_of
from sitegenctl.domain.orders.order import LogRow, Order, OrderStatus
from sitegenctl.domain.orders.promise import PromiseCounts
from sitegenctl.domain.orders.run_reader import RunRow
from sitegenctl.domain.plans.plan import Step
from sitegenctl.domain.ports import Actor, TransitionFailure, TransitionResult
from sitegenctl.domain.statistics.log_window import LogWindow
from sitegenctl.errors import Refused, SourceError, Unconfirmed

#: Orders per query.
_BATCH_SIZE = 2000

# An arbitrary key that other programs are unlikely to use.
_MAINTENANCE_KEY = int.from_bytes(b"sitegen")

# How far the clock of a machine that runs sitegenctl may differ from that of the log, the likely difference first.
_CLOCK_TOLERANCES = (timedelta(minutes=10), timedelta(hours=25))

# Log rows that are searched at once for those of the journal.
_JOURNAL_WINDOW = 20_000

# The newest operations are looked for among this many log rows.
_MAX_JOURNAL = 1_000_000

# Rows converted before the event loop gets a turn.
_ROWS_PER_TURN = 100


class PostgresOrders:
    """``OrdersStore`` on PostgreSQL. It connects when first used; ``timeout`` is in seconds, for each statement."""

    def __init__(self, url: str, *, timeout: float, read_only: bool = False) -> None:
        self._dsn = dsn = asyncpg_dsn(url)
        self._timeout = timeout
        self._main = Database(dsn, timeout=timeout, read_only=read_only)
        # Applies transitions while the main one is busy.
        self._other = Database(dsn, timeout=timeout, read_only=read_only)
        self._access: DatabaseAccess | None = None
        self._lock_holder: asyncpg.Connection | None = None
        # Transitions are applied over two connections at once, and each checks the maintenance lock.
        self._checking_lock = asyncio.Lock()

    async def close(self) -> None:
        await self._main.close()
        await self._other.close()

    async def read_orders(self, order_ids: Collection[int]) -> dict[int, Order]:
        ids = list(order_ids)
        statement = queries.by_id(await self._promise()) if ids else ""
        orders: dict[int, Order] = {}

        async def convert(rows: Sequence[asyncpg.Record]) -> None:
            for number, row in enumerate(rows):
                orders[row["id"]] = queries.order_of(row)
                if number % _ROWS_PER_TURN == 0:
                    await asyncio.sleep(0)

        rows: list[asyncpg.Record] = []
        for start in range(0, len(ids), _BATCH_SIZE):
            # The database reads one batch while the previous one is converted. A transaction for each batch, because
            # the time limit is for a statement.
            reading = self._main.fetch(statement, ids[start : start + _BATCH_SIZE])
            rows, _ = await asyncio.gather(reading, convert(rows))
        await convert(rows)
        return orders

    async def read_open(self, also: Collection[int], only: OrderFilter | None = None) -> dict[int, Order]:
        only = only or OrderFilter()
        statement = queries.open_orders(only, await self._promise())
        rows = await self._main.fetch(statement, *queries.restriction(only), list(also))
        return {row["id"]: queries.order_of(row) for row in rows}

    async def read_settled(self, query: OrderQuery, *, excluding: Collection[int]) -> list[Order]:
        parameters = (*queries.restriction(query.filter), list(excluding), query.offset + query.limit)
        promise = await self._promise()
        async with self._main.transaction() as connection:
            ids = [row["id"] for row in await connection.fetch(queries.settled(query, promise), *parameters)]
            rows = await connection.fetch(queries.by_id(promise), ids)
        orders = {row["id"]: queries.order_of(row) for row in rows}
        return [orders[order_id] for order_id in ids if order_id in orders]

    async def count_settled(self, only: OrderFilter, *, excluding: Collection[int]) -> int:
        statement = queries.count_settled(only, await self._promise())
        ((count,),) = await self._main.fetch(statement, *queries.restriction(only), list(excluding))
        return int(count)

    async def count_promises(self, due_soon: timedelta) -> PromiseCounts | None:
        if not (await self._known_access()).promise_columns:
            return None
        (row,) = await self._main.fetch(queries.count_due(await self._promise()), due_soon)
        return PromiseCounts(**row)

    async def count_by_status(self) -> dict[OrderStatus | str | None, int]:
        rows = await self._main.fetch(queries.COUNT_BY_STATUS)
        return {queries.STATUSES.get(row["status"], row["status"]): row["count"] for row in rows}

    async def recent_steps(self, window: timedelta, *, after_id: int = 0, limit: int = 10_000) -> list[RunRow]:
        rows = await self._main.fetch(log.RECENT_STEPS, window, after_id, limit)
        return [RunRow(**row) for row in reversed(rows) if row["age"] is not None]

    async def log_window(
        self, since: timedelta | datetime | None, *, lead: timedelta, until: timedelta | datetime | None = None
    ) -> LogWindow:
        async with self._main.transaction() as connection:
            clock = await connection.fetchrow(log.BEGINNING, *log.since_parameters(since))
            ids = await connection.fetchrow(log.IDS, clock["since"] - lead)
            window = LogWindow(**clock, **ids, until=clock["read_at"])
            if until is not None:
                end = (await connection.fetchrow(log.BEGINNING, *log.since_parameters(until)))["since"]
                last_id = (await connection.fetchrow(log.IDS, end))["first_id"] - 1
                window = replace(window, until=end, last_id=last_id)
        return window

    async def read_run_rows(
        self, first_id: int, last_id: int, *, limit: int, bounds_only: bool = False
    ) -> list[RunRow]:
        rows = await self._main.fetch(log.RUN_ROWS, first_id, last_id, limit, bounds_only)
        return [RunRow(**row) for row in rows]

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
        statement, number = (log.OLDEST, limit) if last is None else (log.NEWEST, last)
        rows = await self._main.fetch(
            statement,
            list(dict.fromkeys(order_ids)),
            after_id,
            *log.since_parameters(since),
            None if levels is None else list(levels),
            number,
        )
        return [_log_row(row) for row in rows]

    async def read_operation(self, operation: str) -> Operation | None:
        began = began_at(operation)
        for tolerance in _CLOCK_TOLERANCES:
            window = await self.log_window(began - tolerance, until=began + tolerance, lead=timedelta(0))
            first, last = window.first_id, window.last_id
            rows: list[JournalRow] = []
            # A long operation has rows after the window; it ends where many rows in a row are not its own.
            while found := await self._read_journal(first, last, operation):
                rows += found
                first, last = last + 1, last + _JOURNAL_WINDOW
            if rows:
                undos = await self._main.fetch(log.UNDOS, {row.order_id for row in rows}, rows[0].log_id, operation)
                rows += filter(None, map(journal_row, map(_log_row, undos)))
                return operations_of(rows)[0]
        return None

    async def newest_operations(self, actor: str | None = None, *, limit: int = 50) -> list[Operation]:
        newest = high = (await self._main.fetch(log.NEWEST_ID))[0]["id"]
        rows: list[JournalRow] = []
        operations: list[Operation] = []
        size = _JOURNAL_WINDOW
        while high > max(newest - _MAX_JOURNAL, 0) and len(operations) < limit:
            rows[:0] = await self._read_journal(high - size + 1, high)
            operations = [each for each in operations_of(rows) if actor is None or each.actor == actor]
            high, size = high - size, size * 2
        return operations[::-1][:limit]

    async def _read_journal(self, first_id: int, last_id: int, operation: str | None = None) -> list[JournalRow]:
        rows = map(_log_row, await self._main.fetch(log.JOURNAL, first_id, last_id, operation))
        journal = [row for each in rows if (row := journal_row(each)) is not None]
        return [row for row in journal if operation is None or row.operation == operation]

    async def read_all_logs(
        self,
        first_id: int,
        last_id: int,
        *,
        limit: int,
        newest: bool = False,
        levels: Collection[str] | None = None,
        journal_only: bool = False,
    ) -> list[LogRow]:
        wanted = None if levels is None else list(levels)
        rows = await self._main.fetch(log.OF_ALL[newest], first_id, last_id, wanted, journal_only, limit)
        read = [LogRow(**{**row, "details": queries.parse_details(row["details"])}) for row in rows]
        return read[::-1] if newest else read

    async def customers(self, order_ids: Collection[int]) -> dict[int, str]:
        return {row["id"]: row["name"] for row in await self._main.fetch(queries.CUSTOMERS, list(order_ids))}

    async def missed_due_dates(self, order_ids: Collection[int]) -> dict[int, datetime]:
        columns = (await self._known_access()).promise_columns
        if not columns or not order_ids:
            return {}
        statement = queries.due_dates(queries.promise(columns, is_past=True))
        return {row["id"]: row["due_at"] for row in await self._main.fetch(statement, list(order_ids))}

    async def existing(self, order_ids: Collection[int]) -> set[int]:
        return {row["id"] for row in await self._main.fetch(queries.EXISTING, list(order_ids))}

    async def in_status(self, status: OrderStatus) -> list[int]:
        return [row["id"] for row in await self._main.fetch(queries.IN_STATUS[status])]

    async def newest_finished(self, limit: int) -> list[int]:
        return [row["id"] for row in await self._main.fetch(queries.NEWEST_FINISHED, limit)]

    async def require_tables(self) -> None:
        async with self._main.transaction() as connection:
            obstacle = schema_obstacle(await read_access(connection))
        if obstacle is not None:
            raise SourceError(obstacle.message, hint=obstacle.hint, source="database")

    async def recently_finished(self, within: timedelta, *, newest: int = 1000) -> list[int]:
        return [row["id"] for row in await self._main.fetch(log.RECENTLY_FINISHED, within, newest)]

    async def require_writable(self) -> None:
        async with self._main.transaction() as connection:
            self._access = await read_access(connection)
        obstacle = why_not_writable(self._access)
        if obstacle is not None:
            error = Refused if obstacle.is_refusal else SourceError
            raise error(obstacle.message, hint=obstacle.hint, source="database")

    async def is_authoritative(self) -> bool:
        return (await self._known_access()).is_authoritative

    async def _known_access(self) -> DatabaseAccess:
        if self._access is None:
            async with self._main.transaction() as connection:
                self._access = await read_access(connection)
        return self._access

    async def _promise(self) -> str:
        """The join that adds due dates, which depends on the columns that this schema has."""
        return queries.promise((await self._known_access()).promise_columns)

    async def apply(self, steps: Sequence[Step], actor: Actor) -> TransitionResult:
        await self.require_maintenance_lock()
        mark = uuid4().hex
        return await self._write(transitions.changes_of(steps, actor, mark), mark, resume=False)

    async def confirm(self, steps: Mapping[int, Step]) -> Mapping[int, str]:
        return await transitions.confirm(await self._free_connection(), steps)

    async def roll_back(self, steps: Mapping[int, Step], actor: Actor, reasons: Mapping[int, str]) -> TransitionResult:
        mark = uuid4().hex
        return await self._write(transitions.rollbacks_of(steps, actor, mark, reasons), mark, resume=True)

    async def _write(self, changes: Sequence[Change], mark: str, *, resume: bool) -> TransitionResult:
        """Write the changes; if the connection is lost, find by ``mark`` what was done. ``resume`` does the rest."""
        database = await self._free_connection()
        try:
            return await transitions.write(database, changes)
        except SourceError as exc:
            if is_refusal(exc.__cause__):
                raise
            lost = exc
        try:
            journal_ids = await transitions.marked_rows(self._main, changes, mark)
            rest = [change for change in changes if change.order_id not in journal_ids]
            if resume and rest:
                done = TransitionResult(journal_ids=journal_ids)
                return transitions.merged(done, await transitions.write(self._main, rest))
        except SourceError:
            message = f"it is unknown whether the change was made: {lost.message}"
            raise Unconfirmed(message, source=lost.source) from lost
        failure = TransitionFailure(reason=f"{lost.message}; nothing was changed")
        return TransitionResult(journal_ids=journal_ids, failed={change.order_id: failure for change in rest})

    @asynccontextmanager
    async def maintenance_lock(self) -> AsyncIterator[bool]:
        async with advisory_lock(self._dsn, _MAINTENANCE_KEY, timeout=self._timeout) as holder:
            self._lock_holder = holder
            try:
                yield holder is not None
            finally:
                self._lock_holder = None

    async def require_maintenance_lock(self) -> None:
        holder = self._lock_holder
        if holder is None:
            return
        lost: BaseException | None = None
        try:
            async with self._checking_lock:
                await holder.execute("SELECT 1")
        except DRIVER_ERRORS as exc:
            lost = exc
        if lost is not None or not holder.is_in_transaction():
            raise SourceError(
                "the maintenance lock is lost: its connection ended, and another run may have begun",
                hint="run it again; if it happens again, find out what ends idle connections to the database",
                source="database",
            ) from lost

    async def utc_now(self) -> datetime:
        (row,) = await self._main.fetch("SELECT clock_timestamp() AS now")
        now: datetime = row["now"]
        return now.astimezone(UTC)

    async def _free_connection(self) -> Database:
        """The main connection unless it is in use; opened, so that later errors are not about connecting."""
        database = self._other if self._main.turn.locked() else self._main
        async with database.turn:
            await database.open()
        return database


def _log_row(row: asyncpg.Record) -> LogRow:
    return LogRow(**{**row, "details": queries.parse_details(row["details"])})
