"""Judging Redis, PostgreSQL, their clocks and the sites directory, each from what was measured of it.

One small function for each check. What is merely unwise warns; what breaks generations fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.health.access import why_not_writable
from sitegenctl.domain.health.check import (
    Check,
    CheckName,
    DeploymentCommands,
    counted,
    failed,
    listed,
    ok,
    unchecked,
    warning,
)
from sitegenctl.domain.health.facts import DirectoryFacts, PostgresFacts, RedisFacts, SchemaShape, TableLock
from sitegenctl.domain.orders.site import SiteFiles

#: Clocks further apart than this give wrong ages; further than the second, ETAs and graces lose their meaning.
SKEW_WARNING = timedelta(seconds=2)
SKEW_FAILURE = timedelta(minutes=1)

#: Bytes and inodes left: below the first the next sites fail, below the second it is time to clean up.
DISK_FAILURE = 100 * 1024**2
DISK_WARNING = 1024**3
INODES_FAILURE = 1000
INODES_WARNING = 20_000

#: Types that do as well as the contract's.
_AS_GOOD = {
    "integer": {"bigint"},
    "character varying": {"text"},
    "timestamp without time zone": {"timestamp with time zone"},
    "json": {"jsonb"},
}
_TEXTS = {"character varying", "text"}

#: A lock held for longer than this keeps everybody waiting; a shorter one is a moment of a migration.
LOCK_PATIENCE = timedelta(seconds=2)

_HERE = "this machine"
_MB = 1024**2


def judge_redis(facts: RedisFacts, access: DeploymentCommands) -> Check:
    """Redis answers, and takes writes."""
    answer = f"answers in {_ms(facts.latency)}, version {facts.version}"
    if facts.role != "master":
        return failed(
            CheckName.REDIS,
            Source.BROKER,
            f"it is a {facts.role} and takes no writes: nothing can be published",
            answer,
            remedy=f"point {access.redis_url} at the primary",
        )
    if facts.write_error:
        return failed(
            CheckName.REDIS,
            Source.BROKER,
            f"{facts.write_error}: Redis refuses writes, nothing can be published",
            answer,
            remedy=f"make room on Redis' disk, then {access.redis_cli} BGSAVE",
        )
    # Redis throws away what its policy lets it before it tells: what is still over the limit has to stay.
    if facts.maxmemory and facts.used >= facts.maxmemory:
        return failed(
            CheckName.REDIS,
            Source.BROKER,
            f"it is full ({_size(facts.used)} of maxmemory {_size(facts.maxmemory)}): Redis refuses writes, nothing"
            " can be published",
            answer,
            remedy=f"{access.redis_cli} CONFIG SET maxmemory {2 * facts.used // _MB + 1}mb"
            "   (and in redis.conf, to keep it; --bigkeys tells what fills it)",
        )
    return ok(CheckName.REDIS, Source.BROKER, answer)


def judge_persistence(facts: RedisFacts, access: DeploymentCommands) -> Check:
    """A restart of Redis does not lose the queue."""
    if facts.appendonly:
        return ok(CheckName.PERSISTENCE, Source.BROKER, "append-only file on: the queue outlives a restart")
    if facts.saves is None:
        return unchecked(
            CheckName.PERSISTENCE,
            Source.BROKER,
            "no append-only file, and Redis does not tell whether it takes snapshots",
        )
    remedy = f"{access.redis_cli} CONFIG SET appendonly yes   (and in redis.conf, to keep it)"
    if not facts.saves:
        return warning(
            CheckName.PERSISTENCE,
            Source.BROKER,
            "neither append-only file nor snapshots: the queue dies with Redis",
            remedy=remedy,
        )
    return warning(
        CheckName.PERSISTENCE,
        Source.BROKER,
        f"snapshots only (save {facts.saves}): a crash loses the tasks since the last one",
        remedy=remedy,
    )


def judge_eviction(facts: RedisFacts, access: DeploymentCommands) -> Check:
    """Redis does not throw tasks away when it is full."""
    if facts.policy is None:
        return unchecked(CheckName.EVICTION, Source.BROKER, "Redis does not tell its maxmemory-policy")
    if not facts.maxmemory:
        return ok(CheckName.EVICTION, Source.BROKER, f"no memory limit, policy {facts.policy}")
    limit = f"maxmemory {_size(facts.maxmemory)}"
    if facts.policy == "noeviction":
        return ok(CheckName.EVICTION, Source.BROKER, f"{limit}, policy noeviction")
    return warning(
        CheckName.EVICTION,
        Source.BROKER,
        f"policy {facts.policy} with {limit}: a full Redis may throw tasks away",
        remedy=f"{access.redis_cli} CONFIG SET maxmemory-policy noeviction   (and in redis.conf, to keep it)",
    )


def judge_postgres(facts: PostgresFacts, access: DeploymentCommands) -> Check:
    """PostgreSQL answers, is an orders database, and lets orders be read and changed."""
    answer = f"answers in {_ms(facts.latency)}, version {facts.version}"
    if facts.missing_tables:
        return failed(
            CheckName.POSTGRES,
            Source.DATABASE,
            f"it has no table {listed(facts.missing_tables)}",
            answer,
            remedy=_migrate(access),
        )
    held = [lock for lock in facts.locks if lock.open_for > LOCK_PATIENCE]
    if held:
        return failed(
            CheckName.POSTGRES,
            Source.DATABASE,
            *(_lock(lock) for lock in held),
            answer,
            remedy=_look_at(held[0], access),
        )
    obstacle = why_not_writable(facts.access)
    # What is wrong with the schema has a check of its own.
    if obstacle is not None and not obstacle.is_schema:
        return failed(CheckName.POSTGRES, Source.DATABASE, obstacle.message, answer, remedy=obstacle.hint)
    return ok(CheckName.POSTGRES, Source.DATABASE, answer)


def _lock(lock: TableLock) -> str:
    who = f"pid {lock.pid} ({lock.client}, as {lock.user})"
    return (
        f"{lock.table} is locked by {who}, in a transaction that has been open for {describe_age(lock.open_for)}:"
        " whoever reads it waits"
    )


def _look_at(lock: TableLock, access: DeploymentCommands) -> str:
    query = f"SELECT state, query FROM pg_stat_activity WHERE pid = {lock.pid}"  # noqa: S608 - a number of our own
    return f'{access.psql} -c "{query}"   (if that is left over: SELECT pg_terminate_backend({lock.pid}))'


def _migrate(access: DeploymentCommands) -> Remedy:
    advice = f"run the CRM's migrations, or check that {access.database_url} names its database"
    return Remedy.run(Command.CONFIG_SHOW, advice=advice)


def judge_schema(expected: SchemaShape, found: SchemaShape, access: DeploymentCommands) -> Check:
    """Tables, columns, types and enum labels are the contract's; more than that does no harm."""
    missing = list(_missing_labels(expected, found))
    differences = list(_differences(expected, found))
    breaking = [*differences, *(f"enum {name} lacks the label {label}" for name, label in missing)]
    extra = [
        f"enum {name} has the label {label}, which the contract does not know"
        for name, has in _enums_by_contract(expected, found)
        for label in found.enums.get(has, ())
        if label not in expected.enums[name]
    ]
    if breaking:
        return failed(
            CheckName.SCHEMA,
            Source.DATABASE,
            *breaking,
            *extra,
            remedy=_migrate(access) if differences else _add_labels(missing, access),
        )
    if extra:
        return warning(
            CheckName.SCHEMA,
            Source.DATABASE,
            *extra,
            remedy="look for a newer sitegenctl: this one calls such an order's status unknown",
        )
    return ok(
        CheckName.SCHEMA,
        Source.DATABASE,
        f"{counted(len(expected.tables), 'table')} and {counted(len(expected.enums), 'enum')} as the contract",
    )


def _differences(expected: SchemaShape, found: SchemaShape) -> Iterator[str]:
    for table, columns in expected.tables.items():
        if table not in found.tables:
            yield f"there is no table {table}"
            continue
        for column, kind in columns.items():
            has = found.tables[table].get(column)
            if has is None:
                yield f"{table} has no column {column} ({kind})"
            elif kind in expected.enums:
                if has not in _TEXTS and has not in found.enums:
                    yield f"{table}.{column} is {has}, not {kind}"
            elif has != kind and has not in _AS_GOOD.get(kind, ()):
                yield f"{table}.{column} is {has}, not {kind}"


def _missing_labels(expected: SchemaShape, found: SchemaShape) -> Iterator[tuple[str, str]]:
    """Enums of the database, each with a label that it lacks."""
    for name, has in _enums_by_contract(expected, found):
        yield from ((has, label) for label in expected.enums[name] if label not in found.enums[has])


def _enums_by_contract(expected: SchemaShape, found: SchemaShape) -> Iterable[tuple[str, str]]:
    """The enums of the contract, each with what the database's column has in its place, if that is an enum."""
    return dict.fromkeys(
        (kind, has)
        for table, columns in expected.tables.items()
        for column, kind in columns.items()
        if kind in expected.enums and (has := found.tables.get(table, {}).get(column)) in found.enums and has
    )


def _add_labels(missing: Iterable[tuple[str, str]], access: DeploymentCommands) -> str:
    """The SQL when labels are all that is missing; what else is, the migrations alone know."""
    commands = [f"ALTER TYPE {name} ADD VALUE '{label}';" for name, label in missing]
    return f'{access.psql} -c "{" ".join(commands)}"'


def judge_clocks(offsets: Mapping[str, timedelta | None]) -> Check:
    """The clocks of this machine, PostgreSQL and Redis agree.

    ``offsets``: how far each server is ahead of this machine, None for one that could not be asked.
    """
    known = {name: offset for name, offset in offsets.items() if offset is not None}
    if not known:
        return unchecked(CheckName.CLOCKS, Source.DATABASE, "no server could be asked for its time")
    away = [name for name, offset in offsets.items() if offset is None]
    clocks = {_HERE: timedelta(0), **known}
    spread = max(clocks.values()) - min(clocks.values())
    if spread <= SKEW_WARNING:
        if away:
            agree = f"{listed(list(known))} and this machine agree, {listed(away)} could not be asked"
            return unchecked(CheckName.CLOCKS, Source.DATABASE, agree)
        return ok(CheckName.CLOCKS, Source.DATABASE, f"within {_ms(spread)} of each other")
    judge = failed if spread > SKEW_FAILURE else warning
    return judge(
        CheckName.CLOCKS,
        Source.DATABASE,
        *(_clock(name, offset) for name, offset in known.items()),
        remedy=f"set the clock of {_wrong_clock(clocks)}: chronyc makestep",
    )


def _wrong_clock(clocks: Mapping[str, timedelta]) -> str:
    """The one that differs from all others; two clocks alone can't tell which of them is wrong."""
    middle = sorted(clocks.values())[len(clocks) // 2]
    wrong = [name for name, offset in clocks.items() if abs(offset - middle) > SKEW_WARNING]
    if len(clocks) < 3 or len(wrong) != 1:
        return "the machine that is off"
    return wrong[0] if wrong[0] == _HERE else f"the machine of {wrong[0]}"


def judge_directory(facts: DirectoryFacts, access: DeploymentCommands, *, read_only: bool) -> Check:
    """The sites directory is there, and may be read and (unless told to read only) written."""
    if not facts.exists:
        return failed(
            CheckName.DIRECTORY,
            Source.FILES,
            f"{facts.path} is not there",
            remedy=Remedy.run(Command.CONFIG_SHOW, advice=f"mount its volume, or correct {access.sites_dir}"),
            unreachable=True,
        )
    lacking = [word for word, allowed in (("read", facts.readable), ("written", facts.writable)) if not allowed]
    if read_only and facts.readable:
        return ok(CheckName.DIRECTORY, Source.FILES, f"{facts.path}: readable")
    if lacking:
        return failed(
            CheckName.DIRECTORY,
            Source.FILES,
            f"{facts.path} can't be {' or '.join(lacking)} by this user",
            remedy=f"run sitegenctl as the workers' user, or mount {facts.path} for writing",
        )
    return ok(CheckName.DIRECTORY, Source.FILES, f"{facts.path}: readable and writable")


def judge_finished(
    path: str, sample: Sequence[int], files: Mapping[int, SiteFiles], access: DeploymentCommands
) -> Check:
    """The newest finished orders have their files here: it is the directory that the workers write."""
    if not sample:
        return unchecked(CheckName.FINISHED_SITES, Source.FILES, "no order is finished yet: nothing to compare with")
    uncounted = [order_id for order_id in sample if order_id not in files]
    hollow = [order_id for order_id in sample if order_id in files and files[order_id].is_empty]
    newest = f"the newest {len(sample)} finished" if len(sample) > 1 else "the newest finished order"
    if len(hollow) == len(sample):
        return failed(
            CheckName.FINISHED_SITES,
            Source.FILES,
            f"{'none of ' if len(sample) > 1 else 'not even '}{newest} has its files in {path}",
            "it is not the directory that the workers write, or their volume is not mounted",
            remedy=f"set {access.sites_dir} to what the workers have: {access.worker} env | grep SITES",
        )
    if hollow:
        return failed(
            CheckName.FINISHED_SITES,
            Source.FILES,
            f"of {newest}, {_without_site(hollow)}",
            remedy=Remedy.run(Command.INSPECT, hollow[0]),
        )
    if uncounted:
        return unchecked(
            CheckName.FINISHED_SITES, Source.FILES, f"the files of {listed(uncounted)} could not be counted"
        )
    return ok(
        CheckName.FINISHED_SITES, Source.FILES, f"{newest} {'have their' if len(sample) > 1 else 'has its'} files"
    )


def _without_site(hollow: Sequence[int]) -> str:
    have, orders = ("has", "order") if len(hollow) == 1 else ("have", "orders")
    return f"{len(hollow)} {have} no whole site: {orders} {listed(hollow)}"


def judge_disk(facts: DirectoryFacts) -> Check:
    """There is room for the next sites."""
    if facts.free is None or facts.size is None:
        return unchecked(CheckName.DISK, Source.FILES, f"the file system of {facts.path} does not tell")
    evidence = f"{_size(facts.free)} of {_size(facts.size)} free"
    # Some file systems make inodes as they need them and count none.
    inodes = facts.free_inodes if facts.inodes else None
    if inodes is not None and inodes < INODES_WARNING:
        evidence += f", but no more than {counted(inodes, 'file')} can be made"
    remedy = Remedy.run(
        Command.MAINTAIN, advice="make room", keep_trash="1d", note="deletes what has been in the trash for longer"
    )
    if facts.free < DISK_FAILURE or (inodes is not None and inodes < INODES_FAILURE):
        return failed(CheckName.DISK, Source.FILES, evidence, remedy=remedy)
    if facts.free < DISK_WARNING or (inodes is not None and inodes < INODES_WARNING):
        return warning(CheckName.DISK, Source.FILES, evidence, remedy=remedy)
    return ok(CheckName.DISK, Source.FILES, evidence)


def _clock(name: str, offset: timedelta) -> str:
    return f"{name} is {_span(abs(offset))} {'ahead of' if offset > timedelta(0) else 'behind'} this machine"


def _span(span: timedelta) -> str:
    seconds = span.total_seconds()
    return _ms(span) if seconds < 1 else f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"


def _ms(span: timedelta) -> str:
    milliseconds = span.total_seconds() * 1000
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"


def _size(number: int) -> str:
    size = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"
