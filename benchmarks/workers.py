"""`sitegenctl inspect workers` against `celery inspect ping`, each as a whole process, in one run.

Both ask the same three workers in the same Redis. Printed as a ratio: how many times faster it is.
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
from tests.support.world import World

WORKERS = 3
ROUNDS = 7


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with (
            PrivateRedis(base / "redis").running() as redis,
            PrivatePostgres(base / "postgres", durable=False).running() as postgres,
        ):
            asyncio.run(create_schema(postgres.url))
            (base / "sites").mkdir()
            world = World(database_url=postgres.url, redis_url=redis.url, sites_dir=base / "sites")
            os.environ.update(world.environ)
            try:
                for _ in range(WORKERS):
                    world.worker("-c", "1")
                _compare(world)
            finally:
                world.close()


def _compare(world: World) -> None:
    python = [sys.executable, "-m"]
    commands = {
        "celery inspect ping": [*python, "celery", "-b", world.redis_url, "inspect", "ping"],
        "inspect workers": [*python, "sitegenctl", "inspect", "workers"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        # Alternating, so that whatever else the machine does meets both alike.
        for name, command in commands.items():
            times[name].append(_timed(command))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:<20} {median * 1000:6.0f} ms, the median of {ROUNDS}")
    print(
        f"{'times faster':<20} {medians['celery inspect ping'] / medians['inspect workers']:6.2f}    (to be at least 5)"
    )


def _timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
