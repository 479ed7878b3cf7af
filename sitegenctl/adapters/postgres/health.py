"""Facts about PostgreSQL for doctor: latency, clock, locks, privileges, and the schema compared with the contract.

SQLAlchemy, which knows the contract's tables, is imported only for the comparison: a quick check does without.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import timedelta

from sitegenctl.adapters.postgres.access import TABLES, read_access
from sitegenctl.adapters.postgres.connection import Database
from sitegenctl.adapters.postgres.queries import NEWEST_FINISHED
from sitegenctl.adapters.postgres.url import asyncpg_dsn
from sitegenctl.domain.health.postgres import PostgresFacts, Schemas, SchemaShape, TableLock

# Transactions that our role may not see have no xact_start: their duration is unknown.
_LOCKS = """
SELECT c.relname AS table_name, a.pid, a.usename, a.application_name, clock_timestamp() - a.xact_start AS open_for
  FROM pg_locks l
  JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
  JOIN pg_class c ON c.oid = l.relation
  JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted AND a.xact_start IS NOT NULL
   AND l.relation IN (SELECT to_regclass(t) FROM unnest($1::text[]) t)
 ORDER BY a.xact_start, c.relname
"""

_FACTS = """
SELECT extract(epoch FROM clock_timestamp())::float8 AS now, current_setting('server_version') AS version,
       array(SELECT t FROM unnest($1::text[]) t WHERE to_regclass(t) IS NULL) AS missing
"""

# to_regclass, so that the search_path selects the table as in every other query.
_COLUMNS = """
SELECT t.name AS table_name, a.attname AS column_name,
       CASE WHEN y.typtype = 'e' THEN y.typname ELSE format_type(a.atttypid, NULL) END AS type
  FROM unnest($1::text[]) AS t(name)
  JOIN pg_attribute a ON a.attrelid = to_regclass(t.name) AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type y ON y.oid = a.atttypid
"""

_LABELS = """
SELECT y.typname AS name, e.enumlabel AS label
  FROM pg_enum e JOIN pg_type y ON y.oid = e.enumtypid
 WHERE y.oid IN (SELECT a.atttypid FROM pg_attribute a
                  WHERE a.attrelid IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS t(name)))
 ORDER BY y.typname, e.enumsortorder
"""


class PostgresHealth:
    """``DatabaseProbe`` on PostgreSQL; ``timeout`` is in seconds, for each call. It never writes."""

    def __init__(self, url: str, *, timeout: float, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._database = Database(asyncpg_dsn(url), timeout=timeout, read_only=True)

    async def close(self) -> None:
        await self._database.close()

    async def facts(self) -> PostgresFacts:
        async with self._database.transaction() as connection:
            began = time.perf_counter()
            await connection.execute("SELECT 1")
            latency = time.perf_counter() - began
            asked, began = self._now(), time.perf_counter()
            row = await connection.fetchrow(_FACTS, list(TABLES))
            took = time.perf_counter() - began
            locks = await connection.fetch(_LOCKS, list(TABLES))
            access = await read_access(connection)
        return PostgresFacts(
            latency=timedelta(seconds=latency),
            version=row["version"].partition(" ")[0],
            offset=timedelta(seconds=row["now"] - (asked + took / 2)),
            access=access,
            missing_tables=tuple(row["missing"]),
            locks=tuple(
                TableLock(
                    table=lock["table_name"],
                    pid=lock["pid"],
                    client=lock["application_name"] or "a client without a name",
                    user=lock["usename"],
                    open_for=lock["open_for"],
                )
                for lock in locks
            ),
        )

    async def schemas(self) -> Schemas:
        expected = await asyncio.to_thread(contract_shape)
        async with self._database.transaction() as connection:
            columns = await connection.fetch(_COLUMNS, list(expected.tables))
            labels = await connection.fetch(_LABELS, list(expected.tables))
        tables: dict[str, dict[str, str]] = defaultdict(dict)
        for row in columns:
            tables[row["table_name"]][row["column_name"]] = row["type"]
        enums: dict[str, tuple[str, ...]] = defaultdict(tuple)
        for row in labels:
            enums[row["name"]] += (row["label"],)
        return Schemas(expected=expected, actual=SchemaShape(tables=dict(tables), enums=dict(enums)))

    async def newest_finished(self, limit: int) -> Sequence[int]:
        return [row["id"] for row in await self._database.fetch(NEWEST_FINISHED, limit)]


def contract_shape() -> SchemaShape:
    """The contract's tables and enums, with PostgreSQL's names of the types."""
    from sqlalchemy import Enum
    from sqlalchemy.dialects import postgresql

    from sitegenctl.adapters.postgres.schema import metadata

    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    tables: dict[str, dict[str, str]] = {}
    enums: dict[str, tuple[str, ...]] = {}
    for table in metadata.tables.values():
        columns = tables[table.name] = {}
        for column in table.columns:
            # As ``format_type`` spells it, without length: ``character varying`` for ``VARCHAR(20)``.
            declared = re.sub(r"\(\d+\)", "", column.type.compile(dialect)).strip()
            columns[column.name] = declared.lower().replace("varchar", "character varying")
            if isinstance(column.type, Enum):
                enums[str(column.type.name)] = tuple(column.type.enums)
    return SchemaShape(tables=tables, enums=enums)
