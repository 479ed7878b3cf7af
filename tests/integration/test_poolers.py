"""Commands behind a real PgBouncer: nothing relies on session state, and no lock stays on a session."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from sitegenctl.adapters.postgres.orders import PostgresOrders
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.plans.plan import Action, Step
from sitegenctl.domain.ports import Actor
from sitegenctl.errors import SourceError
from sitegenctl.session import worker_stores
from sitegenctl.worker.service import GenerationEnd, WorkerContext, generate
from tests.support import generators
from tests.support.faults import held
from tests.support.servers import pgbouncer
from tests.support.world import World, eventually

DEPLOYED = Path(__file__).parents[2] / ".venv-deployed" / "bin" / "python"

ADVISORY = "SELECT pid FROM pg_locks WHERE locktype = 'advisory'"
# The maintenance lock, by the number that it has.
MAINTENANCE = f"{ADVISORY} AND objsubid = 1 AND classid::bigint << 32 | objid::bigint = {int.from_bytes(b'sitegen')}"


@pytest.fixture(params=["transaction", "session"])
def pooled(request: pytest.FixtureRequest, world: World) -> Iterator[World]:
    """The same system, its database reached through PgBouncer."""
    with pgbouncer(world.database_url, request.param) as url:
        yield replace(world, database_url=url)


def run(pooled: World, *arguments: str, in_process: bool = True) -> tuple[int, str]:
    ran = (pooled.run if in_process else pooled.run_process)(*arguments, DATABASE_URL=pooled.database_url)
    return ran.returncode, ran.stdout + ran.stderr


def test_one_of_eight_maintenance_runs_works(world: World, pooled: World) -> None:
    world.order(42)
    world.sql(
        "CREATE FUNCTION wait() RETURNS trigger AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END'"
        " LANGUAGE plpgsql"
    )
    world.sql("CREATE TRIGGER wait BEFORE INSERT ON site_generation_logs FOR EACH ROW EXECUTE FUNCTION wait()")
    maintain = ("--timeout", "60s", "maintain")
    with ThreadPoolExecutor(8) as threads:
        with held(world, "SELECT pg_advisory_lock(1)"):
            working = threads.submit(run, pooled, *maintain, in_process=False)
            # It is in the middle of its first step, and stays there.
            eventually(lambda: world.sql(f"{ADVISORY} AND NOT granted"))
            others = list(threads.map(lambda _: run(pooled, *maintain, in_process=False), range(7)))
            assert [code for code, _ in others] == [6] * 7, others
        code, output = working.result()
    assert code == 0, output
    assert world.steps() == ["OPERATOR_ENQUEUE"]
    assert world.sql(ADVISORY) == []
    assert run(pooled, *maintain)[0] == 0


def test_lock_is_not_left_on_the_pooler_s_connection(world: World, pooled: World) -> None:
    assert [run(pooled, "maintain")[0] for _ in range(3)] == [0, 0, 0]
    assert world.sql(ADVISORY) == []


@pytest.mark.parametrize("read_only", [False, True])
def test_reading_commands(pooled: World, read_only: bool) -> None:
    pooled.order(42, "GENERATING", steps=["START", "ERROR"])
    flags = ["--read-only"] if read_only else []
    code, output = run(pooled, "-o", "json", *flags, "inspect", "42")
    assert (code, json.loads(output)["data"]["condition"]) == (0, "failed")
    for command in (["inspect"], ["inspect", "orders"], ["logs", "42"], ["stats"]):
        code, output = run(pooled, *flags, *command)
        assert code == 0, output


@pytest.mark.parametrize("command", [["doctor"], ["doctor", "--quick"]])
def test_doctor_reaches_the_database(pooled: World, command: list[str]) -> None:
    code, output = run(pooled, "-o", "json", *command)
    checks = {check["name"]: check["status"] for check in json.loads(output)["data"]["checks"]}
    assert checks["postgresql"] == "ok"
    assert code in (0, 5)  # no worker is there


def test_concurrent_commands_share_the_pool(pooled: World) -> None:
    for order_id in range(1, 9):
        pooled.order(order_id)
    with ThreadPoolExecutor(8) as threads:
        # The time limit of a command includes its wait for a connection of the pool.
        enqueue = ("--timeout", "1m", "enqueue")
        ran = threads.map(lambda order_id: run(pooled, *enqueue, str(order_id), in_process=False), range(1, 9))
        assert [code for code, _ in ran] == [0] * 8
    assert pooled.steps(1) == ["OPERATOR_ENQUEUE"]
    assert {pooled.status(order_id) for order_id in range(1, 9)} == {"GENERATING"}


@pytest.mark.parametrize("command", ["enqueue 42", "maintain", "--read-only inspect 42", "logs 42"])
def test_commands_with_the_deployed_driver(pooled: World, command: str) -> None:
    """asyncpg 0.29.0, which the worker's image pins."""
    assert DEPLOYED.exists(), "make .venv-deployed/.installed"
    pooled.order(42)
    ran = subprocess.run(
        [DEPLOYED, "-m", "sitegenctl", *command.split()],
        env={**os.environ, **pooled.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("python", [sys.executable, str(DEPLOYED)], ids=["newest", "deployed"])
def test_reference_worker_behind_the_pooler(world: World, pooled: World, python: str) -> None:
    pooled.order(42)
    pooled.worker(python=python, environ=pooled.environ)
    code, output = run(pooled, "enqueue", "42", "--wait")
    assert code == 0, output
    assert pooled.status() == "REVIEW"
    assert json.loads(pooled.log()[1]["details"])["run_lock"] is True
    assert pooled.steps()[-1] == "SUCCESS"
    eventually(lambda: not world.sql(ADVISORY))
    pooled.close()


def test_read_only_is_enforced_by_the_server(pooled: World) -> None:
    pooled.order(42)
    actor = Actor(user="ana", host="crm", command="enqueue")
    with pytest.raises(SourceError, match="read-only"):
        pooled.with_session(lambda session: session.orders.apply([step(42)], actor), read_only=True)
    assert (pooled.status(), pooled.steps()) == ("BUILDING", [])


def test_lost_maintenance_lock_is_detected(world: World) -> None:
    world.order(42)

    async def scenario() -> None:
        store = PostgresOrders(world.database_url, timeout=5)
        await store.require_maintenance_lock()  # it holds none, and needs none
        async with store.maintenance_lock() as held:
            assert held
            await store.require_maintenance_lock()
            await end_session(world, MAINTENANCE)
            with pytest.raises(SourceError, match="maintenance lock is lost"):
                await store.require_maintenance_lock()
            with pytest.raises(SourceError, match="maintenance lock is lost"):
                await store.apply([step(42)], Actor(user="ana", host="crm", command="maintain"))
        await store.close()

    asyncio.run(scenario())
    assert world.steps() == []


def test_maintenance_lock_outlives_idle_transaction_timeout(world: World) -> None:
    name = world.database_url.rpartition("/")[2]
    world.sql(f"ALTER DATABASE {name} SET idle_in_transaction_session_timeout = '50ms'")

    async def scenario() -> None:
        store = PostgresOrders(world.database_url, timeout=5)
        async with store.maintenance_lock():
            await asyncio.to_thread(world.sql, "SELECT pg_sleep(0.2)")  # four times the limit, by the server's clock
            await store.require_maintenance_lock()
        await store.close()

    asyncio.run(scenario())


def test_run_that_lost_its_lock_writes_nothing(world: World) -> None:
    world.order(42, "GENERATING")

    async def lose() -> None:
        await end_session(world, f"{ADVISORY} AND objsubid = 2")

    def losing(brief):
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, lose()).result()
        return generators.small(brief)

    with pytest.raises(SourceError, match="run lock of order 42 is lost"):
        generation(world, losing)
    assert world.status() == "GENERATING"
    assert world.steps()[-1] == "TEMPLATE_START"


def test_next_run_waits_for_the_previous_write(world: World) -> None:
    """A run that has lost its lock may be in the middle of a write."""
    world.order(42, "GENERATING")
    store, _ = worker_stores(world.settings(timeout="30s"))

    async def scenario() -> None:
        async with store.lock(42) as first:
            assert first is not None
            async with first._writing() as connection:
                await end_session(world, f"{ADVISORY} AND objsubid = 2 AND mode = 'ExclusiveLock'")
                second = asyncio.create_task(begin())
                await asyncio.to_thread(eventually, lambda: world.sql(f"{ADVISORY} AND NOT granted"))
                await connection.execute("UPDATE site_orders SET admin_notes = 'written'")
                assert not second.done()
            await second

    async def begin() -> None:
        async with store.lock(42) as records:
            assert records is not None

    asyncio.run(scenario())


def generation(world: World, generator=generators.small) -> GenerationEnd:
    store, sites = worker_stores(world.settings())
    workshop = WorkerContext(store=store, sites=sites, generator=generator, site_url_base="https://sites.test/")
    return asyncio.run(generate(workshop, 42, resume=True, task_id="task-1")).end


def step(order_id: int) -> Step:
    return Step(
        order_id=order_id,
        action=Action.ENQUEUE,
        before=OrderStatus.BUILDING,
        after=OrderStatus.GENERATING,
        publish="task-1",
        verb="enqueued",
    )


async def end_session(world: World, sessions: str) -> None:
    """Have the server end these sessions, and wait until they are gone."""
    connection = await asyncpg.connect(world.database_url)
    try:
        await connection.execute(f"SELECT pg_terminate_backend(pid, 10000) FROM ({sessions}) s")  # noqa: S608 - constants
    finally:
        await connection.close()
