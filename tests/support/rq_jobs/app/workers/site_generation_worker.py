"""The job of a system that takes no run lock: it journals its run, and waits for a file ``gate`` before it ends.

Runs are written down in a file ``runs``, with those that overlap.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

import asyncpg

from sitegenctl.adapters.postgres.url import asyncpg_dsn


def generate_site_job(order_id: int, resume: bool = True) -> dict[str, object]:
    """Generate an order as the deployed system does."""
    if any(_is_alive(pid) for pid in _unfinished(order_id)):
        _note(f"overlap {order_id} {os.getpid()}")
    _note(f"began {order_id} {os.getpid()}")
    _execute(_LOG, order_id, "START")
    while not Path("gate").exists():
        time.sleep(0.05)
    site = Path(os.environ["SITES_BASE_DIR"]) / f"project_{order_id}"
    site.mkdir(exist_ok=True)
    for number in range(8):
        (site / f"page{number}.html").write_text("<p>page</p>", encoding="utf-8")
    _execute(_LOG, order_id, "SUCCESS")
    _execute("UPDATE site_orders SET status = 'REVIEW', updated_at = timezone('utc', now()) WHERE id = $1", order_id)
    _note(f"ended {order_id} {os.getpid()}")
    return {"success": True, "order_id": order_id}


_LOG = "INSERT INTO site_generation_logs (order_id, step, message) VALUES ($1, $2::text, $2::text)"


def _execute(statement: str, *arguments: object) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(asyncpg_dsn(os.environ["DATABASE_URL"]))
        try:
            await connection.execute(statement, *arguments)
        finally:
            await connection.close()

    asyncio.run(run())


def _note(line: str) -> None:
    with open("runs", "a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def _unfinished(order_id: int) -> set[int]:
    """The processes that began the order and have not ended it."""
    pids: set[int] = set()
    with contextlib.suppress(FileNotFoundError):
        for line in Path("runs").read_text(encoding="utf-8").splitlines():
            what, of, pid = line.split()
            if int(of) == order_id:
                (pids.add if what == "began" else pids.discard)(int(pid))
    return pids


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    return False
