"""`sitegenctl enqueue` against `celery call`, each as a whole process, in one run.

Both publish the same task to the same Redis in the same environment; `enqueue` also locks, checks and journals
in PostgreSQL. Printed as a ratio: below 1 is faster than `celery call`.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sitegenctl.demo.servers.postgres import PrivatePostgres
from sitegenctl.demo.servers.redis import PrivateRedis
from tests.support.databases import create_schema
from tests.support.world import QUEUE, TASK, World

ROUNDS = 15


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with (
            PrivateRedis(base / "redis").running() as redis,
            PrivatePostgres(base / "postgres").running() as postgres,
        ):
            asyncio.run(create_schema(postgres.url))
            (base / "sites").mkdir()
            world = World(database_url=postgres.url, redis_url=redis.url, sites_dir=base / "sites")
            for order_id in range(1, ROUNDS + 1):
                world.order(order_id)
            _compare(world)


def _compare(world: World) -> None:
    python = [sys.executable, "-m"]
    call = [*python, "celery", "-b", world.redis_url, "call", TASK, "--args", "[1]", "--queue", QUEUE]
    times: dict[str, list[float]] = {"celery call": [], "enqueue": []}
    for order_id in range(1, ROUNDS + 1):
        # Alternating, so that whatever else the machine does meets both alike.
        times["celery call"].append(_timed(call, world))
        times["enqueue"].append(_timed([*python, "sitegenctl", "enqueue", str(order_id)], world))
        with world.redis() as client:
            client.delete(QUEUE)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:<12} {median * 1000:6.0f} ms, the median of {ROUNDS}")
    print(f"{'ratio':<12} {medians['enqueue'] / medians['celery call']:6.2f}    (to be at most 0.6)")


def _timed(command: list[str], world: World) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **world.environ})
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
