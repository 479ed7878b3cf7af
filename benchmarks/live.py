"""The live view on a terminal of its own: from key to paint, the first paint, what it takes at rest, and its memory.

Keys are pressed, and paints read, at the other end of a pseudo-terminal, as a person's terminal does. The system has
100,000 orders, 10,000 of them with a task in the queue, and 500 events a second come in; at rest it is a small one.
The hour of events is sent as fast as it is taken.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from redis import Redis

from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.queue import CeleryQueue
from sitegenctl.demo.samples.seed import seed
from sitegenctl.demo.servers.postgres import PrivatePostgres
from sitegenctl.demo.servers.redis import PrivateRedis
from sitegenctl.domain.queue.task import Publication
from tests.support.world import World

ORDERS, QUEUED = 100_000, 10_000
EVENTS_A_SECOND = 500
KEYS = 200
IDLE_SECONDS = 20
SETTLING_SECONDS = 20
HOUR = 3600 * EVENTS_A_SECOND
COLUMNS, LINES = 160, 45

_MORE_ORDERS = """
INSERT INTO site_orders (id, customer_name, customer_email, status, total_price, created_at, updated_at)
SELECT n, 'Customer ' || n, 'c' || n || '@example.com',
       (CASE WHEN n % 10 = 0 THEN 'GENERATING' ELSE 'DELIVERED' END)::siteorderstatus, 499,
       timezone('utc', now()) - n * interval '1 minute', timezone('utc', now()) - n * interval '1 minute'
  FROM generate_series($1::int, $2::int) n
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with (
            PrivateRedis(base / "redis").running() as redis,
            PrivatePostgres(base / "postgres", durable=False).running() as postgres,
        ):
            (base / "sites").mkdir()
            world = World(database_url=postgres.url, redis_url=redis.url, sites_dir=base / "sites")
            asyncio.run(seed(database_url=postgres.url, redis_url=redis.url, sites_dir=world.sites_dir, orders=60))
            _first_paint(world)
            _at_rest(world)
            asyncio.run(_enlarge(world))
            _keys(world)
            _an_hour(world)


class Terminal:
    """The live view on a pseudo-terminal, and what it paints."""

    def __init__(self, world: World) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sitegenctl", "live"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, **world.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
            start_new_session=True,
        )
        os.close(theirs)
        self.painted = b""

    def paint(self, timeout: float) -> bytes:
        """What is painted next; nothing, if nothing is within ``timeout`` seconds."""
        ready, _, _ = select.select([self._ours], [], [], timeout)
        part = os.read(self._ours, 1 << 16) if ready else b""
        self.painted = (self.painted + part)[-(1 << 20) :]
        return part

    def wait_for(self, text: str, timeout: float = 60) -> float:
        """Seconds from the start until the text is painted."""
        until = time.perf_counter() + timeout
        while text.encode() not in re.sub(rb"\x1b\[[0-9;]*m", b"", self.painted):
            assert time.perf_counter() < until, f"{text!r} never came: {self.painted[-2000:]!r}"
            self.paint(0.05)
        return time.perf_counter() - self.began

    def press(self, key: bytes) -> float:
        """Seconds from a key to the paint that follows it."""
        while self.paint(0.005):
            pass  # what is being painted is not for this key
        began = time.perf_counter()
        os.write(self._ours, key)
        assert self.paint(10), "a key that nothing followed"
        return time.perf_counter() - began

    def cpu(self) -> float:
        """Seconds of a processor that it has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Megabytes that it holds."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def close(self) -> None:
        os.write(self._ours, b"q")
        until = time.perf_counter() + 10
        while self.process.poll() is None and time.perf_counter() < until:
            with contextlib.suppress(OSError):
                self.paint(0.05)
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._ours)


@contextlib.contextmanager
def live(world: World) -> Iterator[Terminal]:
    terminal = Terminal(world)
    try:
        yield terminal
    finally:
        terminal.close()


def _first_paint(world: World) -> None:
    painted, known = [], []
    for _ in range(5):
        with live(world) as terminal:
            painted.append(terminal.wait_for("Orders"))
            known.append(terminal.wait_for("by condition"))
            terminal.wait_for("need attention")
    print(f"first paint     {statistics.median(painted) * 1000:6.0f} ms    (to be under 1000)")


def _at_rest(world: World) -> None:
    with live(world) as terminal:
        terminal.wait_for("need attention")
        _paint_for(terminal, 3)
        began, used = time.perf_counter(), terminal.cpu()
        _paint_for(terminal, IDLE_SECONDS)
        share = (terminal.cpu() - used) / (time.perf_counter() - began)
    print(f"at rest         {share:6.1%} of a core    (to be under 3%)")


def _keys(world: World) -> None:
    with live(world) as terminal, _events(world, EVENTS_A_SECOND):
        terminal.wait_for("need attention")
        _paint_for(terminal, 5)
        times = [terminal.press(b"j" if number % 20 < 15 else b"k") for number in range(KEYS)]
        p50, p95 = statistics.median(times), statistics.quantiles(times, n=20)[-1]
    print(f"key to paint    {p95 * 1000:6.0f} ms p95, {p50 * 1000:.0f} ms p50    (p95 to be under 50)")


def _an_hour(world: World) -> None:
    with live(world) as terminal:
        terminal.wait_for("need attention")
        terminal.press(b"4")
        # A real hour has 3600 readings, this one has some forty: the memory of the first few, while an old snapshot
        # and the next exist at once, would be taken for growth.
        with _events(world, EVENTS_A_SECOND):
            _paint_for(terminal, SETTLING_SECONDS)
        held = []
        with Redis.from_url(world.redis_url) as redis:
            message = _message(redis, 100)
            for number in range(HOUR // 100):
                redis.publish(message[0], message[1])
                if number % 50 == 0:
                    # No more than it takes: what is not read in time Redis would drop, connection and all.
                    while _waits(redis) > 1_000_000:
                        _paint_for(terminal, 0.02)
                if number % (HOUR // 100 // 10) == 0:
                    _paint_for(terminal, 0.1)
                    held.append(terminal.memory())
    print(f"memory          {held[1]:6.0f} MB after 6 minutes of events, {held[-1]:.0f} MB after an hour")
    print(f"ratio           {held[-1] / held[1]:6.2f}    (to be flat)")


def _waits(redis: Redis) -> int:
    return max((int(client["omem"]) for client in redis.client_list(_type="pubsub")), default=0)


def _paint_for(terminal: Terminal, seconds: float) -> None:
    until = time.perf_counter() + seconds
    while (left := until - time.perf_counter()) > 0:
        terminal.paint(left)


@contextlib.contextmanager
def _events(world: World, rate: int) -> Iterator[None]:
    """Publish ``rate`` events a second."""
    ended = threading.Event()

    def send() -> None:
        with Redis.from_url(world.redis_url) as redis:
            channel, message = _message(redis, rate // 50)
            while not ended.wait(0.02):
                redis.publish(channel, message)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _message(redis: Redis, count: int) -> tuple[str, str]:
    """Return the channel and a message of ``count`` task events, as a worker sends them."""
    events = [
        {
            "type": "task-started",
            "uuid": f"00000000-0000-4000-8000-{number:012}",
            "hostname": "celery@box",
            "timestamp": time.time(),
            "pid": 1,
            "clock": number,
        }
        for number in range(count)
    ]
    body = base64.b64encode(json.dumps(events).encode()).decode()
    properties = {"body_encoding": "base64"}
    database = redis.connection_pool.connection_kwargs.get("db", 0)
    message = json.dumps({"body": body, "content-type": "application/json", "headers": {}, "properties": properties})
    return f"/{database}.celeryev/task.multi", message


async def _enlarge(world: World) -> None:
    connection = await asyncpg.connect(world.database_url)
    await connection.execute(_MORE_ORDERS, 10_001, 10_000 + ORDERS)
    await connection.execute("ANALYZE")
    await connection.close()
    queue = CeleryQueue(world.redis_url, QueueOptions(), timeout=30)
    now = datetime.now(UTC)
    ids = [number for number in range(10_001, 10_001 + ORDERS) if number % 10 == 0][:QUEUED]
    for start in range(0, len(ids), 1000):
        await queue.publish(
            [
                Publication(task_id=queue.new_task_id(), order_id=order_id, resume=True, actor="bench", enqueued_at=now)
                for order_id in ids[start : start + 1000]
            ]
        )
    await queue.close()


if __name__ == "__main__":
    main()
