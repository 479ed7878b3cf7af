"""Each check on real servers and real workers: where it passes, and where it fails for its real reason."""

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
from sitegenctl.domain.health.check import CELERY_CHECKS, Check, CheckName, CheckStatus
from sitegenctl.domain.health.facts import HealthProbes, RedisFacts
from sitegenctl.domain.health.orders import BEAT_TASK
from sitegenctl.render.command import hint_text
from tests.support.doctor_stage import (
    NOBODY,
    OTHER_TASK,
    RIGHT,
    WRONG_QUEUE,
    WRONG_TASK,
    check_up_of,
    examine,
    odd_process,
    unproven,
)
from tests.support.faults import held
from tests.support.redis_servers import free_port, server
from tests.support.world import QUEUE, TASK, World, eventually

OK, WARNING, FAILED, UNCHECKED = CheckStatus.OK, CheckStatus.WARNING, CheckStatus.FAILED, CheckStatus.UNCHECKED
OnStage = Callable[[int], World]
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.mark.shows(CheckName.REDIS, OK)
@pytest.mark.shows(CheckName.PERSISTENCE, OK)
@pytest.mark.shows(CheckName.EVICTION, OK)
@pytest.mark.shows(CheckName.POSTGRES, OK)
@pytest.mark.shows(CheckName.SCHEMA, OK)
@pytest.mark.shows(CheckName.CLOCKS, OK)
@pytest.mark.shows(CheckName.WORKER, OK)
@pytest.mark.shows(CheckName.WORKER_QUEUE, OK)
@pytest.mark.shows(CheckName.WORKER_TASK, OK)
@pytest.mark.shows(CheckName.LIMITS, OK)
@pytest.mark.shows(CheckName.VISIBILITY, OK)
@pytest.mark.shows(CheckName.PROGRESS, OK)
@pytest.mark.shows(CheckName.SERIALIZATION, OK)
@pytest.mark.shows(CheckName.LEFTOVERS, OK)
@pytest.mark.shows(CheckName.BACKEND, OK)
@pytest.mark.shows(CheckName.BEAT, OK)
@pytest.mark.shows(CheckName.ORDERS, OK)
@pytest.mark.shows(CheckName.DIRECTORY, OK)
@pytest.mark.shows(CheckName.FINISHED_SITES, OK)
@pytest.mark.shows(CheckName.DISK, OK)
def test_a_healthy_system_passes_every_check(on_stage: OnStage) -> None:
    world = on_stage(RIGHT)
    world.order(41, "REVIEW", files=8)
    found = check_up_of(world)
    assert {check.name: check for check in found.checks if check.status is not OK} == {}
    assert [check.name for check in found.checks] == list(CELERY_CHECKS)
    assert (found.exit_code, found.summary) == (0, f"healthy: {len(CELERY_CHECKS)} checks passed")


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


@pytest.mark.shows(CheckName.WORKER_QUEUE, FAILED)
@pytest.mark.shows(CheckName.PROGRESS, FAILED)
@pytest.mark.shows(CheckName.VISIBILITY, FAILED)
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
    assert found[CheckName.PROGRESS].evidence == ("1 message waits, and no worker consumes site_generation",)
    # This worker's visibility timeout is shorter than a generation may take.
    assert found[CheckName.VISIBILITY].status is FAILED
    assert "300 s is not longer than the hard limit of 600 s" in found[CheckName.VISIBILITY].evidence[0]


def test_the_remedy_for_another_queue_mends_it(on_stage: OnStage) -> None:
    world = on_stage(WRONG_QUEUE)
    remedy = hint_text(examine(world)[CheckName.WORKER_QUEUE].remedy)
    assert remedy is not None
    program, *arguments = remedy.partition("   ")[0].split()
    assert program == "sitegenctl"
    try:
        done = world.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert examine(world)[CheckName.WORKER_QUEUE].status is OK
    finally:
        with Celery(broker=world.redis_url, set_as_current=False) as app:
            app.control.cancel_consumer(QUEUE)
        eventually(lambda: examine(world)[CheckName.WORKER_QUEUE].status is FAILED)


@pytest.mark.shows(CheckName.WORKER_TASK, FAILED)
def test_a_worker_without_the_task_is_named_with_what_it_has(on_stage: OnStage) -> None:
    found = examine(on_stage(WRONG_TASK))
    assert found[CheckName.WORKER_QUEUE].status is OK
    assert found[CheckName.WORKER_TASK].status is FAILED
    assert TASK in found[CheckName.WORKER_TASK].evidence[0]
    assert found[CheckName.WORKER_TASK].evidence[1] == f"registered instead: {OTHER_TASK}"
    # Its limits are those of the pool: the task that has its own isn't there.
    assert found[CheckName.LIMITS].status is OK


@pytest.mark.shows(CheckName.WORKER, FAILED)
def test_a_worker_on_another_database_number_is_said_to_be_there(on_stage: OnStage) -> None:
    found = examine(on_stage(NOBODY))
    assert found[CheckName.WORKER].status is FAILED
    assert found[CheckName.WORKER].evidence[0] == (
        "no worker on database 3, but what looks like one on database 0, 1, 2 of the same Redis"
    )
    for name in (CheckName.WORKER_QUEUE, CheckName.WORKER_TASK, CheckName.LIMITS, CheckName.VISIBILITY):
        assert found[name].status is UNCHECKED


@pytest.mark.shows(CheckName.LIMITS, WARNING)
def test_a_worker_with_other_limits_and_one_that_hangs(on_stage: OnStage) -> None:
    world = on_stage(NOBODY + 1)
    # The task's own limits hold, not the pool's.
    odd = {"queue": QUEUE, "tasks": [TASK], "options": {"time_limit": 7000}, "arguments": ["--time-limit", "9999"]}
    with odd_process(world, **odd) as process:
        found = examine(world)
        assert found[CheckName.LIMITS].status is WARNING
        assert found[CheckName.LIMITS].evidence[0] == "none soft, 7000 s hard; the system has 540 s and 600 s"
        assert found[CheckName.VISIBILITY].status is FAILED
        os.killpg(process.pid, signal.SIGSTOP)  # connected, and silent
        found = examine(world, timeout="0.5s")
        assert found[CheckName.WORKER].status is FAILED
        assert "1 of 1 connected worker did not answer" in found[CheckName.WORKER].evidence[0]
        assert found[CheckName.LIMITS].status is UNCHECKED


def test_a_busy_worker_of_another_queue_says_nothing_of_ours(world: World) -> None:
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
        assert found[CheckName.PROGRESS].status is FAILED
        assert found[CheckName.PROGRESS].evidence == ("1 message waits, and no worker consumes site_generation",)
        assert found[CheckName.LIMITS].status is UNCHECKED
        # It has none of our limits. But it gives back what is unacked, ours too, by its own timeout.
        world.worker("-c", "1")
        found = examine(world)
        assert found[CheckName.LIMITS].status is OK
        assert found[CheckName.VISIBILITY].status is FAILED
        assert found[CheckName.VISIBILITY].evidence[0].startswith("300 s at mail@crm is not longer than the hard limit")


def test_workers_that_listen_on_channels_of_another_name_are_asked_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITEGENCTL_FANOUT_PREFIX", "/sites{db}.")
    monkeypatch.setenv("SITEGENCTL_GLOBAL_KEYPREFIX", "crm:")
    world.worker("-c", "1")
    found = examine(world)
    for name in (CheckName.WORKER, CheckName.WORKER_QUEUE, CheckName.WORKER_TASK):
        assert found[name].status is OK, found[name]


# --- Redis ----------------------------------------------------------------------------------------------------


@pytest.mark.shows(CheckName.PERSISTENCE, WARNING)
def test_a_redis_without_persistence_is_unwise(world: World) -> None:
    found = examine(world)
    assert found[CheckName.REDIS].status is OK
    assert found[CheckName.PERSISTENCE].status is WARNING
    assert "the queue dies with Redis" in found[CheckName.PERSISTENCE].evidence[0]


@pytest.mark.shows(CheckName.EVICTION, WARNING)
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
                words = (hint_text(found[name].remedy) or "").partition("   ")[0].split()
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


@pytest.fixture
def own_redis(world: World, tmp_path: Path) -> Iterator[Redis]:
    """A client of a Redis that this test alone has, and may break; the test's world is moved there."""
    (tmp_path / "redis").mkdir()
    port = free_port()
    world.redis_url = f"redis://127.0.0.1:{port}/0"
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path / "redis")]
    with server(*options, url=world.redis_url), world.redis() as client:
        yield client


@pytest.mark.shows(CheckName.REDIS, OK, FAILED)
def test_a_redis_that_is_a_replica_takes_no_writes(world: World, own_redis: Redis) -> None:
    assert examine(world)[CheckName.REDIS].status is OK
    primary = urlsplit(os.environ["REDIS_URL"])
    own_redis.config_set("masterauth", primary.password or "")
    own_redis.execute_command("REPLICAOF", primary.hostname, primary.port)
    eventually(lambda: own_redis.info("replication")["master_link_status"] == "up")
    found = check_up_of(world)
    check = next(check for check in found.checks if check.name is CheckName.REDIS)
    assert (check.status, found.exit_code) == (FAILED, 5)
    assert check.evidence[0] == "it is a slave and takes no writes: nothing can be published"
    assert check.remedy == "point REDIS_URL at the primary"


@pytest.mark.shows(CheckName.REDIS, OK, FAILED)
def test_a_redis_that_is_full_refuses_writes_until_its_remedy_is_followed(world: World, own_redis: Redis) -> None:
    own_redis.config_set("maxmemory", "1")
    with pytest.raises(ResponseError, match="not allowed when used memory"):
        own_redis.set("key", "value")
    check = examine(world)[CheckName.REDIS]
    assert check.status is FAILED
    assert "of maxmemory 1 B): Redis refuses writes, nothing can be published" in check.evidence[0]
    words = (hint_text(check.remedy) or "").partition("   ")[0].split()
    assert words[:3] == ["redis-cli", "-u", '"$REDIS_URL"']
    own_redis.execute_command(*words[3:])
    own_redis.set("key", "value")
    assert examine(world)[CheckName.REDIS].status is OK


@pytest.mark.shows(CheckName.REDIS, OK, FAILED)
def test_a_redis_that_can_not_save_refuses_writes(world: World, own_redis: Redis, tmp_path: Path) -> None:
    # A disk that is gone: that one is full can't be brought about for a process of its own.
    (tmp_path / "redis").rmdir()
    own_redis.config_set("save", "3600 1")
    own_redis.bgsave()
    eventually(lambda: own_redis.info("persistence")["rdb_last_bgsave_status"] == "err")
    with pytest.raises(ResponseError, match="MISCONF"):
        own_redis.set("key", "value")
    found = check_up_of(world)
    check = next(check for check in found.checks if check.name is CheckName.REDIS)
    # It answers: nobody has to start it.
    assert (check.status, found.exit_code) == (FAILED, 5)
    assert check.evidence[0] == "the last snapshot failed: Redis refuses writes, nothing can be published"
    own_redis.config_set("stop-writes-on-bgsave-error", "no")
    own_redis.set("key", "value")
    assert examine(world)[CheckName.REDIS].status is OK


@pytest.mark.shows(CheckName.LEFTOVERS, OK, WARNING)
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
        assert hint_text(check.remedy) == "sitegenctl maintain"
        assert world.run("maintain").returncode == 0
        assert examine(world)[CheckName.LEFTOVERS].status is OK
        assert client.exists("young.reply.celery.pidbox")
        client.flushdb()


@pytest.mark.shows(CheckName.SERIALIZATION, OK, FAILED)
def test_messages_that_are_not_json_are_told_with_what_they_are(on_stage: OnStage) -> None:
    world = on_stage(NOBODY)
    world.publish(42)
    assert examine(world)[CheckName.SERIALIZATION].status is OK
    with Celery(broker=world.redis_url, set_as_current=False) as app:
        app.send_task(TASK, args=[43], queue=QUEUE, serializer="pickle")
    check = examine(world)[CheckName.SERIALIZATION]
    assert check.status is FAILED
    assert check.evidence[0] == "1 of 2 messages not JSON: application/x-python-serialize (1)"


@pytest.mark.shows(CheckName.VISIBILITY, OK, FAILED)
def test_an_eta_beyond_the_visibility_timeout_would_run_twice(on_stage: OnStage) -> None:
    def delivered(ago: float = 0, **eta: float) -> World:
        # As if another worker had it: the stage's own would hold it for the tests that follow.
        elsewhere = on_stage(NOBODY)
        elsewhere.publish(42, eta=datetime.now(UTC) + timedelta(**eta))
        elsewhere.deliver()
        with elsewhere.redis() as client:
            held = client.hgetall("unacked")
        world = on_stage(RIGHT)
        with world.redis() as client:
            client.hset("unacked", mapping=held)
            client.zadd("unacked_index", dict.fromkeys(held, time.time() - ago))
        return world

    assert examine(delivered(minutes=30))[CheckName.VISIBILITY].status is OK
    check = examine(delivered(hours=2))[CheckName.VISIBILITY]
    assert check.status is FAILED
    assert "not longer than the longest wait for an ETA" in check.evidence[0]
    # Redis gives it back an hour after it was delivered, whatever there is left to wait.
    check = examine(delivered(minutes=50, ago=50 * 60))[CheckName.VISIBILITY]
    assert check.status is FAILED
    assert re.search(r"3600 s is not longer than the longest wait for an ETA of (5999|6000)", check.evidence[0])
    on_stage(RIGHT)


def awaited_by_beat(world: World, order_id: int = 1) -> None:
    """An order that nobody has enqueued, as beat looks for them."""
    world.order(order_id)
    world.sql("UPDATE site_orders SET onboarding_completed_at = updated_at WHERE id = $1", order_id)


@pytest.mark.shows(CheckName.BEAT, UNCHECKED)
def test_an_old_message_of_beats_does_not_show_that_it_runs(on_stage: OnStage) -> None:
    world = on_stage(NOBODY)
    awaited_by_beat(world)
    check = examine(world)[CheckName.BEAT]
    assert (check.status, check.evidence) == (UNCHECKED, ("no worker could tell whether its task comes through",))
    with Celery(broker=world.redis_url, set_as_current=False) as app:
        app.send_task(BEAT_TASK, queue=QUEUE)
    check = examine(world)[CheckName.BEAT]
    assert check.status is UNCHECKED
    assert check.evidence[0] == "1 message of its own in the queue, of any age: no worker takes them"
    assert (hint_text(check.remedy) or "").startswith("sitegenctl doctor --patience 130s")


@pytest.mark.shows(CheckName.BEAT, OK)
def test_a_new_message_of_beats_shows_that_it_runs(on_stage: OnStage, tmp_path: Path) -> None:
    world = on_stage(NOBODY)
    awaited_by_beat(world)
    with odd_process(world, queue=QUEUE, tasks=[BEAT_TASK], beat=str(tmp_path / "schedule")):
        eventually(lambda: world.queued())
        check = examine(world, patience="2s")[CheckName.BEAT]
    assert (check.status, check.evidence) == (OK, ("a message of its own came within 2 s",))


@pytest.mark.shows(CheckName.BEAT, OK, FAILED)
def test_orders_that_wait_for_beat_while_it_sends_nothing(world: World) -> None:
    with odd_process(world, queue=QUEUE, tasks=[TASK, BEAT_TASK]):
        world.order(1)
        # Beat passes by what has no time of its onboarding: it is not beat that this order waits for.
        assert "not needed now" in examine(world, beat_interval="0.1s")[CheckName.BEAT].evidence[0]
        awaited_by_beat(world, 2)
        check = eventually(
            lambda: (c := examine(world, beat_interval="0.5s")[CheckName.BEAT]).status is FAILED and c  # uptime
        )
        assert "its task ran 0 times in " in check.evidence[0]
        assert "1 order waits to be started" in check.evidence[0]
        assert check.remedy == "docker restart crm-celery-beat"
        with Celery(broker=world.redis_url, set_as_current=False) as app:
            app.send_task(BEAT_TASK, queue=QUEUE)

        def has_run() -> bool:
            check = examine(world, beat_interval="1h")[CheckName.BEAT]
            # Until the worker takes it the message in the queue shows the same.
            return check.status is OK and "ran 1 time in" in check.evidence[0]

        eventually(has_run)


@pytest.mark.shows(CheckName.BEAT, WARNING)
def test_a_worker_without_beats_task_starts_no_order(on_stage: OnStage) -> None:
    world = on_stage(RIGHT)
    awaited_by_beat(world)
    check = examine(world)[CheckName.BEAT]
    assert (check.status, check.evidence) == (WARNING, ("no worker has its task, and 1 order waits to be started",))
    assert (hint_text(check.remedy) or "").startswith("sitegenctl start-stuck")


# --- PostgreSQL -----------------------------------------------------------------------------------------------


SCHEMAS = {
    "column": (
        "ALTER TABLE site_orders DROP COLUMN paid_at",
        FAILED,
        "site_orders has no column paid_at (timestamp without time zone)",
    ),
    "table": ("DROP TABLE site_deliverables", FAILED, "there is no table site_deliverables"),
    "type": (
        "ALTER TABLE site_orders ALTER COLUMN delivery_days TYPE text",
        FAILED,
        "site_orders.delivery_days is text, not integer",
    ),
    "label": ("ALTER TYPE sitecta RENAME VALUE 'FORM' TO 'FORMULAR'", FAILED, "enum sitecta lacks the label FORM"),
    "extra label": (
        "ALTER TYPE siteorderstatus ADD VALUE 'REFUNDED'",
        WARNING,
        "enum siteorderstatus has the label REFUNDED",
    ),
    "jsonb": ("ALTER TABLE site_generation_logs ALTER COLUMN details TYPE jsonb", OK, "as the contract"),
    "bigint": ("ALTER TABLE site_orders ALTER COLUMN id TYPE bigint", OK, "as the contract"),
    "time zone": ("ALTER TABLE site_orders ALTER COLUMN updated_at TYPE timestamptz", OK, "as the contract"),
    "text status": ("ALTER TABLE site_orders ALTER COLUMN status TYPE text", OK, "as the contract"),
    "enum of another name": ("ALTER TYPE siteorderstatus RENAME TO state", OK, "as the contract"),
    "label of another enum": (
        "ALTER TYPE sitecta RENAME VALUE 'FORM' TO 'F'; ALTER TYPE sitecta RENAME TO cta",
        FAILED,
        "enum cta lacks the label FORM",
    ),
    "enum for a number": (
        "ALTER TABLE site_orders ALTER COLUMN status TYPE integer USING 1",
        FAILED,
        "site_orders.status is integer, not siteorderstatus",
    ),
    "extra column": ("ALTER TABLE site_orders ADD COLUMN coupon text", OK, "as the contract"),
}


@pytest.mark.parametrize(
    ("statement", "status", "difference"),
    [
        pytest.param(*case, id=name, marks=pytest.mark.shows(CheckName.SCHEMA, case[1]))
        for name, case in SCHEMAS.items()
    ],
)
def test_a_schema_other_than_the_contract_is_told_in_detail(
    world: World, statement: str, status: CheckStatus, difference: str
) -> None:
    for each in statement.split("; "):
        world.sql(each)
    check = examine(world)[CheckName.SCHEMA]
    assert check.status is status
    assert difference in check.evidence[0]


@pytest.mark.shows(CheckName.POSTGRES, FAILED)
def test_a_database_without_the_tables_is_not_an_orders_database(world: World) -> None:
    world.sql("ALTER TABLE site_generation_logs RENAME TO elsewhere")
    check = examine(world)[CheckName.POSTGRES]
    assert (check.status, check.evidence[0]) == (FAILED, "it has no table site_generation_logs")


@pytest.mark.parametrize(
    ("wrong_by", "status"),
    [
        pytest.param(0, OK, marks=pytest.mark.shows(CheckName.CLOCKS, OK)),
        pytest.param(10, WARNING, marks=pytest.mark.shows(CheckName.CLOCKS, WARNING)),
        pytest.param(3600, FAILED, marks=pytest.mark.shows(CheckName.CLOCKS, FAILED)),
    ],
)
def test_a_wrong_clock_of_this_machine_is_noticed(world: World, wrong_by: float, status: CheckStatus) -> None:
    def with_a_wrong_clock(probes: HealthProbes) -> HealthProbes:
        # All servers of the test share one real clock: only what this machine takes for the time can be wrong.
        for probe in (probes.broker, probes.database):
            probe._now = lambda: time.time() - wrong_by  # type: ignore[attr-defined]
        return probes

    check = examine(world, probe=with_a_wrong_clock)[CheckName.CLOCKS]
    assert check.status is status
    if status is not OK:
        assert "PostgreSQL is" in check.evidence[0]
        assert check.remedy == "set the clock of this machine: chronyc makestep"


@pytest.mark.shows(CheckName.POSTGRES, FAILED)
def test_a_locked_table_is_told_and_not_taken_for_a_server_that_is_away(world: World) -> None:
    world.order(42)
    with held(world, "BEGIN; LOCK TABLE site_orders", application_name="alembic") as pid:
        found = check_up_of(world, timeout="0.5s")
        by_name = {check.name: check for check in found.checks}
        assert found.exit_code == 5
        assert by_name[CheckName.POSTGRES].status is FAILED
        assert "locked by " in by_name[CheckName.POSTGRES].evidence[0]
        assert (by_name[CheckName.SCHEMA].status, by_name[CheckName.ORDERS].status) == (OK, UNCHECKED)
        # The other's patience is short, ours is not: it is told who it is once it is more than a moment.
        who = f"site_orders is locked by pid {pid} (alembic, as "
        eventually(lambda: examine(world, timeout="0.5s")[CheckName.POSTGRES].evidence[0].startswith(who))
        quick = world.run("doctor", "--quick")
        assert quick.returncode == 5
        assert f"site_orders is locked by pid {pid}" in quick.stdout
    assert examine(world)[CheckName.POSTGRES].status is OK


@pytest.mark.shows(CheckName.POSTGRES, FAILED)
def test_a_database_that_answers_and_refuses_is_not_healthy(world: World) -> None:
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
    check = next(check for check in found.checks if check.name is CheckName.POSTGRES)
    assert (check.status, check.unreachable) == (FAILED, False)
    assert "may not change orders: it lacks SELECT" in check.evidence[0]


# --- orders ---------------------------------------------------------------------------------------------------


@pytest.mark.shows(CheckName.BACKEND, OK, FAILED)
@pytest.mark.shows(CheckName.ORDERS, FAILED)
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
    assert hint_text(found[CheckName.BACKEND].remedy) == "sitegenctl start-stuck"
    assert found[CheckName.ORDERS].status is FAILED
    assert "2 of 4 open orders in fault" in found[CheckName.ORDERS].evidence[0]
    assert {"1 failed", "1 unstarted"} <= set(found[CheckName.ORDERS].evidence[0].partition(": ")[2].split(", "))


# --- files ----------------------------------------------------------------------------------------------------


@pytest.mark.shows(CheckName.FINISHED_SITES, OK, FAILED)
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
    assert (check.status, hint_text(check.remedy)) == (FAILED, "sitegenctl inspect 2")


@pytest.mark.shows(CheckName.DIRECTORY, FAILED)
def test_a_directory_that_is_not_there_leaves_the_rest_unchecked(world: World) -> None:
    world.sites_dir = world.sites_dir / "unmounted"
    found = check_up_of(world)
    statuses = {check.name: check.status for check in found.checks}
    assert found.exit_code == 3
    assert statuses[CheckName.DIRECTORY] is FAILED
    assert (statuses[CheckName.FINISHED_SITES], statuses[CheckName.DISK]) == (UNCHECKED, UNCHECKED)


@pytest.fixture
def as_nobody(tmp_path: Path) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """What makes this process, for a while, a user without rights of his own; root would be allowed anything."""
    temporary = Path(tempfile.gettempdir())
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to(temporary) and folder != temporary and os.geteuid() == 0:
            folder.chmod(0o755)

    @contextlib.contextmanager
    def nobody() -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        os.setresuid(65534, 65534, 0)
        try:
            yield
        finally:
            os.setresuid(0, 0, 0)

    return nobody


@pytest.mark.shows(CheckName.DIRECTORY, OK, FAILED)
def test_a_directory_that_this_user_may_not_write_or_not_read(
    world: World, as_nobody: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    examine(world)  # imports everything, which that user may not be able to

    def look(mode: int, **flags: object) -> Check:
        world.sites_dir.chmod(mode)
        with as_nobody():
            return examine(world, **flags)[CheckName.DIRECTORY]

    assert look(0o777).status is OK
    check = look(0o555)
    assert (check.status, check.evidence) == (FAILED, (f"{world.sites_dir} can't be written by this user",))
    assert look(0o555, read_only=True).status is OK
    check = look(0o000, read_only=True)
    assert (check.status, check.evidence) == (FAILED, (f"{world.sites_dir} can't be read or written by this user",))
    # Nor one in a folder that may not be entered.
    outer, world.sites_dir = world.sites_dir, world.sites_dir / "inner"
    outer.chmod(0o755)
    world.sites_dir.mkdir()
    outer.chmod(0o000)
    with as_nobody():
        check = examine(world)[CheckName.DIRECTORY]
    outer.chmod(0o755)
    assert (check.status, check.evidence) == (FAILED, (f"{world.sites_dir} can't be read or written by this user",))


@pytest.mark.shows(CheckName.DISK, OK, FAILED)
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
    real = CeleryHealth.facts

    async def facts_and_then_gone(self: CeleryHealth) -> RedisFacts:
        facts = await real(self)
        self.__dict__ = CeleryHealth(NOWHERE, QueueOptions(), timeout=1).__dict__
        return facts

    monkeypatch.setattr(CeleryHealth, "facts", facts_and_then_gone)
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
    assert "SCAN" in unseen[CheckName.LEFTOVERS]


def test_a_database_that_lacks_a_table_says_so_where_orders_would_be_judged(on_stage: OnStage) -> None:
    world = on_stage(RIGHT)
    world.sql("DROP TABLE site_generation_logs")
    found = check_up_of(world)
    assert found.exit_code == 5
    by_name = {check.name: check for check in found.checks}
    assert by_name[CheckName.ORDERS].status is UNCHECKED
    assert "not an orders database" in by_name[CheckName.ORDERS].evidence[0]


def test_every_check_is_proven_to_pass_and_to_fail() -> None:
    assert unproven(sys.modules[__name__], CELERY_CHECKS) == {}
