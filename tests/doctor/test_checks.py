"""Each check on real servers and real workers: where it passes, and where it fails for its real reason."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from celery import Celery

from sitegenctl.adapters.celery_options import QueueOptions
from sitegenctl.adapters.postgres_health import PostgresHealth
from sitegenctl.adapters.redis_health import RedisHealth
from sitegenctl.domain.health import CheckName, CheckStatus
from sitegenctl.domain.health_servers import judge_clocks
from sitegenctl.domain.health_work import BEAT_TASK
from sitegenctl.domain.probes import RedisFacts
from tests.doctor.conftest import NOBODY, OTHER_TASK, RIGHT, WRONG_QUEUE, WRONG_TASK, check_up_of, examine
from tests.world import QUEUE, TASK, World, eventually

OK, WARNING, FAILED, UNCHECKED = CheckStatus.OK, CheckStatus.WARNING, CheckStatus.FAILED, CheckStatus.UNCHECKED
OnStage = Callable[[int], World]
NOWHERE = "redis://127.0.0.1:1/0"


def test_a_healthy_system_passes_every_check(on_stage: OnStage) -> None:
    world = on_stage(RIGHT)
    world.order(41, "REVIEW", files=8)
    found = check_up_of(world)
    assert {check.name: check for check in found.checks if check.status is not OK} == {}
    assert [check.name for check in found.checks] == list(CheckName)
    assert (found.exit_code, found.summary) == (0, f"healthy: {len(CheckName)} checks passed")


def test_a_check_up_leaves_redis_as_it_was(on_stage: OnStage) -> None:
    idle = on_stage(NOBODY)
    idle.publish(42)
    idle.publish(43)
    idle.deliver()
    with idle.redis() as client:
        before = {key: client.dump(key) for key in client.scan_iter()}
        examine(idle)
        assert {key: client.dump(key) for key in client.scan_iter()} == before
    # A worker that answers writes on its own account, too: here only what is left over counts.
    answered = on_stage(RIGHT)
    with answered.redis() as client:
        examine(answered)
        assert [key for key in client.scan_iter("*reply*") if client.type(key) == b"list"] == []
        assert client.smembers("_kombu.binding.reply.celery.pidbox") == set()


# --- workers --------------------------------------------------------------------------------------------------


def test_a_worker_on_another_queue_is_named_with_what_it_consumes(on_stage: OnStage) -> None:
    world = on_stage(WRONG_QUEUE)
    world.publish(42)
    began = time.monotonic()
    found = examine(world, patience="0.5s")
    assert time.monotonic() - began > 0.5  # it was looked at twice
    assert found[CheckName.WORKER].status is OK
    assert found[CheckName.WORKER_QUEUE].status is FAILED
    assert found[CheckName.WORKER_QUEUE].evidence[1] == "they consume other_queue instead"
    # Connected, idle, and the message lies there: the queue does not move.
    assert found[CheckName.PROGRESS].status is FAILED
    assert "1 message waits, and 1 idle worker took none" in found[CheckName.PROGRESS].evidence[0]
    # This worker's visibility timeout is shorter than a generation may take.
    assert found[CheckName.VISIBILITY].status is FAILED
    assert "300 s is not longer than the hard limit of 600 s" in found[CheckName.VISIBILITY].evidence[0]


def test_the_remedy_for_another_queue_mends_it(on_stage: OnStage) -> None:
    world = on_stage(WRONG_QUEUE)
    remedy = examine(world)[CheckName.WORKER_QUEUE].remedy
    assert remedy is not None
    command = remedy.partition("   ")[0].replace("celery ", f"{sys.executable} -m celery ", 1)
    try:
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=os.environ)
        assert done.returncode == 0, done.stdout + done.stderr
        assert examine(world)[CheckName.WORKER_QUEUE].status is OK
    finally:
        with Celery(broker=world.redis_url, set_as_current=False) as app:
            app.control.cancel_consumer(QUEUE)
        eventually(lambda: examine(world)[CheckName.WORKER_QUEUE].status is FAILED)


def test_a_worker_without_the_task_is_named_with_what_it_has(on_stage: OnStage) -> None:
    found = examine(on_stage(WRONG_TASK))
    assert found[CheckName.WORKER_QUEUE].status is OK
    assert found[CheckName.WORKER_TASK].status is FAILED
    assert TASK in found[CheckName.WORKER_TASK].evidence[0]
    assert found[CheckName.WORKER_TASK].evidence[1] == f"registered instead: {OTHER_TASK}"
    # Its limits are those of the pool: the task that has its own isn't there.
    assert found[CheckName.LIMITS].status is OK


def test_a_worker_on_another_database_number_is_said_to_be_there(on_stage: OnStage) -> None:
    found = examine(on_stage(NOBODY))
    assert found[CheckName.WORKER].status is FAILED
    assert found[CheckName.WORKER].evidence[0] == "no worker on database 3, but on database 0, 1, 2 of the same Redis"
    for name in (CheckName.WORKER_QUEUE, CheckName.WORKER_TASK, CheckName.LIMITS, CheckName.VISIBILITY):
        assert found[name].status is UNCHECKED


def test_a_worker_with_other_limits_and_one_that_hangs(on_stage: OnStage, tmp_path: Path) -> None:
    world = on_stage(NOBODY + 1)
    script = tmp_path / "odd.py"
    script.write_text(
        "import sys\n"
        "from sitegenctl.settings import load_settings\n"
        "from sitegenctl.worker import celery_app\n"
        "celery_app.HARD_LIMIT, celery_app.SOFT_LIMIT = 7000, None\n"
        "app = celery_app.make_app(load_settings({}))\n"
        # The task's own limits hold, not the pool's.
        "options = ['--time-limit', '9999', '-c', '1', '--without-mingle', '--without-gossip', '-n', 'odd@crm']\n"
        "app.worker_main(['worker', *options])\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        start_new_session=True,
    )
    world._processes.append(process)
    try:
        eventually(world.worker_names)
        found = examine(world)
        assert found[CheckName.LIMITS].status is WARNING
        assert found[CheckName.LIMITS].evidence[0] == "none soft, 7000 s hard; the system has 540 s and 600 s"
        assert found[CheckName.VISIBILITY].status is FAILED
        os.killpg(process.pid, signal.SIGSTOP)  # connected, and silent
        found = examine(world, timeout="0.5s")
        assert found[CheckName.WORKER].status is FAILED
        assert "1 of 1 connected worker did not answer" in found[CheckName.WORKER].evidence[0]
        assert found[CheckName.LIMITS].status is UNCHECKED
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# --- Redis ----------------------------------------------------------------------------------------------------


def test_a_redis_without_persistence_is_unwise(world: World) -> None:
    found = examine(world)
    assert found[CheckName.REDIS].status is OK
    assert found[CheckName.PERSISTENCE].status is WARNING
    assert "the queue dies with Redis" in found[CheckName.PERSISTENCE].evidence[0]


def test_the_remedies_for_persistence_and_eviction_mend_them(on_stage: OnStage) -> None:
    world = on_stage(NOBODY)
    with world.redis() as client:
        try:
            client.config_set("appendonly", "no")
            client.config_set("save", "3600 1")
            client.config_set("maxmemory", "200mb")
            client.config_set("maxmemory-policy", "allkeys-lru")
            found = examine(world)
            assert "snapshots only" in found[CheckName.PERSISTENCE].evidence[0]
            assert found[CheckName.EVICTION].status is WARNING
            assert "allkeys-lru with maxmemory 200 MB" in found[CheckName.EVICTION].evidence[0]
            for name in (CheckName.PERSISTENCE, CheckName.EVICTION):
                words = (found[name].remedy or "").partition("   ")[0].split()
                assert words[:3] == ["redis-cli", "-u", '"$REDIS_URL"']
                client.execute_command(*words[3:])
            found = examine(world)
            assert (found[CheckName.PERSISTENCE].status, found[CheckName.EVICTION].status) == (OK, OK)
        finally:
            client.config_set("appendonly", "yes")
            client.config_set("save", "")
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")


def test_a_user_who_may_not_ask_leaves_unchecked_what_he_may_not_see(on_stage: OnStage) -> None:
    world = on_stage(RIGHT)
    with world.redis() as client:
        client.execute_command("ACL", "SETUSER", "clerk", "on", ">pw", "~*", "&*", "+@all", "-client", "-config")
        client.execute_command("CONFIG", "SET", "appendonly", "no")
        try:
            world.redis_url = f"redis://clerk:pw@{world.redis_url.split('@')[1]}"
            found = examine(world)
            assert found[CheckName.REDIS].status is OK
            assert found[CheckName.PERSISTENCE].status is UNCHECKED
            assert found[CheckName.WORKER].status is OK  # it was asked itself
        finally:
            client.execute_command("CONFIG", "SET", "appendonly", "yes")
            client.execute_command("ACL", "DELUSER", "clerk")


def test_leftover_reply_lists_are_counted_and_the_young_are_not(on_stage: OnStage) -> None:
    world = on_stage(NOBODY + 2)
    with world.redis() as client:
        client.lpush("young.reply.celery.pidbox", "reply")
        assert examine(world)[CheckName.LEFTOVERS].status is OK
        dumped = client.dump("young.reply.celery.pidbox")
        assert dumped is not None
        client.restore("old.reply.celery.pidbox", 0, dumped, idletime=3600)
        check = examine(world)[CheckName.LEFTOVERS]
        assert (check.status, check.evidence) == (WARNING, ("1 reply list of clients that are gone",))
        client.flushdb()


def test_messages_that_are_not_json_are_told_with_what_they_are(on_stage: OnStage) -> None:
    world = on_stage(NOBODY)
    world.publish(42)
    assert examine(world)[CheckName.SERIALIZATION].status is OK
    with Celery(broker=world.redis_url, set_as_current=False) as app:
        app.send_task(TASK, args=[43], queue=QUEUE, serializer="pickle")
    check = examine(world)[CheckName.SERIALIZATION]
    assert check.status is FAILED
    assert check.evidence[0] == "1 of 2 messages not JSON: application/x-python-serialize (1)"


def test_an_eta_beyond_the_visibility_timeout_would_run_twice(on_stage: OnStage) -> None:
    def delivered(**eta: float) -> World:
        # As if another worker had it: the stage's own would hold it for the tests that follow.
        elsewhere = on_stage(NOBODY)
        elsewhere.publish(42, eta=datetime.now(UTC) + timedelta(**eta))
        elsewhere.deliver()
        with elsewhere.redis() as client:
            held = client.hgetall("unacked")
        world = on_stage(RIGHT)
        with world.redis() as client:
            client.hset("unacked", mapping=held)
        return world

    assert examine(delivered(minutes=30))[CheckName.VISIBILITY].status is OK
    check = examine(delivered(hours=2))[CheckName.VISIBILITY]
    assert check.status is FAILED
    assert "not longer than the longest ETA" in check.evidence[0]


def test_beats_messages_in_the_queue_show_that_it_runs(on_stage: OnStage) -> None:
    world = on_stage(NOBODY)
    world.order(1)
    check = examine(world)[CheckName.BEAT]
    assert (check.status, check.evidence) == (
        UNCHECKED,
        ("no worker could tell whether its task comes through",),
    )
    with Celery(broker=world.redis_url, set_as_current=False) as app:
        app.send_task(BEAT_TASK, queue=QUEUE)
    assert examine(world)[CheckName.BEAT].status is OK


# --- PostgreSQL -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "status", "difference"),
    [
        (
            "ALTER TABLE site_orders DROP COLUMN paid_at",
            FAILED,
            "site_orders has no column paid_at (timestamp without time zone)",
        ),
        ("DROP TABLE site_deliverables", FAILED, "there is no table site_deliverables"),
        (
            "ALTER TABLE site_orders ALTER COLUMN delivery_days TYPE bigint",
            FAILED,
            "site_orders.delivery_days is bigint, not integer",
        ),
        ("ALTER TYPE sitecta RENAME VALUE 'FORM' TO 'FORMULAR'", FAILED, "enum sitecta lacks the label FORM"),
        ("ALTER TYPE siteorderstatus ADD VALUE 'REFUNDED'", WARNING, "enum siteorderstatus has the label REFUNDED"),
        ("ALTER TABLE site_generation_logs ALTER COLUMN details TYPE jsonb", OK, "as the contract"),
        ("ALTER TABLE site_orders ADD COLUMN coupon text", OK, "as the contract"),
    ],
    ids=["column", "table", "type", "label", "extra label", "jsonb", "extra column"],
)
def test_a_schema_other_than_the_contract_is_told_in_detail(
    world: World, statement: str, status: CheckStatus, difference: str
) -> None:
    world.sql(statement)
    check = examine(world)[CheckName.SCHEMA]
    assert check.status is status
    assert difference in check.evidence[0]


def test_a_database_without_the_tables_is_not_an_orders_database(world: World) -> None:
    world.sql("ALTER TABLE site_generation_logs RENAME TO elsewhere")
    check = examine(world)[CheckName.POSTGRES]
    assert (check.status, check.evidence[0]) == (FAILED, "it has no table site_generation_logs")


@pytest.mark.parametrize(("wrong_by", "status"), [(0, OK), (10, WARNING), (3600, FAILED)])
def test_a_wrong_clock_of_this_machine_is_noticed(world: World, wrong_by: float, status: CheckStatus) -> None:
    async def offsets() -> dict[str, timedelta | None]:
        def clock() -> float:
            return time.time() - wrong_by

        database = PostgresHealth(world.database_url, timeout=5, now=clock)
        broker = RedisHealth(world.redis_url, QueueOptions(), timeout=5, now=clock)
        try:
            return {"PostgreSQL": (await database.facts()).offset, "Redis": (await broker.facts()).offset}
        finally:
            await database.close()
            await broker.close()

    assert examine(world)[CheckName.CLOCKS].status is OK
    check = judge_clocks(asyncio.run(offsets()))
    assert check.status is status
    if status is not OK:
        assert "PostgreSQL is" in check.evidence[0]
        assert check.remedy == "set the clock of this machine: chronyc makestep"


# --- orders ---------------------------------------------------------------------------------------------------


def test_orders_that_nobody_enqueued_mean_that_the_backend_does_not(world: World) -> None:
    world.order(1, age="10 seconds")
    assert examine(world)[CheckName.BACKEND].status is OK
    world.order(2)
    world.order(3)
    world.order(4, "GENERATING", steps=["START", "ERROR"])
    world.publish(3)
    found = examine(world)
    assert found[CheckName.BACKEND].status is FAILED
    assert found[CheckName.BACKEND].evidence[0] == "1 order is ready, the oldest for 3h, and nobody enqueued it"
    assert found[CheckName.BACKEND].remedy == "sitegenctl enqueue 2"
    assert found[CheckName.ORDERS].status is FAILED
    assert "2 of 4 open orders in fault" in found[CheckName.ORDERS].evidence[0]
    assert {"1 failed", "1 unstarted"} <= set(found[CheckName.ORDERS].evidence[0].partition(": ")[2].split(", "))


# --- files ----------------------------------------------------------------------------------------------------


def test_a_directory_that_the_workers_do_not_write_is_recognised(world: World) -> None:
    world.order(1, "REVIEW", files=8)
    world.order(2, "DELIVERED", files=8)
    found = examine(world)
    assert (found[CheckName.DIRECTORY].status, found[CheckName.FINISHED_SITES].status) == (OK, OK)
    world.sites_dir = world.sites_dir.parent / "elsewhere"
    world.sites_dir.mkdir()
    check = examine(world)[CheckName.FINISHED_SITES]
    assert check.status is FAILED
    assert "it is not the directory that the workers write" in check.evidence[1]
    world.order(3, "REVIEW", files=8)
    check = examine(world)[CheckName.FINISHED_SITES]
    assert (check.status, check.remedy) == (FAILED, "sitegenctl inspect 2")


def test_a_directory_that_is_not_there_leaves_the_rest_unchecked(world: World) -> None:
    world.sites_dir = world.sites_dir / "unmounted"
    found = check_up_of(world)
    statuses = {check.name: check.status for check in found.checks}
    assert found.exit_code == 3
    assert statuses[CheckName.DIRECTORY] is FAILED
    assert (statuses[CheckName.FINISHED_SITES], statuses[CheckName.DISK]) == (UNCHECKED, UNCHECKED)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_directory_that_this_user_may_not_write(world: World) -> None:
    world.sites_dir.chmod(0o755)
    script = (
        "import asyncio, os, sys, dataclasses, json; from pathlib import Path\n"
        "from sitegenctl.adapters.site_health import SiteHealth\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "facts = asyncio.run(SiteHealth(Path(sys.argv[1])).facts())\n"
        "print(json.dumps([facts.readable, facts.writable]))\n"
    )
    temporary = Path(tempfile.gettempdir())
    for folder in world.sites_dir.parents:
        if folder.is_relative_to(temporary) and folder != temporary:
            folder.chmod(0o755)

    def rights() -> list[bool]:
        done = subprocess.run([sys.executable, "-c", script, str(world.sites_dir)], capture_output=True, check=True)
        return list(json.loads(done.stdout))

    assert rights() == [True, False]
    world.sites_dir.chmod(0o700)
    assert rights() == [False, False]
    world.sites_dir.chmod(0o777)
    assert rights() == [True, True]


def test_a_full_disk_is_told_before_the_next_site_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine(world)[CheckName.DISK].status is OK
    real = os.statvfs(world.sites_dir)
    # A real full file system needs rights that a test has not: it tells its room by this call.
    full = os.statvfs_result((*real[:3], 0, 0, *real[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    assert examine(world)[CheckName.DISK].status is FAILED


# --- sources that are down ------------------------------------------------------------------------------------


def test_without_redis_what_needs_it_is_unchecked_and_never_passes(world: World) -> None:
    world.order(1)
    world.redis_url = NOWHERE
    found = check_up_of(world)
    assert found.exit_code == 3
    by_status = {status: {check.name for check in found.checks if check.status is status} for status in CheckStatus}
    assert by_status[FAILED] == {CheckName.REDIS}
    assert by_status[OK] == {CheckName.POSTGRES, CheckName.SCHEMA, CheckName.DIRECTORY, CheckName.DISK}
    assert {CheckName.WORKER, CheckName.BACKEND, CheckName.ORDERS, CheckName.PERSISTENCE} < by_status[UNCHECKED]


def test_without_postgresql_what_needs_it_is_unchecked_and_never_passes(on_stage: OnStage) -> None:
    world = on_stage(RIGHT)
    world.database_url = "postgresql://crm:s3cret@127.0.0.1:1/crm"
    found = check_up_of(world)
    assert found.exit_code == 3
    assert [check.name for check in found.checks if check.status is FAILED] == [CheckName.POSTGRES]
    assert {check.name for check in found.checks if check.status is UNCHECKED} == {
        CheckName.SCHEMA,
        CheckName.CLOCKS,
        CheckName.BACKEND,
        CheckName.BEAT,
        CheckName.ORDERS,
        CheckName.FINISHED_SITES,
    }


def test_a_redis_that_hangs_costs_one_timeout(world: World) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        world.redis_url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        began = time.monotonic()
        found = examine(world, timeout="0.5s")
        assert time.monotonic() - began < 2
    assert "did not answer in time" in found[CheckName.REDIS].evidence[0]


def test_a_redis_that_goes_away_in_the_middle_is_unreachable(
    on_stage: OnStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RedisHealth.facts

    async def facts_and_then_gone(self: RedisHealth) -> RedisFacts:
        facts = await real(self)
        self._url = NOWHERE
        await self.close()
        return facts

    monkeypatch.setattr(RedisHealth, "facts", facts_and_then_gone)
    found = check_up_of(on_stage(RIGHT))
    assert found.exit_code == 3
    statuses = {check.name: check.status for check in found.checks}
    assert statuses[CheckName.REDIS] is FAILED
    for name in (CheckName.WORKER, CheckName.PROGRESS, CheckName.SERIALIZATION, CheckName.LEFTOVERS):
        assert statuses[name] is UNCHECKED


def test_a_command_that_redis_refuses_leaves_its_check_alone_unchecked(on_stage: OnStage) -> None:
    world = on_stage(RIGHT)
    world.order(41, "REVIEW", files=8)
    with world.redis() as client:
        client.execute_command("ACL", "SETUSER", "clerk", "on", ">pw", "~*", "&*", "+@all", "-scan", "-info")
        try:
            world.redis_url = f"redis://clerk:pw@{world.redis_url.split('@')[1]}"
            found = check_up_of(world)
        finally:
            client.execute_command("ACL", "DELUSER", "clerk")
    assert found.exit_code == 0
    unseen = {check.name: check.evidence[0] for check in found.checks if check.status is UNCHECKED}
    assert set(unseen) == {CheckName.PERSISTENCE, CheckName.EVICTION, CheckName.LEFTOVERS}
    assert "scan" in unseen[CheckName.LEFTOVERS]


def test_a_database_that_lacks_a_table_says_so_where_orders_would_be_judged(on_stage: OnStage) -> None:
    world = on_stage(RIGHT)
    world.sql("DROP TABLE site_generation_logs")
    found = check_up_of(world)
    assert found.exit_code == 5
    by_name = {check.name: check for check in found.checks}
    assert by_name[CheckName.ORDERS].status is UNCHECKED
    assert "not an orders database" in by_name[CheckName.ORDERS].evidence[0]
