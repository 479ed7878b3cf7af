"""The history of the last hour in a log of 10 million rows against one of a few thousand, in one run.

The last day is the same in both. As whole processes, and each reading alone. To be at most 1.5 times. The number of
rows is the first argument.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from sitegenctl.demo.samples.seed import seed
from sitegenctl.demo.servers.postgres import PrivatePostgres
from sitegenctl.demo.servers.redis import PrivateRedis
from sitegenctl.domain.orders.log import LogLevel, LogQuery
from sitegenctl.domain.orders.operation import new_operation_id
from sitegenctl.domain.statistics.activity import ActivityFilter
from sitegenctl.operations.follow import read_newest
from sitegenctl.operations.history import past
from sitegenctl.session import Session
from tests.support.world import World

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
RUNS_A_DAY, ROWS_OF_A_RUN = 2_000, 10
ROUNDS = 15
BATCH = 1_000_000

# The rows of runs that ended long ago, below the ids of the demo's. One row in ten begins or ends a run.
_OLD = """
INSERT INTO site_generation_logs (id, order_id, step, message, status, created_at)
SELECT n, 1 + n / 10 % 50,
       CASE n % 10 WHEN 0 THEN 'START' WHEN 9 THEN 'SUCCESS' ELSE 'WRITE_PROGRESS' END,
       'Writing the pages of the site', 'info', localtimestamp - interval '2 days' - ($3::int - n) * interval '1 second'
  FROM generate_series($1::int, $2::int) n
"""

_WITHOUT = """
SELECT (SELECT array_agg(format('ALTER TABLE site_generation_logs DROP CONSTRAINT %I', conname))
          FROM pg_constraint WHERE conrelid = 'site_generation_logs'::regclass AND contype = 'f')
    || (SELECT array_agg(format('DROP INDEX %I', indexname))
          FROM pg_indexes WHERE tablename = 'site_generation_logs' AND indexdef LIKE '%(order_id)')
"""

_RECENT = """
INSERT INTO site_generation_logs (order_id, step, message, status, created_at)
SELECT 1 + n / 10 % 50,
       CASE n % 10 WHEN 0 THEN 'START' WHEN 9 THEN 'SUCCESS' ELSE 'WRITE_PROGRESS' END,
       'Writing the pages of the site', 'info', localtimestamp - ($1::int - n) * interval '1 day' / $1::int
  FROM generate_series(1, $1::int) n
"""

_OPERATION = """
INSERT INTO site_generation_logs (order_id, step, message, status, details)
SELECT n, 'OPERATOR_ENQUEUE', 'Enqueued; by ana@crm', 'info', $1::text::json FROM generate_series(1, 50) n
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, PrivateRedis(Path(folder) / "redis").running() as redis:
        worlds: dict[int, World] = {}
        operation = new_operation_id(datetime.now(UTC))
        with (
            PrivatePostgres(Path(folder) / "few", durable=False).running() as few,
            PrivatePostgres(Path(folder) / "many", durable=False).running() as many,
        ):
            for number, (rows, postgres) in enumerate({0: few, ROWS: many}.items(), 1):
                redis_url = f"{redis.url.rsplit('/', 1)[0]}/{number}"
                sites = Path(folder) / f"sites{number}"
                sites.mkdir()
                worlds[rows] = World(database_url=postgres.url, redis_url=redis_url, sites_dir=sites)
                asyncio.run(seed(database_url=postgres.url, redis_url=redis_url, sites_dir=sites, orders=60))
                asyncio.run(_fill(postgres.url, rows, operation))
            _compare(worlds, operation)


async def _fill(url: str, rows: int, operation: str) -> None:
    connection: Any = await asyncpg.connect(url)
    began = time.perf_counter()
    try:
        # The rows of the demo are the newest ones.
        await connection.execute(f"UPDATE site_generation_logs SET id = id + {ROWS}")
        await connection.execute(f"SELECT setval('site_generation_logs_id_seq', {ROWS} + 10000)")
        # Checked and indexed one by one, the rows would take many times as long.
        for statement in await connection.fetchval(_WITHOUT) if rows else ():
            await connection.execute(statement)
        for first in range(1, rows + 1, BATCH):
            await connection.execute(_OLD, first, min(first + BATCH - 1, rows), rows, timeout=600)
        if rows:
            await connection.execute("CREATE INDEX ON site_generation_logs (order_id)", timeout=600)
        await connection.execute(_RECENT, RUNS_A_DAY * ROWS_OF_A_RUN)
        details = {"operation": operation, "actor": "ana", "host": "crm", "command": "enqueue", "before": "BUILDING"}
        await connection.execute(_OPERATION, json.dumps(details))
        await connection.execute("VACUUM ANALYZE site_generation_logs", timeout=600)
        count = await connection.fetchval("SELECT count(*) FROM site_generation_logs", timeout=600)
        size = await connection.fetchval("SELECT pg_size_pretty(pg_total_relation_size('site_generation_logs'))")
        print(f"{count:>10,} log rows, {size}, written in {time.perf_counter() - began:.0f} s")
    finally:
        await connection.close()


def _compare(worlds: dict[int, World], operation: str) -> None:
    readings: dict[str, Callable[[Session], Awaitable[object]]] = {
        "the last hour": lambda session: past(session.orders, timedelta(hours=1), ActivityFilter(), last=200),
        "one operation": lambda session: session.orders.read_operation(operation),
        "newest operation": lambda session: session.orders.newest_operations("ana", limit=1),
        "newest log rows": lambda session: read_newest(session.orders, LogQuery(level=LogLevel.INFO), limit=100),
    }
    commands = {"history --since 1h": ("history", "--since", "1h"), "history ID": ("history", operation)}
    times: dict[str, dict[int, list[float]]] = {name: {rows: [] for rows in worlds} for name in (*commands, *readings)}
    for _ in range(ROUNDS):
        for rows, world in worlds.items():
            for name, words in commands.items():
                began = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, "-m", "sitegenctl", *words, "-o", "json"],
                    check=False,
                    capture_output=True,
                    env={**os.environ, **world.environ},
                )
                times[name][rows].append(time.perf_counter() - began)
                assert done.returncode == 0, done.stderr

            async def read(session: Session, rows: int = rows) -> None:
                await session.orders.require_tables()  # connects
                for name, reading in readings.items():
                    began = time.perf_counter()
                    await reading(session)
                    times[name][rows].append(time.perf_counter() - began)

            world.with_session(read)
    for name, by_rows in times.items():
        few, many = (statistics.median(values) * 1000 for values in by_rows.values())
        print(f"{name:<20} {few:7.1f} ms, {many:7.1f} ms with {ROWS:,} more rows; ratio {many / few:5.2f}")
    print(f"the median of {ROUNDS} (ratios of the history to be at most 1.5)")


if __name__ == "__main__":
    main()
