"""Every judgment on its own: what passes, what warns, what fails, and what it says."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from sitegenctl.domain import health_servers as servers, health_work as work
from sitegenctl.domain.condition import Condition, Source
from sitegenctl.domain.health import (
    Check,
    CheckName,
    CheckStatus,
    CheckUp,
    StartCommands,
    failed,
    ok,
    unchecked,
    warning,
)
from sitegenctl.domain.probes import (
    Connections,
    DirectoryFacts,
    Leftovers,
    MessageFacts,
    PostgresFacts,
    QueueLook,
    RedisFacts,
    SchemaShape,
    WorkerFacts,
    WorkersFacts,
)
from sitegenctl.domain.site import SiteFiles

STARTS = StartCommands()
OK, WARNING, FAILED, UNCHECKED = CheckStatus.OK, CheckStatus.WARNING, CheckStatus.FAILED, CheckStatus.UNCHECKED
GB = 1024**3


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


REDIS = RedisFacts(
    latency=seconds(0.0004),
    version="7.2.4",
    role="master",
    appendonly=True,
    saves="",
    write_error=None,
    policy="noeviction",
    maxmemory=0,
    offset=seconds(0),
    database=0,
    connections={0: Connections(listening=1, taking=1)},
    depth=0,
    unacked=0,
)
POSTGRES = PostgresFacts(latency=seconds(0.001), version="15.6", offset=seconds(0))
WORKER = WorkerFacts(
    name="a@crm",
    queues=("site_generation",),
    tasks=("generate",),
    hard_limit=seconds(600),
    soft_limit=seconds(540),
    visibility_timeout=seconds(3600),
    uptime=seconds(3600),
)
MESSAGES = MessageFacts(total=3, read=3, not_json={})


def told(check: Check) -> str:
    return " / ".join(check.evidence)


# --- the check-up ---------------------------------------------------------------------------------------------

PASSED = ok(CheckName.REDIS, Source.BROKER, "fine")
WARNED = warning(CheckName.EVICTION, Source.BROKER, "unwise", remedy="do")
BROKEN = failed(CheckName.SCHEMA, Source.DATABASE, "broken", remedy="do")
AWAY = failed(CheckName.POSTGRES, Source.DATABASE, "away", remedy="do", unreachable=True)
UNSEEN = unchecked(CheckName.DISK, Source.FILES, "nobody knows")


@pytest.mark.parametrize(
    ("checks", "strict", "code", "summary"),
    [
        ([PASSED], False, 0, "healthy: 1 check passed"),
        ([PASSED, PASSED, WARNED], False, 0, "healthy: 2 checks passed, 1 warning"),
        ([PASSED, WARNED], True, 5, "unhealthy: 1 warning"),
        ([PASSED, UNSEEN], True, 0, "healthy: 1 check passed, 1 could not be checked"),
        ([BROKEN, BROKEN, WARNED, UNSEEN], False, 5, "unhealthy: 2 failed, 1 warning, 1 could not be checked"),
        ([BROKEN, AWAY, UNSEEN], False, 3, "unhealthy: 2 failed, 1 could not be checked"),
    ],
)
def test_the_exit_code_and_the_summary(checks: list[Check], strict: bool, code: int, summary: str) -> None:
    found = CheckUp(checks=checks, strict=strict)
    assert (found.exit_code, found.summary) == (code, summary)


# --- servers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "status", "words"),
    [
        (REDIS, OK, "answers in 0.4 ms, version 7.2.4"),
        (replace(REDIS, role="slave"), FAILED, "takes no writes"),
        (replace(REDIS, write_error="the last snapshot failed"), FAILED, "refuses writes"),
    ],
)
def test_redis(facts: RedisFacts, status: CheckStatus, words: str) -> None:
    check = servers.judge_redis(facts)
    assert check.status is status
    assert words in told(check)
    assert (check.remedy is None) == (status is OK)


@pytest.mark.parametrize(
    ("appendonly", "saves", "status", "words"),
    [
        (True, "", OK, "outlives a restart"),
        (False, "", WARNING, "the queue dies with Redis"),
        (False, "3600 1 300 100", WARNING, "snapshots only"),
        (False, None, UNCHECKED, "does not tell"),
    ],
)
def test_persistence(appendonly: bool, saves: str | None, status: CheckStatus, words: str) -> None:
    check = servers.judge_persistence(replace(REDIS, appendonly=appendonly, saves=saves))
    assert check.status is status
    assert words in told(check)


@pytest.mark.parametrize(
    ("policy", "maxmemory", "status"),
    [
        ("noeviction", 0, OK),
        ("allkeys-lru", 0, OK),
        ("noeviction", GB, OK),
        ("allkeys-lru", GB, WARNING),
        ("volatile-ttl", GB, WARNING),
        (None, GB, UNCHECKED),
    ],
)
def test_eviction(policy: str | None, maxmemory: int, status: CheckStatus) -> None:
    assert servers.judge_eviction(replace(REDIS, policy=policy, maxmemory=maxmemory)).status is status


def test_postgres() -> None:
    assert servers.judge_postgres(POSTGRES).status is OK
    check = servers.judge_postgres(replace(POSTGRES, missing_tables=("site_orders",)))
    assert (check.status, told(check).startswith("it has no table site_orders")) == (FAILED, True)


CONTRACT = SchemaShape(
    tables={"orders": {"id": "integer", "status": "s"}, "site_generation_logs": {"details": "json"}},
    enums={"s": ("A", "B")},
)


@pytest.mark.parametrize(
    ("tables", "enums", "status", "difference"),
    [
        (CONTRACT.tables, CONTRACT.enums, OK, "2 tables and 1 enum as the contract"),
        ({**CONTRACT.tables, "other": {}}, {"s": ("A", "B"), "t": ("X",)}, OK, "as the contract"),
        ({**CONTRACT.tables, "site_generation_logs": {"details": "jsonb"}}, CONTRACT.enums, OK, "as the contract"),
        ({"orders": CONTRACT.tables["orders"]}, CONTRACT.enums, FAILED, "there is no table site_generation_logs"),
        ({**CONTRACT.tables, "orders": {"status": "s"}}, CONTRACT.enums, FAILED, "orders has no column id (integer)"),
        (
            {**CONTRACT.tables, "orders": {"id": "bigint", "status": "s"}},
            CONTRACT.enums,
            FAILED,
            "orders.id is bigint, not integer",
        ),
        (CONTRACT.tables, {"s": ("A",)}, FAILED, "enum s lacks the label B"),
        (CONTRACT.tables, {}, FAILED, "there is no enum s"),
        (CONTRACT.tables, {"s": ("A", "B", "C")}, WARNING, "enum s has the label C"),
    ],
)
def test_schema(
    tables: dict[str, dict[str, str]], enums: dict[str, tuple[str, ...]], status: CheckStatus, difference: str
) -> None:
    check = servers.judge_schema(CONTRACT, SchemaShape(tables=tables, enums=enums))
    assert check.status is status
    assert difference in told(check)


def test_a_missing_label_alone_is_mended_by_one_statement() -> None:
    check = servers.judge_schema(CONTRACT, SchemaShape(tables=CONTRACT.tables, enums={"s": ("A",)}))
    assert check.remedy == 'psql "$DATABASE_URL" -c "ALTER TYPE s ADD VALUE \'B\';"'


@pytest.mark.parametrize(
    ("postgres", "redis", "status", "remedy"),
    [
        (0.001, -0.5, OK, None),
        (5, 0, WARNING, "the machine of PostgreSQL"),
        (0, -5, WARNING, "the machine of Redis"),
        (5, 5, WARNING, "the clock of this machine"),
        (90, 90, FAILED, "the clock of this machine"),
        (None, -90, FAILED, "the machine that is off"),
        (None, 0.1, UNCHECKED, None),
        (None, None, UNCHECKED, None),
    ],
)
def test_clocks(postgres: float | None, redis: float | None, status: CheckStatus, remedy: str | None) -> None:
    offsets = {"PostgreSQL": postgres, "Redis": redis}
    check = servers.judge_clocks({name: None if s is None else seconds(s) for name, s in offsets.items()})
    assert check.status is status
    assert (check.remedy is None) == (remedy is None)
    assert (remedy or "") in (check.remedy or "")


FOLDER = DirectoryFacts(
    path="/sites",
    exists=True,
    readable=True,
    writable=True,
    free=20 * GB,
    size=40 * GB,
    free_inodes=10**6,
    inodes=2 * 10**6,
)


@pytest.mark.parametrize(
    ("facts", "read_only", "status", "code"),
    [
        (FOLDER, False, OK, 0),
        (replace(FOLDER, writable=False), False, FAILED, 5),
        (replace(FOLDER, writable=False), True, OK, 0),
        (replace(FOLDER, readable=False), True, FAILED, 5),
        (DirectoryFacts(path="/sites", exists=False), False, FAILED, 3),
    ],
)
def test_directory(facts: DirectoryFacts, read_only: bool, status: CheckStatus, code: int) -> None:
    check = servers.judge_directory(facts, read_only=read_only)
    assert (check.status, CheckUp(checks=[check]).exit_code) == (status, code)


WHOLE, HOLLOW = SiteFiles(count=8, size=1), SiteFiles(count=0, size=0)


@pytest.mark.parametrize(
    ("sample", "files", "status", "words"),
    [
        ([3, 2], {3: WHOLE, 2: WHOLE}, OK, "the newest 2 finished have their files"),
        ([3, 2], {3: HOLLOW, 2: HOLLOW}, FAILED, "not the directory that the workers write"),
        ([3, 2], {3: WHOLE, 2: HOLLOW}, FAILED, "of the newest 2 finished, 1 has no whole site: order 2"),
        ([3, 2], {3: WHOLE}, UNCHECKED, "2 could not be counted"),
        ([], {}, UNCHECKED, "no order is finished yet"),
    ],
)
def test_finished(sample: list[int], files: dict[int, SiteFiles], status: CheckStatus, words: str) -> None:
    check = servers.judge_finished("/sites", sample, files)
    assert check.status is status
    assert words in told(check)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, OK),
        ({"free": 500 * 1024**2}, WARNING),
        ({"free": 1024**2}, FAILED),
        ({"free_inodes": 5000}, WARNING),
        ({"free_inodes": 3}, FAILED),
        ({"free_inodes": 0, "inodes": 0}, OK),  # btrfs counts none
        ({"free": None}, UNCHECKED),
    ],
)
def test_disk(changes: dict[str, int | None], status: CheckStatus) -> None:
    assert servers.judge_disk(replace(FOLDER, **changes)).status is status


# --- workers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("connections", "status", "words"),
    [
        ({0: Connections(listening=2, taking=2)}, OK, "2 workers connected to database 0"),
        ({}, FAILED, "no worker is alive"),
        ({0: Connections(listening=1)}, FAILED, "no worker is alive"),  # Flower alone
        ({1: Connections(listening=1, taking=1)}, FAILED, "on database 1 of the same Redis"),
        (None, UNCHECKED, "does not tell"),
    ],
)
def test_connected(connections: dict[int, Connections] | None, status: CheckStatus, words: str) -> None:
    check = work.judge_connected(replace(REDIS, connections=connections), STARTS)
    assert check.status is status
    assert words in told(check)


@pytest.mark.parametrize(
    ("workers", "silent", "status", "words"),
    [
        ((WORKER,), 0, OK, "1 worker: a@crm"),
        ((WORKER,), 1, WARNING, "1 of 2 connected workers did not answer within 4 s"),
        ((), 1, FAILED, "1 of 1 connected worker did not answer within 4 s"),
        ((), 0, FAILED, "no worker is alive"),
    ],
)
def test_alive(workers: tuple[WorkerFacts, ...], silent: int, status: CheckStatus, words: str) -> None:
    check = work.judge_alive(
        WorkersFacts(workers=workers, silent=silent, patience=seconds(4)), replace(REDIS, connections={}), STARTS
    )
    assert check.status is status
    assert words in told(check)


def test_queue_and_task_name_what_is_there_instead() -> None:
    assert work.judge_queue([WORKER], "site_generation").status is OK
    check = work.judge_queue([replace(WORKER, queues=("celery",))], "site_generation")
    assert (check.status, check.evidence[1]) == (FAILED, "they consume celery instead")
    assert "no queue at all" in told(work.judge_queue([replace(WORKER, queues=())], "site_generation"))
    assert work.judge_task([WORKER], "site_generation", "app.generate").status is FAILED
    assert work.judge_task([WORKER], "site_generation", "generate").status is OK
    # A worker of another queue needs no task of ours.
    other = replace(WORKER, queues=("mail",), tasks=("send",))
    assert work.judge_task([WORKER, other], "site_generation", "generate").status is OK


@pytest.mark.parametrize(
    ("soft", "hard", "status"),
    [(540, 600, OK), (540, 900, WARNING), (None, 600, WARNING), (540, None, FAILED), (None, None, FAILED)],
)
def test_limits(soft: float | None, hard: float | None, status: CheckStatus) -> None:
    worker = replace(
        WORKER,
        soft_limit=None if soft is None else seconds(soft),
        hard_limit=None if hard is None else seconds(hard),
    )
    assert work.judge_limits([worker]).status is status


@pytest.mark.parametrize(
    ("timeout", "eta", "status", "words"),
    [
        (3600, None, OK, "longer than the hard limit of 600 s"),
        (None, None, OK, "3600 s"),
        (3600, 180, OK, "and the longest ETA of 3m"),
        (300, None, FAILED, "300 s is not longer than the hard limit of 600 s"),
        (3600, 7200, FAILED, "not longer than the longest ETA of 7200 s"),
    ],
)
def test_visibility(timeout: float | None, eta: float | None, status: CheckStatus, words: str) -> None:
    worker = replace(WORKER, visibility_timeout=None if timeout is None else seconds(timeout))
    messages = replace(MESSAGES, longest_eta=None if eta is None else seconds(eta))
    check = work.judge_visibility([worker], messages)
    assert check.status is status
    assert words in told(check)


WAITING = QueueLook(depth=3, head=("a",))
IDLE = WorkersFacts(workers=(WORKER,))


@pytest.mark.parametrize(
    ("second", "before", "after", "status"),
    [
        (WAITING, IDLE, IDLE, FAILED),
        (QueueLook(depth=0), IDLE, IDLE, OK),
        (QueueLook(depth=2, head=("b",)), IDLE, IDLE, OK),
        (QueueLook(depth=3, head=("b",)), IDLE, IDLE, OK),
        (WAITING, IDLE, WorkersFacts(workers=(replace(WORKER, busy=2),)), OK),
        (WAITING, IDLE, WorkersFacts(workers=(replace(WORKER, finished=1),)), OK),
        (WAITING, IDLE, WorkersFacts(workers=(WORKER,), silent=1), UNCHECKED),
        (WAITING, WorkersFacts(), WorkersFacts(), UNCHECKED),
    ],
)
def test_progress(second: QueueLook, before: WorkersFacts, after: WorkersFacts, status: CheckStatus) -> None:
    watched = work.Watched(first=WAITING, second=second, before=before, after=after, waited=seconds(3))
    check = work.judge_progress(watched, STARTS)
    assert check.status is status
    if status is FAILED:
        assert told(check) == "3 messages wait, and 1 idle worker took none for 3 s"


def test_messages_and_leftovers() -> None:
    assert work.judge_serialization(MESSAGES).status is OK
    assert "3 of 900 messages" in told(work.judge_serialization(replace(MESSAGES, total=900)))
    check = work.judge_serialization(replace(MESSAGES, not_json={"application/x-python-serialize": 2}))
    assert (check.status, check.evidence[0]) == (FAILED, "2 of 3 messages not JSON: application/x-python-serialize (2)")
    assert work.judge_leftovers(Leftovers(reply_lists=0, bindings=3), "").status is OK
    assert work.judge_leftovers(Leftovers(reply_lists=2, bindings=3), "").status is WARNING
    assert work.judge_leftovers(Leftovers(reply_lists=0, bindings=1000), "").status is WARNING
    assert "in part" in told(work.judge_leftovers(Leftovers(reply_lists=0, bindings=0, complete=False), ""))


# --- orders ---------------------------------------------------------------------------------------------------


def test_backend_names_the_command_for_what_it_forgot() -> None:
    assert work.judge_backend({1: Condition.QUEUED, 2: Condition.SETTLING}, {}).status is OK
    forgotten = dict.fromkeys((3, 4, 5, 9), Condition.UNSTARTED)
    check = work.judge_backend(forgotten, {3: seconds(60), 4: seconds(7200)})
    assert (check.status, check.remedy) == (FAILED, "sitegenctl enqueue 3-5 9")
    assert told(check) == "4 orders are ready, the oldest for 2h, and nobody enqueued them"


@pytest.mark.parametrize(
    ("runs", "uptime", "queued", "conditions", "status"),
    [
        (30, 3600, 0, {1: Condition.UNSTARTED}, OK),
        (3, 36000, 0, {1: Condition.UNSTARTED}, UNCHECKED),
        (0, 3600, 5, {1: Condition.UNSTARTED}, OK),
        (0, 3600, 0, {1: Condition.QUEUED}, OK),
        (0, 3600, 0, None, UNCHECKED),
    ],
)
def test_beat(
    runs: int, uptime: float, queued: int, conditions: dict[int, Condition] | None, status: CheckStatus
) -> None:
    workers = WorkersFacts(workers=(replace(WORKER, beat_runs=runs, uptime=seconds(uptime)),))
    assert work.judge_beat(workers, replace(MESSAGES, beat=queued), conditions, STARTS).status is status


def test_orders() -> None:
    assert work.judge_orders({}).status is OK
    assert work.judge_orders({1: Condition.QUEUED}).status is OK
    assert work.judge_orders({1: Condition.UNKNOWN}).status is UNCHECKED
    check = work.judge_orders({1: Condition.FAILED, 2: Condition.FAILED, 3: Condition.GHOST, 4: Condition.WAITING})
    assert (check.status, told(check)) == (FAILED, "3 of 4 open orders in fault: 2 failed, 1 ghost")
