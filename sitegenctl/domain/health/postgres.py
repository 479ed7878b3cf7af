"""PostgreSQL: what it reports of itself, and the checks of it and of its schema."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.health.access import DatabaseAccess, granted, why_not_readable, why_not_writable
from sitegenctl.domain.health.check import (
    Finding,
    Missing,
    Problems,
    check,
    counted,
    failed,
    listed,
    milliseconds,
    ok,
    unchecked,
    warning,
)
from sitegenctl.domain.health.redis import RedisFacts
from sitegenctl.domain.health.system import System

#: A lock held for longer blocks others; a shorter one is part of a migration.
_LOCK_TOLERANCE = timedelta(seconds=2)

#: Types that do as well as the contract's.
_COMPATIBLE = {
    "integer": {"bigint"},
    "character varying": {"text"},
    "timestamp without time zone": {"timestamp with time zone"},
    "json": {"jsonb"},
}
_TEXTS = {"character varying", "text"}


@dataclass(frozen=True, kw_only=True)
class TableLock:
    """A table that a transaction has locked exclusively, and how long that transaction has been open."""

    table: str
    pid: int
    client: str
    user: str
    open_for: timedelta


@dataclass(frozen=True, kw_only=True)
class PostgresFacts:
    """What PostgreSQL reports of itself."""

    latency: timedelta
    version: str
    offset: timedelta  # how far its clock is ahead of this machine's
    access: DatabaseAccess  # what our role may do there
    missing_tables: tuple[str, ...] = ()  # tables of the contract that it lacks
    locks: tuple[TableLock, ...] = ()  # tables that others can't even read


@dataclass(frozen=True, kw_only=True)
class SchemaShape:
    """Tables as column → type by table, and the labels of enums in their order, by name."""

    tables: Mapping[str, Mapping[str, str]]
    enums: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Schemas:
    """The contract's schema and the database's."""

    expected: SchemaShape
    actual: SchemaShape

    @property
    def enums(self) -> Iterable[tuple[str, str]]:
        """The contract's enums, each with the enum that the database's column has instead."""
        return dict.fromkeys(
            (kind, actual)
            for table, columns in self.expected.tables.items()
            for column, kind in columns.items()
            if kind in self.expected.enums
            and (actual := self.actual.tables.get(table, {}).get(column)) in self.actual.enums
            and actual
        )


@check("postgresql", Source.DATABASE, quick=True)
def postgresql(facts: PostgresFacts | Missing, system: System, problems: Problems) -> Finding:
    """Fails if the orders database can't be reached, read or changed.

    It may be another database, a standby or read-only, hide rows (row-level security), or lack a privilege: then the
    tables are named and the fix is the GRANT. With `--read-only` it need not be changed. For a locked table the client
    that locks it is shown.
    """
    start = replace(system.commands.start_postgres, note=f"or correct {system.commands.database_url}")
    if isinstance(facts, Missing):
        return facts.reported(start=start)
    answer = f"answers in {milliseconds(facts.latency)}, version {facts.version}"
    if facts.missing_tables:
        return failed(f"it has no table {listed(facts.missing_tables)}", answer, remedy=_migrate(system))
    # Before an unreachable database: a query that waits for a lock may time out.
    locks = [lock for lock in facts.locks if lock.open_for > _LOCK_TOLERANCE]
    if locks:
        lines = [
            f"{lock.table} is locked by pid {lock.pid} ({lock.client}, as {lock.user}), in a transaction that has been"
            f" open for {describe_age(lock.open_for)}: every read of it waits"
            for lock in locks
        ]
        pid = locks[0].pid
        query = f"SELECT state, query FROM pg_stat_activity WHERE pid = {pid}"  # noqa: S608 - a number of our own
        remedy = Remedy(
            command=system.commands.psql.followed_by("-c", query),
            note=f"if it is left over: SELECT pg_terminate_backend({pid})",
        )
        return failed(*lines, answer, remedy=remedy)
    access = facts.access
    obstacle, unreadable = why_not_writable(access), why_not_readable(access)
    # With --read-only nothing is to be changed. What is wrong with the schema has a check of its own.
    decisive = unreadable if system.read_only else obstacle
    if decisive is not None and not decisive.is_schema:
        details = (granted(access),) if decisive.is_refusal else ()
        return failed(decisive.message, answer, *details, remedy=decisive.hint)
    problem = problems.get(Source.DATABASE)
    if problem is None:
        if obstacle is None:
            return ok(f"{answer}; {access.role} may read and change orders")
        return ok(answer) if obstacle.is_schema else ok(answer, obstacle.message)
    if problem.unreachable:
        return problem.reported(start=start)
    activity = Remedy(
        advice="check which client blocks it", command=system.commands.psql.followed_by("-c", "TABLE pg_stat_activity")
    )
    return failed(problem.message, answer, remedy=problem.remedy or activity)


def _migrate(system: System) -> Remedy:
    advice = f"run the CRM's migrations, or check that {system.commands.database_url} names its database"
    return Remedy.run(Command.CONFIG_SHOW, advice=advice)


@check("schema", Source.DATABASE)
def schema(schemas: Schemas, system: System) -> Finding:
    """Fails if a table, column or enum label of the contract is missing, or a type is not understood.

    `bigint`, `text`, `jsonb` and `timestamptz` are understood. Warns of an additional label.
    """
    expected, actual = schemas.expected, schemas.actual
    differences = list(_differences(schemas))
    missing = [
        (name, label)
        for kind, name in schemas.enums
        for label in expected.enums[kind]
        if label not in actual.enums[name]
    ]
    extra = [
        f"enum {kind} has the label {label}, which the contract does not have"
        for kind, name in schemas.enums
        for label in actual.enums[name]
        if label not in expected.enums[kind]
    ]
    breaking = [*differences, *(f"enum {name} lacks the label {label}" for name, label in missing)]
    if breaking:
        # One statement adds labels. What else is missing, only the migrations know.
        statements = " ".join(f"ALTER TYPE {name} ADD VALUE '{label}';" for name, label in missing)
        add_labels = Remedy(command=system.commands.psql.followed_by("-c", statements))
        return failed(*breaking, *extra, remedy=_migrate(system) if differences else add_labels)
    if extra:
        return warning(*extra, remedy="update sitegenctl: this version shows the status of such an order as unknown")
    return ok(f"{counted(len(expected.tables), 'table')} and {counted(len(expected.enums), 'enum')} as in the contract")


def _differences(schemas: Schemas) -> Iterator[str]:
    expected, actual = schemas.expected, schemas.actual
    for table, columns in expected.tables.items():
        if table not in actual.tables:
            yield f"there is no table {table}"
            continue
        for column, kind in columns.items():
            other = actual.tables[table].get(column)
            if other is None:
                yield f"{table} has no column {column} ({kind})"
                continue
            is_enum = kind in expected.enums
            is_known = other in _TEXTS or other in actual.enums if is_enum else other in _COMPATIBLE.get(kind, ())
            if not is_known and other != kind:
                yield f"{table}.{column} is {other}, not {kind}"


#: Clocks that differ by more make ages meaningless; from the second on, due times and graces are inexact.
CLOCK_TOLERANCE: Final = timedelta(minutes=1)
_SKEW_WARNING = timedelta(seconds=2)

_THIS_MACHINE = "this machine"


def clock_problem(local: datetime, database: datetime) -> str | None:
    """Why times written on this machine can't be judged by the database's clock; None if they can."""
    difference = local - database
    if abs(difference) <= CLOCK_TOLERANCE:
        return None
    age, direction = describe_age(abs(difference)), "ahead of" if difference > timedelta(0) else "behind"
    return f"this machine's clock is {age} {direction} the database's: ages of files are uncertain"


@check("clocks", Source.DATABASE, quick=True)
def clocks(postgres: PostgresFacts | None = None, redis: RedisFacts | None = None) -> Finding:
    """Fails if this machine, PostgreSQL and Redis differ by more than a minute; warns from 2 s."""
    servers = {"PostgreSQL": postgres, "Redis": redis}
    offsets = {name: facts.offset for name, facts in servers.items() if facts is not None}
    unknown = [name for name, facts in servers.items() if facts is None]
    if not offsets:
        return unchecked("the time of no server is known")
    times = {_THIS_MACHINE: timedelta(0), **offsets}
    spread = max(times.values()) - min(times.values())
    if spread > _SKEW_WARNING:
        judge = failed if spread > CLOCK_TOLERANCE else warning
        # The machine whose clock differs from all others; of two clocks it is not known which is wrong.
        middle = sorted(times.values())[len(times) // 2]
        wrong = [name for name, offset in times.items() if abs(offset - middle) > _SKEW_WARNING]
        machine = "the machine that is off"
        if len(times) == 3 and len(wrong) == 1:
            machine = wrong[0] if wrong[0] == _THIS_MACHINE else f"the machine of {wrong[0]}"
        remedy = Remedy.shell("chronyc", "makestep", advice=f"set the clock of {machine}")
        return judge(*(_difference(name, offset) for name, offset in offsets.items()), remedy=remedy)
    if unknown:
        return unchecked(f"{listed(list(offsets))} and this machine agree; the time of {listed(unknown)} is not known")
    return ok(f"within {milliseconds(spread)} of each other")


def _difference(name: str, offset: timedelta) -> str:
    seconds = abs(offset).total_seconds()
    span = milliseconds(abs(offset)) if seconds < 1 else f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"
    return f"{name} is {span} {'ahead of' if offset > timedelta(0) else 'behind'} this machine"
