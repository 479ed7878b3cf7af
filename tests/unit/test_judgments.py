from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sitegenctl.config.settings import Settings
from sitegenctl.domain.diagnosis.condition import Condition, Source, fix_then_reset
from sitegenctl.domain.diagnosis.liveness import StaleClaim
from sitegenctl.domain.health.check import Check, CheckStatus, CheckUp, Definition, Missing, run_checks
from sitegenctl.domain.health.files import DirectoryFacts, FinishedSites, directory, disk, finished_sites
from sitegenctl.domain.health.messages import Leftovers, MessageFacts, leftovers, serialization
from sitegenctl.domain.health.orders import BEAT_TASK, OpenOrders, backend, beat, open_orders
from sitegenctl.domain.health.postgres import (
    PostgresFacts,
    Schemas,
    SchemaShape,
    TableLock,
    clock_problem,
    clocks,
    postgresql,
    schema,
)
from sitegenctl.domain.health.redis import Connections, RedisFacts, eviction, persistence, redis
from sitegenctl.domain.health.workers import (
    QueueActivity,
    QueueHead,
    StaleClaims,
    WorkerFacts,
    WorkersFacts,
    progress,
    time_limits,
    visibility,
    worker,
    worker_queue,
    worker_task,
)
from sitegenctl.domain.orders.site import SiteFiles
from sitegenctl.render.command import hint_text
from sitegenctl.session import doctor_options
from tests.support.values import FULL_ACCESS

OK, WARNING, FAILED, UNCHECKED = CheckStatus.OK, CheckStatus.WARNING, CheckStatus.FAILED, CheckStatus.UNCHECKED
GB = 1024**3


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


SETTINGS = Settings(
    redis_url="redis://h",
    database_url="postgresql://h/crm",
    task="app.generate",
    variables={"redis_url": "REDIS_URL", "database_url": "DATABASE_URL"},
)
SYSTEM = doctor_options(SETTINGS, patience=seconds(3)).system
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
    unacked=0,
)
LIMITED = replace(REDIS, maxmemory=GB)
POSTGRES = PostgresFacts(latency=seconds(0.001), version="15.6", offset=seconds(0), access=FULL_ACCESS)
LOCK = TableLock(table="site_orders", pid=7, client="alembic", user="crm", open_for=seconds(90))
WORKER = WorkerFacts(
    name="a@crm",
    queues=("site_generation",),
    tasks=("app.generate",),
    hard_limit=seconds(600),
    soft_limit=seconds(540),
    visibility_timeout=seconds(3600),
    uptime=seconds(3600),
)
IDLE = replace(WORKER, queues=("celery",))
MAIL = WorkerFacts(name="mail@crm", queues=("mail",), tasks=("send",))
MESSAGES = MessageFacts(total=3, read=3, unreadable={})
DIRECTORY = DirectoryFacts(
    path="/sites",
    exists=True,
    readable=True,
    writable=True,
    free=20 * GB,
    size=40 * GB,
    free_inodes=10**6,
    inodes=2 * 10**6,
)
LOCKED = replace(POSTGRES, locks=(LOCK,))
OTHER_DATABASE = replace(REDIS, workers=0, connections={1: Connections(listening=1, taking=1)})
HASTY, BUSY_MAIL = replace(MAIL, visibility_timeout=seconds(300)), replace(MAIL, busy=1)
WHOLE, HOLLOW = SiteFiles(count=8, size=1), SiteFiles(count=0, size=0)
WAITING = QueueHead(depth=3, head=("a",))


def judge(check: Definition, *facts: object) -> Check:
    (result,) = run_checks([check], {type(fact): fact for fact in (SYSTEM, *facts)}, strict=False).checks
    return result


def workers(*each: WorkerFacts, **fields: Any) -> WorkersFacts:
    return WorkersFacts(workers=each, **fields)


def limited(soft: float | None, hard: float | None) -> WorkerFacts:
    return replace(WORKER, soft_limit=soft and seconds(soft), hard_limit=hard and seconds(hard))


def visible(timeout: float | None) -> WorkersFacts:
    return workers(replace(WORKER, visibility_timeout=timeout and seconds(timeout)))


def activity(
    second: QueueHead = WAITING,
    after: WorkersFacts = workers(WORKER),  # noqa: B008 - frozen
    before: WorkersFacts | None = None,
    **fields: Any,
) -> QueueActivity:
    before = workers(WORKER) if before is None else before
    return QueueActivity(first=WAITING, second=second, before=before, after=after, waited=seconds(3), **fields)


def finished(*orders: int, **files: SiteFiles) -> FinishedSites:
    return FinishedSites(orders=orders, files={int(name[1:]): each for name, each in files.items()})


def conditions(*each: Condition) -> OpenOrders:
    return OpenOrders(conditions=dict(enumerate(each, start=1)))


FORGOTTEN = replace(conditions(*[Condition.UNSTARTED] * 4), idle={1: seconds(60), 2: seconds(7200)})
FAULTS = conditions(Condition.FAILED, Condition.FAILED, Condition.GHOST, Condition.WAITING)


def holding(wait: float) -> MessageFacts:
    return replace(MESSAGES, longest_hold=seconds(wait))


CONTRACT = SchemaShape(
    tables={"orders": {"id": "integer", "status": "s"}, "site_generation_logs": {"details": "json"}},
    enums={"s": ("A", "B")},
)


def schemas(
    columns: Mapping[str, str] | None = None, enums: Mapping[str, tuple[str, ...]] = CONTRACT.enums, **tables: Any
) -> Schemas:
    """The contract's schema against one with these columns of ``orders``, enums and other tables."""
    actual = {**CONTRACT.tables, "orders": {**CONTRACT.tables["orders"], **(columns or {})}, **tables}
    return Schemas(
        expected=CONTRACT,
        actual=SchemaShape(tables={name: each for name, each in actual.items() if each is not None}, enums=enums),
    )


@pytest.mark.parametrize(
    ("check", "facts", "status", "text"),
    [
        (redis, [REDIS], OK, "answers in 0.4 ms, version 7.2.4"),
        (redis, [replace(REDIS, role="slave")], FAILED, "takes no writes"),
        (redis, [replace(REDIS, write_error="the last snapshot failed")], FAILED, "refuses writes"),
        (redis, [replace(REDIS, maxmemory=10**6)], FAILED, "it is full (977 kB of maxmemory 977 kB): Redis refuses"),
        (redis, [replace(REDIS, maxmemory=10**6 + 1)], OK, "answers"),
        (persistence, [REDIS], OK, "survives a restart"),
        (persistence, [replace(REDIS, appendonly=False)], WARNING, "a restart of Redis loses the queue"),
        (persistence, [replace(REDIS, appendonly=False, saves="3600 1 300 100")], WARNING, "snapshots only"),
        (persistence, [replace(REDIS, appendonly=False, saves=None)], UNCHECKED, "does not report"),
        (eviction, [REDIS], OK, "no memory limit"),
        (eviction, [replace(REDIS, policy="allkeys-lru")], OK, "no memory limit, policy allkeys-lru"),
        (eviction, [LIMITED], OK, "maxmemory 1 GB, policy noeviction"),
        (eviction, [replace(LIMITED, policy="allkeys-lru")], WARNING, "may evict tasks"),
        (eviction, [replace(LIMITED, policy="volatile-ttl")], WARNING, "may evict tasks"),
        (eviction, [replace(LIMITED, policy=None)], UNCHECKED, "does not report"),
        (postgresql, [POSTGRES], OK, "answers in 1.0 ms, version 15.6"),
        (postgresql, [replace(POSTGRES, missing_tables=("site_orders",))], FAILED, "it has no table site_orders"),
        (postgresql, [replace(POSTGRES, locks=(replace(LOCK, open_for=seconds(1)),))], OK, "answers"),
        (
            postgresql,
            [LOCKED],
            FAILED,
            "site_orders is locked by pid 7 (alembic, as crm), in a transaction that has been",
        ),
        (postgresql, [LOCKED], FAILED, "been open for 1m 30s: every read of it waits"),
        (schema, [schemas()], OK, "2 tables and 1 enum as in the contract"),
        (schema, [schemas(other={}, enums={"s": ("A", "B"), "t": ("X",)})], OK, "as in the contract"),
        (schema, [schemas(site_generation_logs={"details": "jsonb"})], OK, "as in the contract"),
        (schema, [schemas(site_generation_logs=None)], FAILED, "there is no table site_generation_logs"),
        (schema, [schemas(orders={"status": "s"})], FAILED, "orders has no column id (integer)"),
        (schema, [schemas({"coupon": "text"})], OK, "as in the contract"),
        (schema, [schemas({"id": "uuid"})], FAILED, "orders.id is uuid, not integer"),
        (schema, [schemas({"id": "bigint"})], OK, "as in the contract"),
        (schema, [schemas({"status": "text"}, enums={})], OK, "as in the contract"),
        (schema, [schemas({"status": "u"}, enums={"u": ("A", "B")})], OK, "as in the contract"),
        (schema, [schemas({"status": "u"}, enums={"u": ("A",)})], FAILED, "enum u lacks the label B"),
        (schema, [schemas({"status": "integer"})], FAILED, "orders.status is integer, not s"),
        (schema, [schemas(enums={"s": ("A",)})], FAILED, "enum s lacks the label B"),
        (schema, [schemas(enums={"s": ("A", "B", "C")})], WARNING, "enum s has the label C"),
        (directory, [DIRECTORY], OK, "/sites: readable and writable"),
        (directory, [replace(DIRECTORY, writable=False)], FAILED, "/sites can't be written by this user"),
        (directory, [replace(SYSTEM, read_only=True), replace(DIRECTORY, writable=False)], OK, "/sites: readable"),
        (directory, [replace(SYSTEM, read_only=True), replace(DIRECTORY, readable=False)], FAILED, "can't be read"),
        (directory, [DirectoryFacts(path="/sites", exists=False)], FAILED, "/sites does not exist"),
        (finished_sites, [DIRECTORY, finished(3, 2, o3=WHOLE, o2=WHOLE)], OK, "files for the newest 2 finished orders"),
        (
            finished_sites,
            [DIRECTORY, finished(3, 2, o3=HOLLOW, o2=HOLLOW)],
            FAILED,
            "not the directory that the workers",
        ),
        (finished_sites, [DIRECTORY, finished(3, 2, o3=WHOLE, o2=HOLLOW)], FAILED, "orders, 1 has no whole site: 2"),
        (finished_sites, [DIRECTORY, finished(3, 2, o3=WHOLE)], UNCHECKED, "2 could not be counted"),
        (finished_sites, [DIRECTORY, finished()], UNCHECKED, "no order is finished yet"),
        (disk, [DIRECTORY], OK, "20 GB of 40 GB free"),
        (disk, [replace(DIRECTORY, free=500 * 1024**2)], WARNING, "500 MB of 40 GB free"),
        (disk, [replace(DIRECTORY, free=1024**2)], FAILED, "1 MB of 40 GB free"),
        (disk, [replace(DIRECTORY, free_inodes=5000)], WARNING, "only 5000 files can be created"),
        (disk, [replace(DIRECTORY, free_inodes=3)], FAILED, "only 3 files can be created"),
        (disk, [replace(DIRECTORY, free_inodes=0, inodes=0)], OK, "free"),  # btrfs counts none
        (disk, [replace(DIRECTORY, free=None)], UNCHECKED, "does not report"),
        # Without the workers' replies, as with --quick.
        (worker, [replace(REDIS, workers=2, connections={})], OK, "2 workers connected to database 0"),
        (worker, [replace(REDIS, workers=2, connections=None)], OK, "2 workers connected to database 0"),
        (worker, [replace(REDIS, workers=0, connections={})], FAILED, "no worker is alive"),
        (worker, [replace(REDIS, workers=0, connections=None)], FAILED, "no worker responds to remote control"),
        (worker, [replace(REDIS, workers=0)], FAILED, "1 client on this broker may be one"),
        (worker, [replace(REDIS, workers=0, connections={1: Connections(listening=1)})], FAILED, "no worker is alive"),
        (worker, [OTHER_DATABASE], FAILED, "what looks like one on database 1 of the same Redis"),
        (worker, [replace(REDIS, workers=None)], UNCHECKED, "does not report"),
        (worker, [REDIS, workers(WORKER)], OK, "1 worker: a@crm"),
        (worker, [REDIS, workers(WORKER, silent=1, patience=seconds(4))], WARNING, "1 of 2 connected workers did not"),
        (worker, [REDIS, workers(WORKER, silent=1, patience=seconds(4))], WARNING, "respond within 4 s"),
        (worker, [REDIS, workers(silent=1)], FAILED, "1 of 1 connected worker did not respond"),
        (worker, [replace(REDIS, connections={}), workers()], FAILED, "no worker is alive"),
        (worker_queue, [workers(WORKER)], OK, "1 worker on site_generation"),
        (worker_queue, [workers(IDLE)], FAILED, "they consume celery instead"),
        (worker_queue, [workers(replace(WORKER, queues=()))], FAILED, "no queue at all"),
        (worker_queue, [workers()], UNCHECKED, "no worker responded"),
        (worker_task, [workers(replace(WORKER, tasks=("other",)))], FAILED, "registered instead: other"),
        (worker_task, [workers(WORKER)], OK, "generate is registered"),
        (worker_task, [workers(WORKER, MAIL)], OK, "generate is registered"),  # mail needs no task of ours
        (time_limits, [workers(limited(540, 600))], OK, "540 s soft, 600 s hard"),
        (time_limits, [workers(limited(540, 900))], WARNING, "540 s soft, 900 s hard; the system has 540 s and 600 s"),
        (time_limits, [workers(limited(None, 600))], WARNING, "none soft"),
        (time_limits, [workers(limited(540, None))], FAILED, "never ends"),
        (time_limits, [workers(limited(None, None))], FAILED, "never ends"),
        (time_limits, [workers(WORKER, MAIL)], OK, "540 s soft"),  # the limits of other workers do not matter
        (time_limits, [workers(MAIL)], UNCHECKED, "no worker runs our task"),
        (time_limits, [workers(replace(WORKER, queues=()))], OK, "540 s soft"),  # it has the task
        (visibility, [visible(3600), MESSAGES], OK, "longer than the hard limit of 600 s"),
        (visibility, [visible(None), MESSAGES], OK, "3600 s"),
        (visibility, [visible(3600), holding(180)], OK, "and the longest wait for an ETA of 3m"),
        (visibility, [visible(300), MESSAGES], FAILED, "300 s is not longer than the hard limit of 600 s"),
        (visibility, [visible(3600), holding(7200)], FAILED, "not longer than the longest wait for an ETA of 7200 s"),
        # Every worker that consumes restores what is in `unacked`. How long its own tasks take does not matter.
        (visibility, [workers(WORKER, HASTY), MESSAGES], FAILED, "300 s at mail@crm is not longer"),
        (visibility, [workers(WORKER, replace(HASTY, queues=())), MESSAGES], OK, "3600 s"),
        (visibility, [workers(WORKER, replace(MAIL, hard_limit=seconds(7200))), MESSAGES], OK, "3600 s"),
        (progress, [activity()], FAILED, "3 messages wait, and 1 idle worker took none for 3 s"),
        (progress, [activity(QueueHead(depth=0))], OK, "no message waits"),
        (progress, [activity(QueueHead(depth=2, head=("b",)))], OK, "the queue moves"),
        (progress, [activity(QueueHead(depth=3, head=("b",)))], OK, "the queue moves"),
        (progress, [activity(after=workers(replace(WORKER, busy=2)))], OK, "2 tasks running or reserved"),
        (progress, [activity(after=workers(replace(WORKER, finished=1)))], OK, "the queue moves"),
        (progress, [activity(after=workers(WORKER, replace(MAIL, busy=2, finished=9)))], FAILED, "1 idle worker took"),
        (progress, [activity(after=workers(WORKER, silent=1))], UNCHECKED, "it is not known"),
        (progress, [activity(after=workers(), before=workers())], UNCHECKED, "it is not known"),
        (progress, [activity(after=workers(BUSY_MAIL))], FAILED, "3 messages wait, and no worker consumes site_gen"),
        (serialization, [MESSAGES], OK, "3 messages, all JSON"),
        (serialization, [replace(MESSAGES, total=900)], OK, "3 of 900 messages"),
        (serialization, [replace(MESSAGES, unreadable={"pickle": 2})], FAILED, "2 of 3 messages not JSON: pickle (2)"),
        (leftovers, [Leftovers(reply_lists=0, bindings=3)], OK, "none"),
        (leftovers, [Leftovers(reply_lists=2, bindings=3)], WARNING, "2 reply lists of disconnected clients"),
        (leftovers, [Leftovers(reply_lists=0, bindings=3, undated=2)], UNCHECKED, "2 reply lists"),
        (leftovers, [Leftovers(reply_lists=0, bindings=1000)], WARNING, "1000 bindings"),
        (leftovers, [Leftovers(reply_lists=0, bindings=0, complete=False)], OK, "in part"),
        (backend, [conditions(Condition.QUEUED, Condition.SETTLING)], OK, "every order that is ready"),
        (backend, [FORGOTTEN], FAILED, "4 orders are ready, the oldest for 2h, and not enqueued"),
        (open_orders, [conditions()], OK, "0 open orders, none in fault"),
        (open_orders, [conditions(Condition.QUEUED)], OK, "1 open order, none in fault"),
        (open_orders, [conditions(Condition.UNKNOWN)], UNCHECKED, "the condition of 1 order is unknown"),
        (open_orders, [FAULTS], FAILED, "3 of 4 open orders in fault: 2 failed, 1 ghost"),
    ],
)
def test_judgment(check: Definition, facts: list[object], status: CheckStatus, text: str) -> None:
    result = judge(check, *facts)
    assert result.status is status, result
    assert text in " / ".join(result.evidence)
    assert (result.name, result.source) == (check.name, check.source)
    if status in (OK, WARNING, FAILED):
        assert (result.remedy is None) == (status is OK)


MISSING_LABEL = schemas(enums={"s": ("A",)})
EXHAUSTED = replace(conditions(Condition.FAILED), remedies={Condition.FAILED: fix_then_reset(1)})


@pytest.mark.parametrize(
    ("check", "facts", "remedy"),
    [
        (redis, [replace(REDIS, role="slave")], "point REDIS_URL at the primary"),
        (
            persistence,
            [replace(REDIS, appendonly=False)],
            'redis-cli -u "$REDIS_URL" CONFIG SET appendonly yes   (and in redis.conf, to keep it)',
        ),
        (
            postgresql,
            [LOCKED],
            "psql \"$DATABASE_URL\" -c 'SELECT state, query FROM pg_stat_activity WHERE pid = 7'"
            "   (if it is left over: SELECT pg_terminate_backend(7))",
        ),
        (schema, [MISSING_LABEL], 'psql "$DATABASE_URL" -c "ALTER TYPE s ADD VALUE \'B\';"'),
        (
            finished_sites,
            [DIRECTORY, finished(3, o3=HOLLOW)],
            "set SITES_BASE_DIR to the workers' own: docker exec crm-celery-worker printenv SITES_BASE_DIR",
        ),
        (
            disk,
            [replace(DIRECTORY, free=1)],
            "make room: sitegenctl trash prune --older-than 1d   (deletes what has been in the trash for longer)",
        ),
        (
            worker,
            [OTHER_DATABASE],
            "if those are ours, let REDIS_URL end in /1 here too; otherwise: docker start crm-celery-worker",
        ),
        (
            worker,
            [REDIS, workers(silent=1)],
            "inspect queue shows what it may be running; only then: docker restart --time 620 crm-celery-worker",
        ),
        (
            worker_queue,
            [workers(IDLE)],
            "sitegenctl queue resume   (and start the worker with --queues=site_generation)",
        ),
        # A worker that lacks the task must not start to consume the queue: it would drop our messages.
        (
            worker_queue,
            [workers(IDLE, MAIL)],
            "docker start crm-celery-worker   (with --queues=site_generation; not every worker that runs has the task)",
        ),
        (leftovers, [Leftovers(reply_lists=2, bindings=3)], "sitegenctl maintain"),
        (
            leftovers,
            [replace(SYSTEM, keyprefix="our sites:"), Leftovers(reply_lists=0, bindings=1000)],
            "redis-cli -u \"$REDIS_URL\" DEL 'our sites:_kombu.binding.reply.celery.pidbox'"
            "   (then restart Flower, if it is used)",
        ),
        (backend, [conditions(Condition.UNSTARTED)], "sitegenctl start-stuck"),
        (open_orders, [conditions(Condition.FAILED, Condition.FAILED)], "sitegenctl retry-failed"),
        (open_orders, [EXHAUSTED], "fix the cause, then: sitegenctl reset 1"),
        # Where no order can be fixed without a person, maintain would do nothing.
        (
            open_orders,
            [replace(EXHAUSTED, conditions={1: Condition.FAILED, 2: Condition.BLOCKED})],
            "sitegenctl inspect   (shows what each of them needs)",
        ),
    ],
)
def test_remedy(check: Definition, facts: list[object], remedy: str) -> None:
    assert hint_text(judge(check, *facts).remedy) == remedy


@pytest.mark.parametrize(
    ("postgres", "broker", "status", "remedy"),
    [
        (0.001, -0.5, OK, None),
        (5, 0, WARNING, "the machine of PostgreSQL"),
        (0, -5, WARNING, "the machine of Redis"),
        (5, 5, WARNING, "this machine"),
        (90, 90, FAILED, "this machine"),
        (None, -90, FAILED, "the machine that is off"),
        (None, 0.1, UNCHECKED, None),
        (None, None, UNCHECKED, None),
    ],
)
def test_clocks(postgres: float | None, broker: float | None, status: CheckStatus, remedy: str | None) -> None:
    offsets = ((POSTGRES, postgres), (REDIS, broker))
    check = judge(clocks, *(replace(facts, offset=seconds(by)) for facts, by in offsets if by is not None))
    assert check.status is status
    assert hint_text(check.remedy) == (remedy and f"set the clock of {remedy}: chronyc makestep")


def test_stale_claims_are_a_warning() -> None:
    claims = [
        StaleClaim(worker="a@crm", task_id=f"t{number}", order_id=number, reason="it has ended") for number in range(5)
    ]
    check = judge(worker, REDIS, workers(WORKER), StaleClaims(claims))
    assert (check.status, check.remedy) == (WARNING, SYSTEM.commands.restart_worker)
    assert check.evidence[1] == "a@crm lists task t0 of order 0 as running: it has ended"
    assert check.evidence[-1] == "2 more stale tasks; inspect workers lists them"


DUE = OpenOrders(conditions={}, due={1: seconds(7200)})


@pytest.mark.parametrize(
    ("runs", "uptime", "queued", "orders", "status", "text"),
    [
        (30, 3600, 0, DUE, OK, "ran 30 times in 1h"),
        (0, 3600, 5, DUE, OK, "5 messages of its own in the queue"),
        (0, 3600, 0, conditions(), OK, "not needed now"),
        (0, 3600, 0, None, UNCHECKED, "can't be asked"),
        (0, 3600, 0, DUE, FAILED, "ran 0 times in 1h, and 1 order waits to be started"),
        (3, 36000, 0, DUE, FAILED, "ran 3 times in 10h, and 1 order waits"),
        # Worker or order has not existed for long enough to judge.
        (0, 300, 0, DUE, UNCHECKED, "can't be asked"),
        (0, 3600, 0, replace(DUE, due={1: seconds(300)}), UNCHECKED, "can't be asked"),
    ],
)
def test_beat(runs: int, uptime: float, queued: int, orders: OpenOrders | None, status: CheckStatus, text: str) -> None:
    own = replace(WORKER, beat_runs=runs, uptime=seconds(uptime), tasks=("app.generate", BEAT_TASK))
    # A worker of another queue never runs beat's task, however long it has been up.
    after = workers(own, replace(MAIL, uptime=seconds(10**6)))
    facts = [activity(after=after), replace(MESSAGES, beat=queued), *([orders] if orders is not None else [])]
    check = judge(beat, *facts)
    assert check.status is status
    assert text in check.evidence[0]
    if status is FAILED:
        assert hint_text(check.remedy) == "docker restart crm-celery-beat"
        demo = doctor_options(replace(SETTINGS, context="demo"), patience=seconds(3)).system
        assert hint_text(judge(beat, *facts, demo).remedy) == "sitegenctl start-stuck"


@pytest.mark.parametrize(
    ("after", "queued", "came", "status", "text"),
    [
        (workers(), 0, False, UNCHECKED, "without a worker it is not known"),
        (workers(), 1, False, UNCHECKED, "1 message of its own in the queue, of any age"),
        (workers(), 2, True, OK, "a message of its own came within 3 s"),
        (workers(MAIL), 1, False, UNCHECKED, "of any age"),
        (workers(WORKER), 0, False, WARNING, "no worker has its task, and 1 order waits to be started"),
    ],
)
def test_beat_without_a_worker_of_its_task(
    after: WorkersFacts, queued: int, came: bool, status: CheckStatus, text: str
) -> None:
    check = judge(beat, activity(after=after, before=after, beat_came=came), replace(MESSAGES, beat=queued), DUE)
    assert check.status is status
    assert text in check.evidence[0]


NO_REDIS = Missing(source=Source.BROKER, message="Redis can't be reached: refused", unreachable=True, stopped=True)
DENIED = Missing(source=Source.BROKER, message="Redis refused: SCAN", remedy="grant it")
SLOW = Missing(source=Source.DATABASE, message="the database gave up")


@pytest.mark.parametrize(
    ("check", "facts", "status", "text", "remedy"),
    [
        (redis, {RedisFacts: NO_REDIS}, FAILED, NO_REDIS.message, "docker start crm-redis   (or correct REDIS_URL)"),
        (redis, {RedisFacts: DENIED}, FAILED, DENIED.message, "grant it"),
        (redis, {RedisFacts: REDIS, MessageFacts: NO_REDIS}, FAILED, NO_REDIS.message, "docker start crm-redis"),
        (redis, {RedisFacts: REDIS, MessageFacts: DENIED}, OK, "answers", None),
        (serialization, {MessageFacts: NO_REDIS}, UNCHECKED, "Redis could not be reached", None),
        (serialization, {MessageFacts: DENIED}, UNCHECKED, DENIED.message, "grant it"),
        (worker, {RedisFacts: REDIS, WorkersFacts: NO_REDIS}, UNCHECKED, "Redis could not be reached", None),
        (
            worker,
            {RedisFacts: replace(REDIS, denied="no PUBLISH", remedy="grant"), WorkersFacts: DENIED},
            FAILED,
            "no PUBLISH",
            "grant",
        ),
        (
            visibility,
            {WorkersFacts: visible(3600), MessageFacts: DENIED},
            UNCHECKED,
            "3600 s, longer than the hard limit",
            None,
        ),
        (
            postgresql,
            {PostgresFacts: POSTGRES, Schemas: SLOW},
            FAILED,
            SLOW.message,
            "check which client blocks it: psql",
        ),
    ],
)
def test_missing_fact(
    check: Definition, facts: Mapping[type, object], status: CheckStatus, text: str, remedy: str | None
) -> None:
    (result,) = run_checks([check], {type(SYSTEM): SYSTEM, **facts}, strict=False).checks
    assert result.status is status
    assert text in result.evidence[0]
    assert (hint_text(result.remedy) or "").startswith(remedy or "")
    assert result.unreachable is (check is redis and status is FAILED)


def result(status: CheckStatus, *, unreachable: bool = False) -> Check:
    return Check(name="redis", source=Source.BROKER, status=status, evidence=("",), unreachable=unreachable)


@pytest.mark.parametrize(
    ("statuses", "strict", "code", "summary"),
    [
        ([OK], False, 0, "healthy: 1 check passed"),
        ([OK, OK, WARNING], False, 0, "healthy: 2 checks passed, 1 warning"),
        ([OK, WARNING], True, 5, "unhealthy: 1 warning"),
        ([OK, UNCHECKED], True, 0, "healthy: 1 check passed, 1 could not be checked"),
        ([FAILED, FAILED, WARNING, UNCHECKED], False, 5, "unhealthy: 2 failed, 1 warning, 1 could not be checked"),
        ([], False, 0, "healthy: nothing was checked"),
    ],
)
def test_exit_code_and_summary(statuses: list[CheckStatus], strict: bool, code: int, summary: str) -> None:
    checkup = CheckUp(checks=[result(status) for status in statuses], strict=strict)
    assert (checkup.exit_code, checkup.summary) == (code, summary)


def test_unreachable_source_is_exit_3() -> None:
    checkup = CheckUp(checks=[result(FAILED), result(FAILED, unreachable=True), result(UNCHECKED)])
    assert (checkup.exit_code, checkup.summary) == (3, "unhealthy: 2 failed, 1 could not be checked")
    assert CheckUp(checks=[judge(directory, DirectoryFacts(path="/sites", exists=False))]).exit_code == 3


NOW = datetime(2026, 1, 31, 8, tzinfo=UTC)


@pytest.mark.parametrize("seconds", [0, 60, -60])
def test_small_clock_difference_is_no_problem(seconds: int) -> None:
    assert clock_problem(NOW + timedelta(seconds=seconds), NOW) is None


@pytest.mark.parametrize(
    ("seconds", "difference"),
    [(61, "1m 1s ahead of"), (-61, "1m 1s behind"), (8 * 86400, "8d ahead of"), (-3600, "1h behind")],
)
def test_large_clock_difference_is_reported(seconds: int, difference: str) -> None:
    problem = clock_problem(NOW + timedelta(seconds=seconds), NOW)
    assert problem == f"this machine's clock is {difference} the database's: ages of files are uncertain"
