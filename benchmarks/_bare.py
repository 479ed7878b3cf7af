"""What `reset-empty --dry-run` can't do without, and nothing else: its query, and a scandir of each folder."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import asyncpg

from sitegenctl.adapters.postgres import queries
from sitegenctl.domain.orders.order import OrderStatus

#: Of the contract.
PROMISES = {"expected_delivery_date": "timestamp", "delivery_days": "integer", "paid_at": "timestamp"}


async def main() -> None:
    base = Path(os.environ["SITES_BASE_DIR"])
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    ids = [row["id"] for row in await connection.fetch(queries.IN_STATUS[OrderStatus.GENERATING])]
    statement = queries.by_id(queries.promise(PROMISES))
    for start in range(0, len(ids), 2000):
        await connection.fetch(statement, ids[start : start + 2000])
    for order_id in ids:
        with os.scandir(base / f"project_{order_id}") as entries:
            sum(entry.is_file(follow_symlinks=False) for entry in entries)
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
