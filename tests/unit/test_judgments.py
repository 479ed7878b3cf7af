"""Every judgment on its own: what passes, what warns, what fails, and what it says."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from sitegenctl.domain.diagnosis.condition import Condition, Source, fix_then_reset
from sitegenctl.domain.diagnosis.liveness import StaleClaim
from sitegenctl.domain.health import orders as feeding, servers, workers as work
from sitegenctl.domain.health.check import (
    DEMO_COMMANDS,
    Check,
    CheckName,
    CheckStatus,
    CheckUp,
    DeploymentCommands,
    WorkerCommands,
    failed,
    ok,
    unchecked,
    warning,
)
from sitegenctl.domain.health.facts import (
    Connections,
    DirectoryFacts,
    Leftovers,
    MessageFacts,
    PostgresFacts,
    QueueLook,
    RedisFacts,
    SchemaShape,
    TableLock,
    WorkerFacts,
    WorkersFacts,
)
from sitegenctl.domain.orders.site import SiteFiles
from sitegenctl.render.command import hint_text
from tests.support.access import FULL_ACCESS

STARTS = WorkerCommands()
ACCESS = DeploymentCommands()
OURS = work.Ours(queue="site_generation", task="generate")
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
    used=10**6,
    offset=seconds(0),
    database=0,
    workers=1,
    connections={0: Connections(listening=1, taking=1)},
    depth=0,
    unacked=0,
)
POSTGRES = PostgresFacts(latency=seconds(0.001), version="15.6", offset=seconds(0), access=FULL_ACCESS)
WORKER = WorkerFacts(
    name="a@crm",
    queues=("site_generation",),
    tasks=("generate",),
    hard_limit=seconds(600),
    soft_limit=seconds(540),
    visibility_timeout=seconds(3600),
    uptime=seconds(3600),
)
MAIL = WorkerFacts(name="mail@crm", queues=("mail",), tasks=("send",))
MESSAGES = MessageFacts(total=3, read=3, unreadable={})


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
        (replace(REDIS, maxmemory=10**6), FAILED, "it is full (977 kB of maxmemory 977 kB): Redis refuses writes"),
        (replace(REDIS, maxmemory=10**6 + 1), OK, "answers"),
    ],
)
def test_redis(facts: RedisFacts, status: CheckStatus, words: str) -> None:
    check = servers.judge_redis(facts, ACCESS)
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
    check = servers.judge_persistence(replace(REDIS, appendonly=appendonly, saves=saves), ACCESS)
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
    assert servers.judge_eviction(replace(REDIS, policy=policy, maxmemory=maxmemory), ACCESS).status is status


def test_postgres() -> None:
    assert servers.judge_postgres(POSTGRES, ACCESS).status is OK
    check = servers.judge_postgres(replace(POSTGRES, missing_tables=("site_orders",)), ACCESS)
    assert (check.status, told(check).startswith("it has no table site_orders")) == (FAILED, True)


def test_a_lock_is_told_once_it_is_more_than_a_moment() -> None:
    lock = TableLock(table="site_orders", pid=7, client="alembic", user="crm", open_for=seconds(1))
    assert servers.judge_postgres(replace(POSTGRES, locks=(lock,)), ACCESS).status is OK
    check = servers.judge_postgres(replace(POSTGRES, locks=(replace(lock, open_for=seconds(90)),)), ACCESS)
    assert check.status is FAILED
    assert check.evidence[0].startswith("site_orders is locked by pid 7 (alembic, as crm), in a transaction that has")
    assert "open for 1m 30s" in check.evidence[0]
    assert (hint_text(check.remedy) or "").startswith('psql "$DATABASE_URL" -c "SELECT')


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
            {**CONTRACT.tables, "orders": {"id": "uuid", "status": "s"}},
            CONTRACT.enums,
            FAILED,
            "orders.id is uuid, not integer",
        ),
        ({**CONTRACT.tables, "orders": {"id": "bigint", "status": "s"}}, CONTRACT.enums, OK, "as the contract"),
        ({**CONTRACT.tables, "orders": {"id": "integer", "status": "text"}}, {}, OK, "as the contract"),
        ({**CONTRACT.tables, "orders": {"id": "integer", "status": "u"}}, {"u": ("A", "B")}, OK, "as the contract"),
        (
            {**CONTRACT.tables, "orders": {"id": "integer", "status": "u"}},
            {"u": ("A",)},
            FAILED,
            "enum u lacks the label B",
        ),
        (
            {**CONTRACT.tables, "orders": {"id": "integer", "status": "integer"}},
            CONTRACT.enums,
            FAILED,
            "orders.status is integer, not s",
        ),
        (CONTRACT.tables, {"s": ("A",)}, FAILED, "enum s lacks the label B"),
        (CONTRACT.tables, {"s": ("A", "B", "C")}, WARNING, "enum s has the label C"),
    ],
)
def test_schema(
    tables: dict[str, dict[str, str]], enums: dict[str, tuple[str, ...]], status: CheckStatus, difference: str
) -> None:
    check = servers.judge_schema(CONTRACT, SchemaShape(tables=tables, enums=enums), ACCESS)
    assert check.status is status
    assert difference in told(check)


def test_a_missing_label_alone_is_mended_by_one_statement() -> None:
    check = servers.judge_schema(CONTRACT, SchemaShape(tables=CONTRACT.tables, enums={"s": ("A",)}), ACCESS)
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
    assert (remedy or "") in (hint_text(check.remedy) or "")


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
    check = servers.judge_directory(facts, ACCESS, read_only=read_only)
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
    check = servers.judge_finished("/sites", sample, files, ACCESS)
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
    check = servers.judge_disk(replace(FOLDER, **changes))
    assert check.status is status
    # The command that does it: nobody is to clear the trash by hand.
    assert ("sitegenctl maintain --keep-trash 1d" in (hint_text(check.remedy) or "")) == (status in (WARNING, FAILED))


# --- workers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "connections", "status", "words"),
    [
        (2, {}, OK, "2 workers connected to database 0"),
        (2, None, OK, "2 workers connected to database 0"),
        (0, {}, FAILED, "no worker is alive"),
        (0, None, FAILED, "no worker responds to remote control"),
        (0, {0: Connections(listening=1, taking=1)}, FAILED, "1 client on this broker may be one"),
        (0, {1: Connections(listening=1)}, FAILED, "no worker is alive"),
        (0, {1: Connections(listening=1, taking=1)}, FAILED, "what looks like one on database 1 of the same Redis"),
        (None, {0: Connections(listening=1, taking=1)}, UNCHECKED, "does not tell"),
    ],
)
def test_connected(
    number: int | None, connections: dict[int, Connections] | None, status: CheckStatus, words: str
) -> None:
    check = work.judge_connected(replace(REDIS, workers=number, connections=connections), STARTS, ACCESS)
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
        WorkersFacts(workers=workers, silent=silent, patience=seconds(4)),
        replace(REDIS, connections={}),
        STARTS,
        ACCESS,
    )
    assert check.status is status
    assert words in told(check)


def test_stale_claims_are_a_warning() -> None:
    facts = WorkersFacts(workers=(WORKER,))
    claims = [
        StaleClaim(worker="a@crm", task_id=f"t{number}", order_id=number, reason="it has ended") for number in range(5)
    ]
    check = work.judge_alive(facts, REDIS, STARTS, ACCESS, stale=claims)
    assert (check.status, check.remedy) == (WARNING, STARTS.restart_worker)
    assert check.evidence[1] == "a@crm lists task t0 of order 0 as running: it has ended"
    assert check.evidence[-1] == "2 more stale tasks; inspect workers lists them"


def test_queue_and_task_name_what_is_there_instead() -> None:
    assert work.judge_queue(WorkersFacts(workers=(WORKER,)), OURS, STARTS).status is OK
    idle = replace(WORKER, queues=("celery",))
    check = work.judge_queue(WorkersFacts(workers=(idle,)), OURS, STARTS)
    assert (check.status, check.evidence[1]) == (FAILED, "they consume celery instead")
    assert (hint_text(check.remedy) or "").startswith("sitegenctl queue resume   (")
    assert "no queue at all" in told(
        work.judge_queue(WorkersFacts(workers=(replace(WORKER, queues=()),)), OURS, STARTS)
    )
    assert work.judge_task([WORKER], replace(OURS, task="app.generate")).status is FAILED
    assert work.judge_task([WORKER], OURS).status is OK
    # A worker of another queue needs no task of ours, and is not told to take what it would throw away.
    assert work.judge_task([WORKER, MAIL], OURS).status is OK
    assert (work.judge_queue(WorkersFacts(workers=(idle, MAIL)), OURS, STARTS).remedy or "").startswith(
        "docker start crm-celery-worker   ("
    )


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
    assert work.judge_limits([worker], OURS).status is status
    # What others have does not matter.
    assert work.judge_limits([worker, MAIL], OURS).status is status


def test_limits_that_no_worker_of_ours_tells_are_unchecked() -> None:
    assert work.judge_limits([MAIL], OURS).status is UNCHECKED
    assert work.judge_limits([replace(WORKER, queues=())], OURS).status is OK  # it has the task


@pytest.mark.parametrize(
    ("timeout", "hold", "status", "words"),
    [
        (3600, None, OK, "longer than the hard limit of 600 s"),
        (None, None, OK, "3600 s"),
        (3600, 180, OK, "and the longest wait for an ETA of 3m"),
        (300, None, FAILED, "300 s is not longer than the hard limit of 600 s"),
        (3600, 7200, FAILED, "not longer than the longest wait for an ETA of 7200 s"),
    ],
)
def test_visibility(timeout: float | None, hold: float | None, status: CheckStatus, words: str) -> None:
    worker = replace(WORKER, visibility_timeout=None if timeout is None else seconds(timeout))
    messages = replace(MESSAGES, longest_hold=None if hold is None else seconds(hold))
    check = work.judge_visibility([worker], OURS, messages)
    assert check.status is status
    assert words in told(check)


def test_any_worker_that_consumes_gives_back_what_is_unacked() -> None:
    hasty = replace(MAIL, visibility_timeout=seconds(300))
    assert told(work.judge_visibility([WORKER, hasty], OURS, MESSAGES)).startswith("300 s at mail@crm is not longer")
    assert work.judge_visibility([WORKER, replace(hasty, queues=())], OURS, MESSAGES).status is OK
    # How long another's tasks may take is no matter of ours.
    slow = replace(MAIL, hard_limit=seconds(7200))
    assert work.judge_visibility([WORKER, slow], OURS, MESSAGES).status is OK


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
        (WAITING, IDLE, WorkersFacts(workers=(WORKER, replace(MAIL, busy=2, finished=9))), FAILED),
        (WAITING, IDLE, WorkersFacts(workers=(WORKER,), silent=1), UNCHECKED),
        (WAITING, WorkersFacts(), WorkersFacts(), UNCHECKED),
    ],
)
def test_progress(second: QueueLook, before: WorkersFacts, after: WorkersFacts, status: CheckStatus) -> None:
    watched = work.Watched(first=WAITING, second=second, before=before, after=after, waited=seconds(3))
    check = work.judge_progress(watched, OURS, STARTS)
    assert check.status is status
    if status is FAILED:
        assert told(check) == "3 messages wait, and 1 idle worker took none for 3 s"


def test_a_queue_that_nobody_consumes_does_not_progress_whatever_others_do() -> None:
    others = WorkersFacts(workers=(replace(MAIL, busy=1),))
    check = work.judge_progress(work.Watched(first=WAITING, second=WAITING, before=others, after=others), OURS, STARTS)
    assert (check.status, told(check)) == (FAILED, "3 messages wait, and no worker consumes site_generation")


def test_messages_and_leftovers() -> None:
    assert work.judge_serialization(MESSAGES).status is OK
    assert "3 of 900 messages" in told(work.judge_serialization(replace(MESSAGES, total=900)))
    check = work.judge_serialization(replace(MESSAGES, unreadable={"application/x-python-serialize": 2}))
    assert (check.status, check.evidence[0]) == (FAILED, "2 of 3 messages not JSON: application/x-python-serialize (2)")
    assert work.judge_leftovers(Leftovers(reply_lists=0, bindings=3), "", ACCESS).status is OK
    check = work.judge_leftovers(Leftovers(reply_lists=2, bindings=3), "", ACCESS)
    assert (check.status, hint_text(check.remedy)) == (WARNING, "sitegenctl maintain")
    assert work.judge_leftovers(Leftovers(reply_lists=0, bindings=3, undated=2), "", ACCESS).status is UNCHECKED
    check = work.judge_leftovers(Leftovers(reply_lists=0, bindings=1000), "our sites:", ACCESS)
    assert check.status is WARNING
    assert "DEL 'our sites:_kombu.binding.reply.celery.pidbox'" in (hint_text(check.remedy) or "")
    assert "in part" in told(work.judge_leftovers(Leftovers(reply_lists=0, bindings=0, complete=False), "", ACCESS))


# --- orders ---------------------------------------------------------------------------------------------------


def test_backend_names_the_command_for_what_it_forgot() -> None:
    assert feeding.judge_backend({1: Condition.QUEUED, 2: Condition.SETTLING}, {}).status is OK
    forgotten = dict.fromkeys((3, 4, 5, 9), Condition.UNSTARTED)
    check = feeding.judge_backend(forgotten, {3: seconds(60), 4: seconds(7200)})
    assert (check.status, hint_text(check.remedy)) == (FAILED, "sitegenctl start-stuck")
    assert told(check) == "4 orders are ready, the oldest for 2h, and nobody enqueued them"


WAITED = {1: seconds(7200)}


@pytest.mark.parametrize(
    ("runs", "uptime", "queued", "due", "status", "words"),
    [
        (30, 3600, 0, WAITED, OK, "ran 30 times in 1h"),
        (0, 3600, 5, WAITED, OK, "5 messages of its own in the queue"),
        (0, 3600, 0, {}, OK, "not needed now"),
        (0, 3600, 0, None, UNCHECKED, "can't be asked"),
        (0, 3600, 0, WAITED, FAILED, "ran 0 times in 1h, and 1 order waits to be started"),
        (3, 36000, 0, WAITED, FAILED, "ran 3 times in 10h, and 1 order waits"),
        # Neither the worker nor the order has been there for long enough to tell.
        (0, 300, 0, WAITED, UNCHECKED, "can't be asked"),
        (0, 3600, 0, {1: seconds(300)}, UNCHECKED, "can't be asked"),
    ],
)
def test_beat(
    runs: int, uptime: float, queued: int, due: dict[int, timedelta] | None, status: CheckStatus, words: str
) -> None:
    worker = replace(WORKER, beat_runs=runs, uptime=seconds(uptime), tasks=("generate", feeding.BEAT_TASK))
    # One of another queue has been there for ever, and never runs it.
    facts = WorkersFacts(workers=(worker, replace(MAIL, uptime=seconds(10**6))))
    watched = work.Watched(first=WAITING, second=WAITING, before=facts, after=facts)
    check = feeding.judge_beat(watched, replace(MESSAGES, beat=queued), due, OURS, STARTS)
    assert check.status is status
    assert words in told(check)
    if status is FAILED:
        assert check.remedy == "docker restart crm-celery-beat"
        demo = feeding.judge_beat(watched, replace(MESSAGES, beat=queued), due, OURS, DEMO_COMMANDS)
        assert hint_text(demo.remedy) == "sitegenctl start-stuck"


@pytest.mark.parametrize(
    ("workers", "queued", "came", "status", "words"),
    [
        (WorkersFacts(), 0, False, UNCHECKED, "no worker could tell"),
        (WorkersFacts(), 1, False, UNCHECKED, "1 message of its own in the queue, of any age"),
        (WorkersFacts(), 2, True, OK, "a message of its own came within 3 s"),
        (WorkersFacts(workers=(MAIL,)), 1, False, UNCHECKED, "of any age"),
        (None, 1, False, UNCHECKED, "of any age"),
    ],
)
def test_beat_without_a_worker_of_ours(
    workers: WorkersFacts | None, queued: int, came: bool, status: CheckStatus, words: str
) -> None:
    watched = workers and work.Watched(
        first=WAITING, second=WAITING, before=workers, after=workers, waited=seconds(3), beat_came=came
    )
    check = feeding.judge_beat(watched, replace(MESSAGES, beat=queued), WAITED, OURS, STARTS)
    assert check.status is status
    assert words in told(check)


def test_a_worker_without_beats_task_can_not_be_what_starts_the_waiting() -> None:
    facts = WorkersFacts(workers=(WORKER,))
    watched = work.Watched(first=WAITING, second=WAITING, before=facts, after=facts)
    check = feeding.judge_beat(watched, MESSAGES, WAITED, OURS, STARTS)
    assert (check.status, told(check)) == (WARNING, "no worker has its task, and 1 order waits to be started")


def test_orders() -> None:
    assert feeding.judge_orders({}).status is OK
    assert feeding.judge_orders({1: Condition.QUEUED}).status is OK
    assert feeding.judge_orders({1: Condition.UNKNOWN}).status is UNCHECKED
    check = feeding.judge_orders({1: Condition.FAILED, 2: Condition.FAILED, 3: Condition.GHOST, 4: Condition.WAITING})
    assert (check.status, told(check)) == (FAILED, "3 of 4 open orders in fault: 2 failed, 1 ghost")
    check = feeding.judge_orders({1: Condition.FAILED, 2: Condition.FAILED})
    assert hint_text(check.remedy) == "sitegenctl retry-failed"
    used_up = {Condition.FAILED: fix_then_reset(1)}
    assert feeding.judge_orders({1: Condition.FAILED}, used_up).remedy == used_up[Condition.FAILED]
    # Where nothing mends by itself, maintain would be silence.
    check = feeding.judge_orders({1: Condition.FAILED, 2: Condition.BLOCKED}, used_up)
    assert hint_text(check.remedy) == "sitegenctl inspect   (shows what each of them needs)"
