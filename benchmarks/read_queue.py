"""Reading a queue of 100,000 tasks, against a bare LRANGE of it with the same client, in one run.

Printed: the ratio of the times, whole decode included; the memory at its peak, each in a process of its own;
and how long Redis was held up at most, as its own SLOWLOG has it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from redis import Redis

from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.queue import CeleryQueue
from sitegenctl.adapters.redis.connection import open_connection
from sitegenctl.demo.servers.redis import PrivateRedis
from sitegenctl.domain.queue.task import Publication
from tests.support.world import QUEUE

TASKS = 100_000
ROUNDS = 5
SLOW = 2_000  # microseconds: what Redis notes of itself


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        PrivateRedis(Path(folder) / "redis").running() as server,
    ):
        asyncio.run(_publish(server.url))
        with Redis.from_url(server.url) as redis:
            redis.config_set("slowlog-log-slower-than", SLOW)
            redis.slowlog_reset()
            _measure(_read, server.url)
            slow = redis.slowlog_get(100)
        times: dict[str, list[float]] = {"LRANGE": [], "read": []}
        memory: dict[str, int] = {}
        for _ in range(ROUNDS):
            # Alternating, so that whatever else the machine does meets both alike.
            for name, work in (("LRANGE", _lrange), ("read", _read)):
                took, memory[name] = _measure(work, server.url)
                times[name].append(took)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:<8} {median * 1000:6.0f} ms, the median of {ROUNDS}; {memory[name]:5} MB at the peak")
    print(f"{'ratio':<8} {medians['read'] / medians['LRANGE']:6.2f}    (to be at most 3)")
    blocked = max((entry["duration"] for entry in slow), default=0) / 1000
    shown = f"{blocked:6.1f}" if blocked else f" < {SLOW / 1000:.0f}"
    print(f"{'blocked':<8} {shown} ms at most    (to be at most 20)")


async def _publish(url: str) -> None:
    queue = CeleryQueue(url, QueueOptions(), timeout=30)
    now = datetime.now(UTC)
    for first in range(1, TASKS + 1, 1000):
        await queue.publish(
            [
                Publication(task_id=queue.new_task_id(), order_id=number, resume=True, actor="ana@crm", enqueued_at=now)
                for number in range(first, first + 1000)
            ]
        )
    await queue.close()


async def _lrange(url: str) -> int:
    async with open_connection(url, QueueOptions(), timeout=30) as connection:
        (messages,) = await connection.execute(("LRANGE", QUEUE, 0, -1))
    return len(messages)


async def _read(url: str) -> int:
    queue = CeleryQueue(url, QueueOptions(), timeout=30)
    reading = await queue.read()
    await queue.close()
    return len(reading.tasks)


def _measure(work: Callable[[str], Awaitable[int]], url: str) -> tuple[float, int]:
    """Seconds, and megabytes at the peak, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_timed, (work, url))


def _timed(work: Callable[[str], Awaitable[int]], url: str) -> tuple[float, int]:
    async def run() -> float:
        began = time.perf_counter()
        assert await work(url) == TASKS
        return time.perf_counter() - began

    took = asyncio.run(run())
    return took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
