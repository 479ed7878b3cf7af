"""Moving 10,000 orders against the straightforward loop, whole processes, in one run.

The loop is what the system's own code would be: with SQLAlchemy's session it reads each order's status, sets it,
commits, and publishes with the task's `delay()`, in one process that has connected before the clock starts. The bare
loop reads nothing: one UPDATE through asyncpg, one `delay()`. `enqueue` and `reset-empty` are measured with their
start-up, both readings of the queue and the journal. The loops against `reset-empty` also count the files of each
order and move its folder. Then memory: the same with 100,000 orders, and `reset-empty --dry-run` against its bare
query and a bare scandir.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import asyncpg
from celery import Celery
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from sitegenctl.adapters.postgres.schema import site_orders
from sitegenctl.demo.servers.postgres import PrivatePostgres
from sitegenctl.demo.servers.redis import PrivateRedis
from tests.support.databases import create_schema
from tests.support.world import QUEUE, TASK, World

ORDERS = 10_000
MANY = 100_000

_ORDERS = """
INSERT INTO site_orders (id, customer_name, customer_email, status, total_price, created_at, updated_at)
SELECT n, 'Ana', 'ana@example.com', $2::text::siteorderstatus, 499, timezone('utc', now()) - interval '3 hours',
       timezone('utc', now()) - interval '3 hours' FROM generate_series(1, $1::int) n
"""
_ONBOARDINGS = """
INSERT INTO site_onboardings (order_id, business_name, business_email, business_phone, niche, primary_city, state,
                              services, primary_service, is_complete)
SELECT n, 'Padaria', 'loja@example.com', '+55', 'RESTAURANT', 'São Paulo', 'SP', '["Pão"]', 'Pão', true
  FROM generate_series(1, $1::int) n
"""
_LOGS = """
INSERT INTO site_generation_logs (order_id, step, message, created_at)
SELECT n, 'START', 'START', localtimestamp - interval '3 hours' FROM generate_series(1, $1::int) n
"""


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
            _enqueue(world)
            _reset_empty(world)
            _dry_run(world)


def _enqueue(world: World) -> None:
    loops = {}
    for name, loop in LOOPS.items():
        _fill(world, ORDERS, "BUILDING")
        loops[name] = _timed(partial(asyncio.run, loop(world, files=False)))
        assert _depth(world) == ORDERS
    _fill(world, ORDERS, "BUILDING")
    ours, small = _command(world, "enqueue", f"1-{ORDERS}")
    assert _depth(world) == ORDERS
    _fill(world, MANY, "BUILDING")
    _, large = _command(world, "enqueue", f"1-{MANY}")
    assert _depth(world) == MANY
    _say("enqueue", loops, ours, small, large)


def _reset_empty(world: World) -> None:
    loops = {}
    for name, loop in LOOPS.items():
        _fill(world, ORDERS, "GENERATING")
        loops[name] = _timed(partial(asyncio.run, loop(world, files=True)))
    _fill(world, ORDERS, "GENERATING")
    ours, small = _command(world, "reset-empty")
    assert _depth(world) == ORDERS
    _fill(world, MANY, "GENERATING", folders=ORDERS)
    _, large = _command(world, "reset-empty")
    assert _depth(world) == MANY
    _say("reset-empty", loops, ours, small, large)


def _dry_run(world: World) -> None:
    """Bare: the command's own query, and a scandir of the same folders, in a process that starts as it does."""
    _fill(world, ORDERS, "GENERATING")
    dry, bare = [], []
    for _ in range(5):
        dry.append(_command(world, "reset-empty", "--dry-run")[0])
        bare.append(_timed(lambda: _run(world, [sys.executable, "-m", "benchmarks._bare"])))
    print(f"reset-empty --dry-run  {min(dry):6.2f} s, bare query and scandir {min(bare):6.2f} s, the best of 5")
    print(f"{'ratio':<22} {min(dry) / min(bare):6.2f}    (to be at most 1.5)")


def _say(name: str, loops: dict[str, float], ours: float, small: int, large: int) -> None:
    print(f"{name:<22} {ours:6.2f} s for {ORDERS}")
    for loop, seconds in loops.items():
        print(f"{loop:<22} {seconds:6.2f} s, {seconds / ours:5.2f} times as long    (to be at least 10)")
    print(f"{'memory':<22} {small / 1024:6.0f} MB for {ORDERS}, {large / 1024:.0f} MB for {MANY}")
    print(f"{'ratio':<22} {large / small:6.2f}    (to be flat)")


async def _loop(world: World, *, files: bool) -> None:
    engine = create_async_engine(world.database_url.replace("postgresql://", "postgresql+asyncpg://"))
    async with AsyncSession(engine) as session:
        await session.execute(select(1))
        await session.commit()
        with _app(world) as app:
            for order_id in range(1, ORDERS + 1):
                asked = select(site_orders.c.status).where(site_orders.c.id == order_id)
                if (await session.execute(asked)).scalar_one() not in ("BUILDING", "GENERATING"):
                    continue
                if files:
                    _throw_away(world, order_id)
                setting = {"status": "GENERATING", "updated_at": datetime.now(UTC).replace(tzinfo=None)}
                await session.execute(update(site_orders).where(site_orders.c.id == order_id).values(setting))
                await session.commit()
                app.tasks[TASK].delay(order_id, resume=True)
    await engine.dispose()


async def _bare_loop(world: World, *, files: bool) -> None:
    connection = await asyncpg.connect(world.database_url)
    with _app(world) as app:
        for order_id in range(1, ORDERS + 1):
            if files:
                _throw_away(world, order_id)
            await connection.execute(
                "UPDATE site_orders SET status = 'GENERATING', updated_at = timezone('utc', now()) WHERE id = $1",
                order_id,
            )
            app.tasks[TASK].delay(order_id, resume=True)
    await connection.close()


LOOPS = {"the loop": _loop, "the bare loop": _bare_loop}


def _app(world: World) -> Celery:
    app = Celery(broker=world.redis_url, set_as_current=False)
    app.conf.task_default_queue = QUEUE

    @app.task(name=TASK, shared=False)  # type: ignore[untyped-decorator]
    def generate(order_id: int, resume: bool = True) -> None:
        raise NotImplementedError

    app.finalize()
    return app


def _throw_away(world: World, order_id: int) -> None:
    trash = world.sites_dir / ".trash"
    trash.mkdir(exist_ok=True)
    if sum(1 for _ in os.scandir(world.site(order_id))) < 5:
        world.site(order_id).rename(trash / f"project_{order_id}.{time.time_ns()}")


def _fill(world: World, orders: int, status: str, *, folders: int | None = None) -> None:
    """Orders from 1 on, three hours old, and for GENERATING ones a folder with two files each."""
    world.sql("TRUNCATE site_orders, site_onboardings, site_generation_logs CASCADE")
    world.sql(_ORDERS, orders, status)
    world.sql(_ONBOARDINGS, orders)
    if status == "GENERATING":
        world.sql(_LOGS, orders)
        for order_id in range(1, (folders or orders) + 1):
            if not world.site(order_id).exists():
                world.files(order_id, 2)
    world.sql("ANALYZE")
    with world.redis() as client:
        client.flushdb()


def _depth(world: World) -> int:
    with world.redis() as client:
        return int(client.llen(QUEUE))


def _command(world: World, *arguments: str) -> tuple[float, int]:
    """Seconds, and the most memory it had, in kilobytes."""
    command = [sys.executable, "-m", "sitegenctl", *arguments, "--yes", "--timeout", "60s"]
    began = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, **world.environ}
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    assert process.stderr is not None
    with process.stderr:
        assert os.waitstatus_to_exitcode(status) == 0, process.stderr.read().decode()
    return seconds, usage.ru_maxrss


def _run(world: World, command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **world.environ})


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
