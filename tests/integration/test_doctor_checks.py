"""Each check on real servers and real workers: it passes, and it fails for its real reason."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from celery import Celery
from redis import Redis
from redis.exceptions import ResponseError

from sitegenctl.adapters.celery.health import CeleryHealth
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.domain.health.check import Check, CheckStatus
from sitegenctl.domain.health.orders import BEAT_TASK
from sitegenctl.domain.health.redis import RedisFacts
from sitegenctl.domain.health.registry import checks_of
from sitegenctl.render.command import hint_text
from tests.support.doctor_stage import (
    NO_WORKER,
    OTHER_TASK,
    RIGHT,
    WRONG_QUEUE,
    WRONG_TASK,
    check_up_of,
    examine,
    expect,
    odd_process,
    restricted,
    unproven,
)
from tests.support.faults import held
from tests.support.servers import free_port, server
from tests.support.world import QUEUE, TASK, World, eventually

OK, WARNING, FAILED, UNCHECKED = CheckStatus.OK, CheckStatus.WARNING, CheckStatus.FAILED, CheckStatus.UNCHECKED
OnStage = Callable[[int], World]
NAMES = [check.name for check in checks_of("celery")]
NOWHERE = "redis://127.0.0.1:1/0"
NO_CONSUMER = "1 message waits, and no worker consumes site_generation"


@pytest.mark.shows(OK, *NAMES)
def test_healthy_system_passes_every_check(on_stage: OnStage) -> None:
    world = on_stage(RIGHT)
    world.order(41, "REVIEW", files=8)
    found = check_up_of(world)
    assert {check.name: check for check in found.checks if check.status is not OK} == {}
    assert [check.name for check in found.checks] == NAMES
    assert (found.exit_code, found.summary) == (0, f"healthy: {len(NAMES)} checks passed")


def test_check_up_leaves_redis_as_it_was(on_stage: OnStage) -> None:
    idle = on_stage(NO_WORKER)
    idle.publish(42)
    idle.publish(43)
    idle.deliver()
    with idle.redis() as client:
        before = {key: client.dump(key) for key in client.scan_iter()}
        examine(idle)
        assert {key: client.dump(key) for key in client.scan_iter()} == before
    # A worker that responds writes on its own account, too: only what is left over counts.
    answered = on_stage(RIGHT)
    with answered.redis() as client:
        examine(answered)
        assert [key for key in client.scan_iter("*reply*") if client.type(key) == b"list"] == []
        assert client.smembers("_kombu.binding.reply.celery.pidbox") == set()


# --- workers --------------------------------------------------------------------------------------------------


@pytest.mark.shows(FAILED, "worker queue", "queue progress", "visibility timeout")
def test_worker_on_another_queue(on_stage: OnStage) -> None:
    world = on_stage(WRONG_QUEUE)
    world.publish(42)
    began = time.monotonic()
    found = examine(world, patience="0.5s")
    assert time.monotonic() - began > 0.5  # the queue was read twice
    expect(found["worker"], OK)
    expect(found["worker queue"], FAILED, "no worker consumes", "they consume other_queue instead")
    expect(found["queue progress"], FAILED, NO_CONSUMER)
    # This worker's visibility timeout is shorter than a generation may take.
    expect(found["visibility timeout"], FAILED, "300 s is not longer than the hard limit of 600 s")


def test_remedy_for_another_queue_fixes_it(on_stage: OnStage) -> None:
    world = on_stage(WRONG_QUEUE)
    remedy = hint_text(examine(world)["worker queue"].remedy)
    assert remedy is not None
    program, *arguments = remedy.partition("   ")[0].split()
    assert program == "sitegenctl"
    try:
        done = world.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        expect(examine(world)["worker queue"], OK)
    finally:
        with Celery(broker=world.redis_url, set_as_current=False) as app:
            app.control.cancel_consumer(QUEUE)
        eventually(lambda: examine(world)["worker queue"].status is FAILED)


@pytest.mark.shows(FAILED, "worker task")
def test_worker_without_the_task(on_stage: OnStage) -> None:
    found = examine(on_stage(WRONG_TASK))
    expect(found["worker queue"], OK)
    expect(found["worker task"], FAILED, TASK, f"registered instead: {OTHER_TASK}")
    # Its limits are those of the pool: the task that has its own isn't there.
    expect(found["time limits"], OK)


@pytest.mark.shows(FAILED, "worker")
def test_worker_on_another_database_number(on_stage: OnStage) -> None:
    found = examine(on_stage(NO_WORKER))
    expect(
        found["worker"],
        FAILED,
        "no worker on database 3, but what looks like one on database 0, 1, 2 of the same Redis",
    )
    for name in ("worker queue", "worker task", "time limits", "visibility timeout"):
        expect(found[name], UNCHECKED, "no worker responded")


@pytest.mark.shows(WARNING, "time limits")
def test_worker_with_other_limits_that_then_hangs(on_stage: OnStage) -> None:
    world = on_stage(NO_WORKER + 1)
    # The task's own limits hold, not the pool's.
    odd = {"queue": QUEUE, "tasks": [TASK], "options": {"time_limit": 7000}, "arguments": ["--time-limit", "9999"]}
    with odd_process(world, **odd) as process:
        found = examine(world)
        expect(found["time limits"], WARNING, "none soft, 7000 s hard; the system has 540 s and 600 s")
        expect(found["visibility timeout"], FAILED)
        os.killpg(process.pid, signal.SIGSTOP)  # connected, and silent
        found = examine(world, timeout="0.5s")
        expect(found["worker"], FAILED, "1 of 1 connected worker did not respond")
        expect(found["time limits"], UNCHECKED)


def test_busy_worker_of_another_queue_is_ignored(world: World) -> None:
    mail = {"name": "mail@crm", "queue": "mail", "tasks": ["mail.send"], "visibility_timeout": 300}
    with (
        odd_process(world, **mail),
        Celery(broker=world.redis_url, set_as_current=False) as app,
        world.redis() as client,
    ):
        app.send_task("mail.send", kwargs={"seconds": 60}, queue="mail")
        eventually(lambda: not client.llen("mail"))
        world.publish(42)
        found = examine(world)
        expect(found["queue progress"], FAILED, NO_CONSUMER)
        expect(found["time limits"], UNCHECKED)
        # Only its visibility timeout counts: it restores our messages, too.
        world.worker("-c", "1")
        found = examine(world)
        expect(found["time limits"], OK)
        expect(found["visibility timeout"], FAILED, "300 s at mail@crm is not longer than the hard limit")


def test_workers_on_channels_of_another_name_are_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITEGENCTL_FANOUT_PREFIX", "/sites{db}.")
    monkeypatch.setenv("SITEGENCTL_GLOBAL_KEYPREFIX", "crm:")
    world.worker("-c", "1")
    found = examine(world)
    for name in ("worker", "worker queue", "worker task"):
        expect(found[name], OK)


# --- Redis ----------------------------------------------------------------------------------------------------


def follow(check: Check, client: Redis) -> None:
    """Execute what the remedy of a check has redis-cli execute."""
    words = check.remedy.command.words  # type: ignore[union-attr]
    assert words[:3] == ("redis-cli", "-u", "REDIS_URL")
    client.execute_command(*words[3:])


@pytest.mark.shows(WARNING, "redis persistence")
def test_redis_without_persistence_is_unwise(world: World) -> None:
    found = examine(world)
    expect(found["redis"], OK)
    expect(found["redis persistence"], WARNING, "a restart of Redis loses the queue")


@pytest.mark.shows(WARNING, "redis eviction")
def test_remedies_for_persistence_and_eviction_fix_them(on_stage: OnStage) -> None:
    world = on_stage(NO_WORKER)
    with world.redis() as client:
        try:
            client.config_set("appendonly", "no")
            client.config_set("save", "3600 1")
            client.config_set("maxmemory", "200mb")
            client.config_set("maxmemory-policy", "allkeys-lru")
            found = examine(world)
            expect(found["redis persistence"], WARNING, "snapshots only")
            expect(found["redis eviction"], WARNING, "allkeys-lru with maxmemory 200 MB")
            follow(found["redis persistence"], client)
            follow(found["redis eviction"], client)
            found = examine(world)
            assert (found["redis persistence"].status, found["redis eviction"].status) == (OK, OK)
        finally:
            client.config_set("appendonly", "yes")
            client.config_set("save", "")
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")


def test_user_without_permission_leaves_checks_unchecked(on_stage: OnStage) -> None:
    world = on_stage(RIGHT)
    with world.redis() as client:
        client.config_set("appendonly", "no")
        try:
            with restricted(world, "-client", "-config"):
                found = examine(world)
        finally:
            client.config_set("appendonly", "yes")
    expect(found["redis"], OK)
    expect(found["redis persistence"], UNCHECKED)
    expect(found["worker"], OK)  # it was asked itself


def test_refused_command_leaves_only_its_check_unchecked(on_stage: OnStage) -> None:
    world = on_stage(RIGHT)
    world.order(41, "REVIEW", files=8)
    with restricted(world, "-scan", "-info"):
        found = check_up_of(world)
    assert found.exit_code == 0
    unchecked = {check.name: check for check in found.checks if check.status is UNCHECKED}
    assert set(unchecked) == {"redis persistence", "redis eviction", "leftovers"}
    expect(unchecked["leftovers"], UNCHECKED, "SCAN")


@pytest.fixture
def own_redis(world: World, tmp_path: Path) -> Iterator[Redis]:
    """A client of a Redis of the test's own, which the test may break."""
    (tmp_path / "redis").mkdir()
    port = free_port()
    world.redis_url = f"redis://127.0.0.1:{port}/0"
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path / "redis")]
    with server(*options, url=world.redis_url), world.redis() as client:
        yield client


@pytest.mark.shows(OK, "redis")
@pytest.mark.shows(FAILED, "redis")
def test_replica_takes_no_writes(world: World, own_redis: Redis) -> None:
    expect(examine(world)["redis"], OK)
    primary = urlsplit(os.environ["REDIS_URL"])
    own_redis.config_set("masterauth", primary.password or "")
    own_redis.execute_command("REPLICAOF", primary.hostname, primary.port)
    eventually(lambda: own_redis.info("replication")["master_link_status"] == "up")
    found = check_up_of(world)
    expect(found.checks[0], FAILED, "it is a slave and takes no writes: nothing can be published")
    assert (found.exit_code, found.checks[0].remedy) == (5, "point REDIS_URL at the primary")


@pytest.mark.shows(OK, "redis")
@pytest.mark.shows(FAILED, "redis")
def test_full_redis_refuses_writes_until_remedy_is_followed(world: World, own_redis: Redis) -> None:
    own_redis.config_set("maxmemory", "1")
    with pytest.raises(ResponseError, match="not allowed when used memory"):
        own_redis.set("key", "value")
    check = examine(world)["redis"]
    expect(check, FAILED, "of maxmemory 1 B): Redis refuses writes, nothing can be published")
    follow(check, own_redis)
    own_redis.set("key", "value")
    expect(examine(world)["redis"], OK)


@pytest.mark.shows(OK, "redis")
@pytest.mark.shows(FAILED, "redis")
def test_redis_that_can_not_save_refuses_writes(world: World, own_redis: Redis, tmp_path: Path) -> None:
    # Its directory is gone: a full disk can't be had for one process.
    (tmp_path / "redis").rmdir()
    own_redis.config_set("save", "3600 1")
    own_redis.bgsave()
    eventually(lambda: own_redis.info("persistence")["rdb_last_bgsave_status"] == "err")
    with pytest.raises(ResponseError, match="MISCONF"):
        own_redis.set("key", "value")
    found = check_up_of(world)
    # It responds, so it need not be started.
    expect(found.checks[0], FAILED, "the last snapshot failed: Redis refuses writes, nothing can be published")
    assert found.exit_code == 5
    own_redis.config_set("stop-writes-on-bgsave-error", "no")
    own_redis.set("key", "value")
    expect(examine(world)["redis"], OK)


@pytest.mark.shows(OK, "leftovers")
@pytest.mark.shows(WARNING, "leftovers")
def test_old_reply_lists_are_leftovers(on_stage: OnStage) -> None:
    world = on_stage(NO_WORKER + 2)
    with world.redis() as client:
        client.lpush("young.reply.celery.pidbox", "reply")
        expect(examine(world)["leftovers"], OK)
        dumped = client.dump("young.reply.celery.pidbox")
        assert dumped is not None
        client.restore("old.reply.celery.pidbox", 0, dumped, idletime=3600)
        check = examine(world)["leftovers"]
        expect(check, WARNING, "1 reply list of disconnected clients")
        assert hint_text(check.remedy) == "sitegenctl maintain"
        assert world.run("maintain").returncode == 0
        expect(examine(world)["leftovers"], OK)
        assert client.exists("young.reply.celery.pidbox")
        client.flushdb()


@pytest.mark.shows(OK, "serialization")
@pytest.mark.shows(FAILED, "serialization")
def test_messages_that_are_not_json(on_stage: OnStage) -> None:
    world = on_stage(NO_WORKER)
    world.publish(42)
    expect(examine(world)["serialization"], OK)
    with Celery(broker=world.redis_url, set_as_current=False) as app:
        app.send_task(TASK, args=[43], queue=QUEUE, serializer="pickle")
    expect(examine(world)["serialization"], FAILED, "1 of 2 messages not JSON: application/x-python-serialize (1)")


@pytest.mark.shows(OK, "visibility timeout")
@pytest.mark.shows(FAILED, "visibility timeout")
def test_eta_beyond_the_visibility_timeout_runs_twice(on_stage: OnStage) -> None:
    def delivered(ago: float = 0, **eta: float) -> World:
        # As if another worker had it: the stage's own would hold it during the next tests.
        other = on_stage(NO_WORKER)
        other.publish(42, eta=datetime.now(UTC) + timedelta(**eta))
        other.deliver()
        with other.redis() as client:
            unacked = client.hgetall("unacked")
        world = on_stage(RIGHT)
        with world.redis() as client:
            client.hset("unacked", mapping=unacked)
            client.zadd("unacked_index", dict.fromkeys(unacked, time.time() - ago))
        return world

    expect(examine(delivered(minutes=30))["visibility timeout"], OK)
    expect(examine(delivered(hours=2))["visibility timeout"], FAILED, "not longer than the longest wait for an ETA")
    # Redis restores it an hour after its delivery, however little is left to wait.
    check = examine(delivered(minutes=50, ago=50 * 60))["visibility timeout"]
    expect(check, FAILED)
    assert re.search(r"3600 s is not longer than the longest wait for an ETA of (5999|6000)", check.evidence[0])
    on_stage(RIGHT)


# --- beat -----------------------------------------------------------------------------------------------------


def due_for_beat(world: World, order_id: int = 1) -> None:
    """Make an order that beat would start."""
    world.order(order_id)
    world.sql("UPDATE site_orders SET onboarding_completed_at = updated_at WHERE id = $1", order_id)


@pytest.mark.shows(UNCHECKED, "beat")
def test_old_message_of_beat_proves_nothing(on_stage: OnStage) -> None:
    world = on_stage(NO_WORKER)
    due_for_beat(world)
    expect(examine(world)["beat"], UNCHECKED, "without a worker it is not known whether its task runs")
    with Celery(broker=world.redis_url, set_as_current=False) as app:
        app.send_task(BEAT_TASK, queue=QUEUE)
    check = examine(world)["beat"]
    expect(check, UNCHECKED, "1 message of its own in the queue, of any age: no worker takes them")
    assert (hint_text(check.remedy) or "").startswith("sitegenctl doctor --patience 130s")


@pytest.mark.shows(OK, "beat")
def test_new_message_of_beat_proves_that_it_runs(on_stage: OnStage, tmp_path: Path) -> None:
    world = on_stage(NO_WORKER)
    due_for_beat(world)
    with odd_process(world, queue=QUEUE, tasks=[BEAT_TASK], beat=str(tmp_path / "schedule")):
        eventually(lambda: world.queued())
        expect(examine(world, patience="2s")["beat"], OK, "a message of its own came within 2 s")


@pytest.mark.shows(OK, "beat")
@pytest.mark.shows(FAILED, "beat")
def test_orders_wait_for_beat_that_sends_nothing(world: World) -> None:
    with odd_process(world, queue=QUEUE, tasks=[TASK, BEAT_TASK]):
        world.order(1)
        # Beat ignores an order without a time of its onboarding, so this one does not wait for beat.
        expect(examine(world, beat_interval="0.1s")["beat"], OK, "not needed now")
        due_for_beat(world, 2)
        check = eventually(
            lambda: (c := examine(world, beat_interval="0.5s")["beat"]).status is FAILED and c  # uptime
        )
        assert re.search(r"its task ran 0 times in .*1 order waits to be started", check.evidence[0])
        assert hint_text(check.remedy) == "docker restart crm-celery-beat"
        with Celery(broker=world.redis_url, set_as_current=False) as app:
            app.send_task(BEAT_TASK, queue=QUEUE)

        def has_run() -> bool:
            check = examine(world, beat_interval="1h")["beat"]
            # Until the worker takes it, the message in the queue makes the check pass.
            return check.status is OK and "ran 1 time in" in check.evidence[0]

        eventually(has_run)


@pytest.mark.shows(WARNING, "beat")
def test_no_worker_has_the_task_of_beat(on_stage: OnStage) -> None:
    world = on_stage(RIGHT)
    due_for_beat(world)
    check = examine(world)["beat"]
    expect(check, WARNING, "no worker has its task, and 1 order waits to be started")
    assert (hint_text(check.remedy) or "").startswith("sitegenctl start-stuck")


# --- PostgreSQL -----------------------------------------------------------------------------------------------


# The unit tests have more differences; these are read from the database in different ways.
SCHEMAS = {
    "column": (
        "ALTER TABLE site_orders DROP COLUMN paid_at",
        FAILED,
        "site_orders has no column paid_at (timestamp without time zone)",
    ),
    "table": ("DROP TABLE site_deliverables", FAILED, "there is no table site_deliverables"),
    "label": ("ALTER TYPE sitecta RENAME VALUE 'FORM' TO 'FORMULAR'", FAILED, "enum sitecta lacks the label FORM"),
    "extra label": ("ALTER TYPE siteorderstatus ADD VALUE 'REFUNDED'", WARNING, "enum siteorderstatus has the label"),
    "jsonb": ("ALTER TABLE site_generation_logs ALTER COLUMN details TYPE jsonb", OK, "as in the contract"),
    "time zone": ("ALTER TABLE site_orders ALTER COLUMN updated_at TYPE timestamptz", OK, "as in the contract"),
    "enum of another name": ("ALTER TYPE siteorderstatus RENAME TO state", OK, "as in the contract"),
}


@pytest.mark.parametrize(
    ("statement", "status", "difference"),
    [pytest.param(*case, id=name, marks=pytest.mark.shows(case[1], "schema")) for name, case in SCHEMAS.items()],
)
def test_schema_differs_from_the_contract(world: World, statement: str, status: CheckStatus, difference: str) -> None:
    for each in statement.split("; "):
        world.sql(each)
    expect(examine(world)["schema"], status, difference)


@pytest.mark.shows(FAILED, "postgresql")
def test_database_without_the_tables(world: World) -> None:
    world.sql("ALTER TABLE site_generation_logs RENAME TO other")
    found = check_up_of(world)
    by_name = {check.name: check for check in found.checks}
    expect(by_name["postgresql"], FAILED, "it has no table site_generation_logs")
    expect(by_name["orders"], UNCHECKED, "not an orders database")
    assert found.exit_code == 5


@pytest.mark.parametrize(
    ("wrong_by", "status", "evidence"),
    [
        pytest.param(0, OK, "within", marks=pytest.mark.shows(OK, "clocks")),
        pytest.param(10, WARNING, "PostgreSQL is", marks=pytest.mark.shows(WARNING, "clocks")),
        pytest.param(3600, FAILED, "PostgreSQL is", marks=pytest.mark.shows(FAILED, "clocks")),
    ],
)
def test_wrong_clock_of_this_machine(world: World, wrong_by: float, status: CheckStatus, evidence: str) -> None:
    # All servers of the test share one clock: only what this machine reads can be wrong.
    check = examine(world, clock=lambda: time.time() - wrong_by)["clocks"]
    expect(check, status, evidence)
    assert hint_text(check.remedy) == ("set the clock of this machine: chronyc makestep" if wrong_by else None)


@pytest.mark.shows(FAILED, "postgresql")
def test_locked_table_is_not_an_unreachable_server(world: World) -> None:
    world.order(42)
    with held(world, "BEGIN; LOCK TABLE site_orders", application_name="alembic") as pid:
        found = check_up_of(world, timeout="0.5s")
        by_name = {check.name: check for check in found.checks}
        assert found.exit_code == 5
        expect(by_name["postgresql"], FAILED, "lock")
        assert (by_name["schema"].status, by_name["orders"].status) == (OK, UNCHECKED)
        # The client is named once it has held the lock for more than a moment.
        client = f"site_orders is locked by pid {pid} (alembic, as "
        eventually(lambda: examine(world, timeout="0.5s")["postgresql"].evidence[0].startswith(client))
        quick = world.run("doctor", "--quick")
        assert quick.returncode == 5
        assert f"site_orders is locked by pid {pid}" in quick.stdout
    expect(examine(world)["postgresql"], OK)


@pytest.mark.shows(FAILED, "postgresql")
def test_database_that_refuses_is_not_healthy(world: World) -> None:
    name = f"clerk_{os.getpid()}"
    world.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'pw'")
    try:
        real = urlsplit(world.database_url)
        world.database_url = real._replace(netloc=f"{name}:pw@{real.hostname}:{real.port}").geturl()
        found = check_up_of(world)
    finally:
        world.database_url = real.geturl()
        world.sql(f"DROP ROLE {name}")
    assert found.exit_code == 5
    check = next(check for check in found.checks if check.name == "postgresql")
    expect(
        check, FAILED, "may not read site_orders, site_onboardings, site_generation_logs and may not change site_orders"
    )
    assert not check.unreachable


# --- orders ---------------------------------------------------------------------------------------------------


@pytest.mark.shows(OK, "backend")
@pytest.mark.shows(FAILED, "backend", "orders")
def test_orders_that_were_not_enqueued(world: World) -> None:
    world.order(1, age="10 seconds")
    expect(examine(world)["backend"], OK)
    world.order(2)
    world.order(3)
    world.order(4, "GENERATING", steps=["START", "ERROR"])
    world.publish(3)
    found = examine(world)
    expect(found["backend"], FAILED, "1 order is ready, the oldest for 3h, and not enqueued")
    assert hint_text(found["backend"].remedy) == "sitegenctl start-stuck"
    expect(found["orders"], FAILED, "2 of 4 open orders in fault")
    assert {"1 failed", "1 unstarted"} <= set(found["orders"].evidence[0].partition(": ")[2].split(", "))


# --- files ----------------------------------------------------------------------------------------------------


@pytest.mark.shows(OK, "finished sites")
@pytest.mark.shows(FAILED, "finished sites")
def test_directory_that_the_workers_do_not_write(world: World) -> None:
    world.order(1, "REVIEW", files=8)
    world.order(2, "DELIVERED", files=8)
    found = examine(world)
    assert (found["sites directory"].status, found["finished sites"].status) == (OK, OK)
    world.sites_dir = world.folder / "other"
    world.sites_dir.mkdir()
    expect(examine(world)["finished sites"], FAILED, "no files in", "it is not the directory that the workers write")
    world.order(3, "REVIEW", files=8)
    check = examine(world)["finished sites"]
    assert (check.status, hint_text(check.remedy)) == (FAILED, "sitegenctl inspect 2")


@pytest.mark.shows(FAILED, "sites directory")
def test_missing_directory_leaves_the_rest_unchecked(world: World) -> None:
    world.sites_dir = world.sites_dir / "unmounted"
    found = check_up_of(world)
    by_name = {check.name: check for check in found.checks}
    assert found.exit_code == 3
    expect(by_name["sites directory"], FAILED, "does not exist")
    for name in ("finished sites", "disk space"):
        expect(by_name[name], UNCHECKED, "the sites directory does not exist")


@pytest.fixture
def without_privileges(tmp_path: Path) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Make this process a user without privileges for a while; root would be allowed anything."""
    temporary = Path(tempfile.gettempdir())

    @contextlib.contextmanager
    def unprivileged() -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        for folder in (tmp_path, *tmp_path.parents):
            if folder.is_relative_to(temporary) and folder != temporary:
                folder.chmod(0o755)
        os.setresuid(65534, 65534, 0)
        try:
            yield
        finally:
            os.setresuid(0, 0, 0)

    return unprivileged


@pytest.mark.shows(OK, "sites directory")
@pytest.mark.shows(FAILED, "sites directory")
def test_directory_without_permission(
    world: World, without_privileges: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    examine(world)  # imports everything, which that user may not be able to

    def check(mode: int, **flags: object) -> Check:
        world.sites_dir.chmod(mode)
        with without_privileges():
            return examine(world, **flags)["sites directory"]

    expect(check(0o777), OK)
    expect(check(0o555), FAILED, f"{world.sites_dir} can't be written by this user")
    expect(check(0o555, read_only=True), OK)
    expect(check(0o000, read_only=True), FAILED, f"{world.sites_dir} can't be read or written by this user")
    # Nor one in a folder that may not be entered.
    outer, world.sites_dir = world.sites_dir, world.sites_dir / "inner"
    outer.chmod(0o755)
    world.sites_dir.mkdir()
    outer.chmod(0o000)
    with without_privileges():
        inner = examine(world)["sites directory"]
    outer.chmod(0o755)
    expect(inner, FAILED, f"{world.sites_dir} can't be read or written by this user")


@pytest.mark.shows(OK, "disk space")
@pytest.mark.shows(FAILED, "disk space")
def test_full_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    expect(examine(world)["disk space"], OK)
    real = os.statvfs(world.sites_dir)
    # A real full file system needs privileges that a test lacks.
    full = os.statvfs_result((*real[:3], 0, 0, *real[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    expect(examine(world)["disk space"], FAILED)


# --- unreachable sources --------------------------------------------------------------------------------------


def test_without_redis_its_checks_are_skipped(world: World) -> None:
    world.order(1)
    world.redis_url = NOWHERE
    found = check_up_of(world)
    assert found.exit_code == 3
    by_status = {status: {check.name for check in found.checks if check.status is status} for status in CheckStatus}
    assert by_status[FAILED] == {"redis"}
    assert by_status[OK] == {"postgresql", "schema", "sites directory", "disk space"}
    assert {"worker", "backend", "orders", "redis persistence"} < by_status[UNCHECKED]


def test_without_postgresql_its_checks_are_skipped(on_stage: OnStage) -> None:
    world = on_stage(RIGHT)
    world.database_url = "postgresql://crm:s3cret@127.0.0.1:1/crm"
    found = check_up_of(world)
    assert found.exit_code == 3
    assert [check.name for check in found.checks if check.status is FAILED] == ["postgresql"]
    unchecked = {check.name for check in found.checks if check.status is UNCHECKED}
    assert unchecked == {"schema", "clocks", "backend", "beat", "orders", "finished sites"}


def test_redis_that_hangs_costs_one_timeout(world: World) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        world.redis_url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        began = time.monotonic()
        found = examine(world, timeout="0.5s")
        assert time.monotonic() - began < 2
    expect(found["redis"], FAILED, "did not respond in time")


def test_redis_lost_during_the_check_up_is_unreachable(on_stage: OnStage, monkeypatch: pytest.MonkeyPatch) -> None:
    real = CeleryHealth.facts

    async def facts_and_then_gone(self: CeleryHealth) -> RedisFacts:
        facts = await real(self)
        self.__dict__ = CeleryHealth(NOWHERE, QueueOptions(), timeout=1).__dict__
        return facts

    monkeypatch.setattr(CeleryHealth, "facts", facts_and_then_gone)
    found = check_up_of(on_stage(RIGHT))
    assert found.exit_code == 3
    by_name = {check.name: check for check in found.checks}
    expect(by_name["redis"], FAILED)
    for name in ("worker", "queue progress", "serialization", "leftovers"):
        expect(by_name[name], UNCHECKED)


def test_every_check_is_proven_to_pass_and_to_fail() -> None:
    assert unproven(sys.modules[__name__], NAMES) == {}
