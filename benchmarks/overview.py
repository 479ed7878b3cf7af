"""`sitegenctl inspect` with 100,000 delivered orders against 1,000, as whole processes, in one run.

What is open and what is live is the same in both; the cost is to depend on that alone. To be at most 1.5 times.
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

from sitegenctl.demo.samples.seed import seed
from sitegenctl.demo.servers.postgres import PrivatePostgres
from sitegenctl.demo.servers.redis import PrivateRedis
from tests.support.world import World

ROUNDS = 9
FEW, MANY = 1_000, 100_000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, PrivateRedis(Path(folder) / "redis").running() as redis:
        worlds: dict[int, World] = {}
        with (
            PrivatePostgres(Path(folder) / "few", durable=False).running() as few,
            PrivatePostgres(Path(folder) / "many", durable=False).running() as many,
        ):
            for number, (orders, postgres) in enumerate({FEW: few, MANY: many}.items(), 1):
                redis_url = f"{redis.url.rsplit('/', 1)[0]}/{number}"
                sites = Path(folder) / f"sites{orders}"
                sites.mkdir()
                worlds[orders] = World(database_url=postgres.url, redis_url=redis_url, sites_dir=sites)
                asyncio.run(seed(database_url=postgres.url, redis_url=redis_url, sites_dir=sites, orders=orders))
            _compare(worlds)


def _compare(worlds: dict[int, World]) -> None:
    times: dict[int, list[float]] = {orders: [] for orders in worlds}
    for _ in range(ROUNDS):
        for orders, world in worlds.items():
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "sitegenctl", "inspect", "-o", "json"],
                check=False,
                capture_output=True,
                env={**os.environ, **world.environ},
            )
            times[orders].append(time.perf_counter() - began)
            assert done.returncode == 0, done.stderr
    medians = {orders: statistics.median(values) for orders, values in times.items()}
    for orders, median in medians.items():
        print(f"{orders:>7} orders  {median * 1000:6.0f} ms, the median of {ROUNDS}")
    print(f"ratio           {medians[MANY] / medians[FEW]:6.2f}    (to be at most 1.5)")


if __name__ == "__main__":
    main()
