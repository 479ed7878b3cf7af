"""The orders database through asyncpg: reading orders and logs, claiming orders, journaling.

asyncpg without SQLAlchemy, because every command pays for its imports (SQLAlchemy alone takes longer than the
whole of ``enqueue``). Timestamps are compared in SQL, each with its own clock: order columns are naive UTC,
log rows in the session's time zone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from sitegenctl.adapters import order_queries
from sitegenctl.adapters.postgres_log import read_log
from sitegenctl.domain.listing import OrderFilter, OrderQuery
from sitegenctl.domain.order import JournalEntry, LogRow, Onboarding, Order, OrderStatus
from sitegenctl.domain.overview import RunCounts
from sitegenctl.domain.plan import EnqueueStep
from sitegenctl.domain.ports import Actor, Claim, Release
from sitegenctl.domain.run import OPERATOR_ENQUEUE, OPERATOR_ENQUEUE_FAILED, read_history
from sitegenctl.errors import SourceError, UsageProblem

# NO KEY UPDATE and not UPDATE: a worker's log row takes KEY SHARE on its order and must not wait for us.
_LOCK = "SELECT id FROM site_orders WHERE id = ANY($1::int[]) ORDER BY id FOR NO KEY UPDATE"

# A statement of its own after the lock: in the locking one, a subquery would still see the log as it was
# before the wait.
_SEEN_NOW = """
SELECT o.id, o.status::text AS status,
       coalesce((SELECT max(id) FROM site_generation_logs WHERE order_id = o.id), 0) AS last_log_id
  FROM site_orders o WHERE o.id = ANY($1::int[])
"""

_SET_STATUS = """
UPDATE site_orders o SET status = c.status::siteorderstatus, updated_at = timezone('utc', now())
  FROM unnest($1::int[], $2::text[]) AS c(id, status) WHERE o.id = c.id
"""

# Through the table's own row type, so that it works whether `details` is json or jsonb.
_JOURNAL = """
INSERT INTO site_generation_logs (order_id, step, message, status, details)
SELECT r.order_id, r.step, r.message, r.status, r.details
  FROM json_populate_recordset(NULL::site_generation_logs, $1::json) r
RETURNING id, order_id
"""


#: Orders read in one query.
_CHUNK = 2000


class PostgresOrders:
    """``OrdersStore`` on PostgreSQL. Connects when first used; ``timeout`` is in seconds, for each call."""

    def __init__(self, url: str, *, timeout: float, read_only: bool = False) -> None:
        self._dsn = asyncpg_dsn(url)
        self._timeout = timeout
        self._read_only = read_only
        self._connection: asyncpg.Connection | None = None
        # One connection serves one call at a time.
        self._turn = asyncio.Lock()

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            with suppress(*DRIVER_ERRORS):
                await connection.close(timeout=1)

    async def read_orders(self, order_ids: Collection[int]) -> dict[int, Order]:
        """Read these orders; those that don't exist are left out."""
        ids = list(order_ids)
        known: dict[int, Order] = {}
        for start in range(0, len(ids), _CHUNK):
            # A call of its own each: the time limit is for what one chunk takes.
            async with self._connected() as connection:
                rows = await connection.fetch(order_queries.BY_ID, ids[start : start + _CHUNK])
            known.update((row["id"], _order(row)) for row in rows)
        return known

    async def read_open(self, also: Collection[int], only: OrderFilter | None = None) -> dict[int, Order]:
        """Read every order that may need somebody, and these, as far as they exist; ``only`` restricts them."""
        restricted = order_queries.restriction(only or OrderFilter())
        async with self._connected() as connection:
            rows = await connection.fetch(order_queries.OPEN, *restricted, list(also))
        return {row["id"]: _order(row) for row in rows}

    async def read_settled(self, query: OrderQuery, *, excluding: Collection[int]) -> list[Order]:
        """Read the first ``offset + limit`` of the other orders, sorted and filtered as the query says."""
        restricted = order_queries.restriction(query.filter)
        statement = order_queries.settled(query)
        async with self._connected() as connection:
            ids = [
                row["id"]
                for row in await connection.fetch(statement, *restricted, list(excluding), query.offset + query.limit)
            ]
            rows = await connection.fetch(order_queries.BY_ID, ids)
        known = {row["id"]: _order(row) for row in rows}
        return [known[order_id] for order_id in ids if order_id in known]

    async def count_settled(self, only: OrderFilter, *, excluding: Collection[int]) -> int:
        """How many other orders there are."""
        restricted = order_queries.restriction(only)
        async with self._connected() as connection:
            return int(await connection.fetchval(order_queries.COUNT_SETTLED, *restricted, list(excluding)))

    async def has_finished(self) -> bool:
        """Whether any order is in REVIEW or DELIVERED."""
        async with self._connected() as connection:
            return bool(await connection.fetchval(order_queries.HAS_FINISHED))

    async def count_by_status(self) -> dict[OrderStatus | None, int]:
        """How many orders are in each status."""
        counts: dict[OrderStatus | None, int] = {}
        async with self._connected() as connection:
            for row in await connection.fetch(order_queries.COUNT_BY_STATUS):
                status = _status(row["status"])
                counts[status] = counts.get(status, 0) + row["count"]
        return counts

    async def count_runs(self, window: timedelta) -> RunCounts:
        """How many runs ended within the window until now, by the database's clock."""
        async with self._connected() as connection:
            row = await connection.fetchrow(order_queries.COUNT_RUNS, window)
        return RunCounts(succeeded=row["succeeded"], failed=row["failed"], skipped=row["skipped"])

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
        async with self._connected() as connection:
            return await read_log(
                connection, order_ids, after_id=after_id, last=last, since=since, levels=levels, limit=limit
            )

    async def existing(self, order_ids: Collection[int]) -> set[int]:
        """Which of these orders there are."""
        async with self._connected() as connection:
            return {row["id"] for row in await connection.fetch(order_queries.EXISTING, list(order_ids))}

    async def claim(self, steps: Sequence[EnqueueStep], actor: Actor) -> Claim:
        """In one transaction: lock, re-check, set GENERATING and journal; orders that moved are left alone."""
        moved: dict[int, str] = {}
        journal_ids: dict[int, int] = {}
        async with self._connected() as connection, connection.transaction():
            now = await self._lock(connection, [step.order_id for step in steps])
            still = []
            for step in steps:
                reason = _moved(step, now.get(step.order_id))
                if reason is None:
                    still.append(step)
                else:
                    moved[step.order_id] = reason
            if still:
                await connection.execute(
                    _SET_STATUS, [step.order_id for step in still], [OrderStatus.GENERATING] * len(still)
                )
                entries = [
                    _journal_row(
                        step,
                        OPERATOR_ENQUEUE,
                        f"Enqueued by {actor}",
                        actor,
                        resume=step.resume,
                        before=step.before,
                    )
                    for step in still
                ]
                written = await connection.fetch(_JOURNAL, json.dumps(entries))
                journal_ids = {row["order_id"]: row["id"] for row in written}
        return Claim(journal_ids=journal_ids, moved=moved)

    async def release(self, steps: Mapping[int, EnqueueStep], actor: Actor, reason: str) -> Release:
        """Take claims back: restore each status and journal why; an order that moved since is left alone."""
        async with self._connected() as connection, connection.transaction():
            now = await self._lock(connection, [step.order_id for step in steps.values()])
            still = [
                step
                for journal_id, step in steps.items()
                if now.get(step.order_id) == (OrderStatus.GENERATING, journal_id)
            ]
            if still:
                await connection.execute(
                    _SET_STATUS, [step.order_id for step in still], [step.before for step in still]
                )
                message = f"Not enqueued: {reason}"
                entries = [
                    _journal_row(step, OPERATOR_ENQUEUE_FAILED, message, actor, status="error") for step in still
                ]
                await connection.fetch(_JOURNAL, json.dumps(entries))
        restored = {step.order_id for step in still}
        moved = {
            step.order_id: _moved(replace(step, before=OrderStatus.GENERATING), now.get(step.order_id)) or "it moved"
            for step in steps.values()
            if step.order_id not in restored
        }
        return Release(restored=restored, moved=moved)

    async def _lock(self, connection: asyncpg.Connection, order_ids: list[int]) -> dict[int, tuple[str | None, int]]:
        await connection.fetch(_LOCK, order_ids)
        rows = await connection.fetch(_SEEN_NOW, order_ids)
        return {row["id"]: (row["status"], row["last_log_id"]) for row in rows}

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection]:
        async with self._turn:
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await connect(self._dsn, timeout=self._timeout, read_only=self._read_only)
                yield self._connection
            except DRIVER_ERRORS as exc:
                # After an answer that never came the connection is in an unknown state: the next call gets a new
                # one. After a mere refusal it is as good as before.
                if self._connection is not None and not isinstance(exc, asyncpg.PostgresError):
                    self._connection.terminate()
                    self._connection = None
                raise translate(exc) from exc


#: Everything that asyncpg lets out when a server is away, refuses or answers too late. The internal error is what
#: 0.29 raises for a connection that was cut between two calls.
DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


# The server's own ways of saying that it is away, starting, stopping or full.
_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidCatalogNameError,
)


async def connect(dsn: str, *, timeout: float, read_only: bool = False) -> asyncpg.Connection:
    """Open a connection that answers within ``timeout`` seconds; a read-only one is refused every write."""
    settings = {"application_name": "sitegenctl"}
    if read_only:
        settings["default_transaction_read_only"] = "on"
    return await asyncpg.connect(
        dsn,
        timeout=timeout,
        command_timeout=timeout,
        server_settings=settings,
        # The pooler of a deployment may not keep prepared statements between transactions.
        statement_cache_size=0,
    )


def translate(exc: BaseException) -> SourceError:
    """Say in one line what went wrong with the database."""
    if isinstance(exc, asyncpg.UndefinedTableError | asyncpg.UndefinedColumnError):
        return SourceError(
            f"the database is not an orders database: {exc}",
            hint="check DATABASE_URL: does it name the CRM's database?",
            source="database",
        )
    if isinstance(exc, asyncpg.ReadOnlySQLTransactionError):
        return SourceError("the database refuses writes: it is read-only", source="database")
    reason = "it did not answer in time" if isinstance(exc, TimeoutError) else str(exc) or type(exc).__name__
    first_line = reason.splitlines()[0]
    if isinstance(exc, asyncpg.InvalidAuthorizationSpecificationError):
        return SourceError(
            f"the database refuses the login: {first_line}",
            hint="check user and password in DATABASE_URL",
            source="database",
        )
    if isinstance(exc, asyncpg.PostgresError) and not isinstance(exc, _AWAY):
        return SourceError(f"the database refused: {first_line}", source="database")
    return SourceError(
        f"the database can't be reached: {first_line}",
        hint="is PostgreSQL up, and DATABASE_URL right? (sitegenctl config show)",
        source="database",
    )


def asyncpg_dsn(url: str) -> str:
    """The URL as asyncpg wants it, from one that SQLAlchemy or psycopg2 would take too."""
    parts = urlsplit(url)
    scheme = parts.scheme.partition("+")[0].replace("postgres", "postgresql").replace("postgresqlql", "postgresql")
    if scheme != "postgresql":
        raise UsageProblem(
            "DATABASE_URL is not a PostgreSQL URL", hint="it looks like postgresql://user:password@host:5432/name"
        )
    # SQLAlchemy's asyncpg dialect says `ssl` where libpq says `sslmode`; asyncpg would hand anything that it
    # doesn't know to the server as a setting, and the server would refuse the connection.
    renamed = {"ssl": "sslmode"}
    query = [
        (renamed.get(key, key), value)
        for key, value in parse_qsl(parts.query)
        if key not in {"connect_timeout", "prepared_statement_cache_size", "client_encoding"}
    ]
    return urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(query), ""))


def _moved(step: EnqueueStep, now: tuple[str | None, int] | None) -> str | None:
    if now is None:
        return "it is gone"
    status, last_log_id = now
    if status != step.before:
        return f"it moved meanwhile: {step.before} became {status}"
    if last_log_id != step.last_log_id:
        return "it moved meanwhile: its log has grown"
    return None


def _journal_row(
    step: EnqueueStep, kind: str, message: str, actor: Actor, *, status: str = "info", **details: Any
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
            **details,
        },
    }


def _order(row: asyncpg.Record) -> Order:
    if not row["has_onboarding"]:
        onboarding = Onboarding.MISSING
    else:
        onboarding = Onboarding.COMPLETE if row["is_complete"] else Onboarding.PARTIAL
    return Order(
        order_id=row["id"],
        status=_status(row["status"]),
        customer_name=row["customer_name"],
        customer_email=row["customer_email"],
        business_name=row["business_name"],
        onboarding=onboarding,
        onboarding_completed_at=row["onboarding_completed_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        site_url=row["site_url"],
        admin_notes=row["admin_notes"],
        idle=row["idle"],
        last_log_id=row["last_log_id"] or 0,
        history=read_history(row["steps"] or ()),
        journal=_journal_entry(row["journal_step"], row["journal_details"]),
        last_error=row["last_error"],
    )


def _status(label: str | None) -> OrderStatus | None:
    return OrderStatus(label) if label is not None and label in OrderStatus.__members__ else None


def _journal_entry(step: str | None, details: str | None) -> JournalEntry | None:
    if step is None:
        return None
    facts = json.loads(details) if details else {}
    if not isinstance(facts, dict):
        facts = {}
    return JournalEntry(step=step, task_id=facts.get("task_id"), actor=facts.get("actor"))
