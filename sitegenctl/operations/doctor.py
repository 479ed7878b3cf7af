"""The check-up: everything is measured at once, and what was measured is judged.

A source that does not answer fails its own check and leaves those that need it unchecked. Nothing is changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from sitegenctl.domain.diagnosis.condition import Condition, Source
from sitegenctl.domain.diagnosis.liveness import StaleClaim
from sitegenctl.domain.diagnosis.overview import remedy_for
from sitegenctl.domain.diagnosis.remedy import Remedy
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.health import orders as feeding, servers, workers as work
from sitegenctl.domain.health.backend_texts import CELERY_TERMS, BackendTexts
from sitegenctl.domain.health.check import (
    CELERY_CHECKS,
    Check,
    CheckName,
    CheckStatus,
    CheckUp,
    DeploymentCommands,
    WorkerCommands,
    failed,
    unchecked,
)
from sitegenctl.domain.health.facts import (
    BrokerProbe,
    DirectoryFacts,
    HealthProbes,
    MessageFacts,
    PostgresFacts,
    QueueLook,
    RedisFacts,
    WorkersFacts,
)
from sitegenctl.domain.orders.site import MIN_SITE_FILES
from sitegenctl.domain.ports import SiteStore, Sources
from sitegenctl.errors import SourceError
from sitegenctl.operations.observe import observe_open

T = TypeVar("T")

#: So many of the newest finished orders are looked up on disk.
SAMPLE = 20

_NEEDS_WORKERS = (CheckName.WORKER_QUEUE, CheckName.WORKER_TASK, CheckName.LIMITS, CheckName.VISIBILITY)
_NEEDS = {
    Source.BROKER: (
        CheckName.PERSISTENCE,
        CheckName.EVICTION,
        CheckName.WORKER,
        *_NEEDS_WORKERS,
        CheckName.PROGRESS,
        CheckName.SCHEDULER,
        CheckName.SERIALIZATION,
        CheckName.LEFTOVERS,
        CheckName.BEAT,
        CheckName.BACKEND,
        CheckName.ORDERS,
    ),
    Source.DATABASE: (CheckName.SCHEMA, CheckName.BACKEND, CheckName.ORDERS, CheckName.FINISHED_SITES),
    Source.FILES: (CheckName.FINISHED_SITES, CheckName.DISK),
}
_SAID = {
    Source.BROKER: "Redis could not be asked",
    Source.DATABASE: "PostgreSQL could not be asked",
    Source.FILES: "the sites directory is not there",
}
_LATE = "no answer within"
_QUICK = (
    CheckName.REDIS,
    CheckName.PERSISTENCE,
    CheckName.EVICTION,
    CheckName.POSTGRES,
    CheckName.CLOCKS,
    CheckName.WORKER,
)


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """What the check-up is to expect, and how long it may take.

    ``timeout`` is how long one source may take to answer, ``patience`` how long an idle worker may leave a
    message lying. ``keyprefix`` is kombu's ``global_keyprefix``, ``beat_interval`` how often beat sends its message.
    ``checks`` are those that there are of this kind of queue, ``terms`` its words.
    """

    queue: str
    task: str
    grace: timedelta
    timeout: timedelta
    patience: timedelta = timedelta(seconds=3)
    read_only: bool = False
    keyprefix: str = ""
    beat_interval: timedelta = feeding.BEAT_INTERVAL
    starts: WorkerCommands = field(default_factory=WorkerCommands)
    access: DeploymentCommands = field(default_factory=DeploymentCommands)
    checks: tuple[CheckName, ...] = CELERY_CHECKS
    terms: BackendTexts = CELERY_TERMS
    strict: bool = False

    @property
    def ours(self) -> work.Ours:
        """The queue and the task that it is all about."""
        return work.Ours(queue=self.queue, task=self.task)


async def quick_check_up(probes: HealthProbes, options: DoctorOptions) -> CheckUp:
    """Look at Redis and PostgreSQL alone, with one connection to each; no worker is asked."""
    seen = _Seen(options)
    redis, postgres = await asyncio.gather(
        seen.attempt(Source.BROKER, probes.broker.facts()), seen.attempt(Source.DATABASE, probes.database.facts())
    )
    checks = [*seen.servers(redis, postgres)]
    if redis is not None:
        checks.append(work.judge_connected(redis, options.starts, options.access))
    return seen.check_up(checks, _QUICK)


async def check_up(sources: Sources, probes: HealthProbes, options: DoctorOptions) -> CheckUp:
    """Check everything. Raises nothing for a source that is down."""
    seen = _Seen(options)
    redis, postgres, directory = await asyncio.gather(
        seen.attempt(Source.BROKER, probes.broker.facts()),
        seen.attempt(Source.DATABASE, probes.database.facts()),
        seen.attempt(Source.FILES, probes.directory.facts()) if probes.directory else _nothing(),
    )
    # What is down is not asked again: each question would take the whole timeout.
    parts = await asyncio.gather(
        _broker(seen, probes.broker, sources, redis, postgres is not None),
        _database(seen, probes) if postgres is not None else _no_checks(),
        _files(seen, probes, sources.sites, directory, postgres is not None),
    )
    checks = [*seen.servers(redis, postgres), *(check for part in parts for check in part)]
    return seen.check_up(checks, options.checks)


class _Seen:
    """What went wrong on the way, and how the check-up is put together in spite of it."""

    def __init__(self, options: DoctorOptions) -> None:
        self.options = options
        self.errors: dict[Source, SourceError] = {}

    async def attempt(self, source: Source, reading: Awaitable[T]) -> T | None:
        """The reading, or None and an entry in ``errors``."""
        # A little more than the drivers have themselves: they say better than this what went wrong.
        limit = self.options.timeout.total_seconds() * 1.2
        try:
            return await asyncio.wait_for(reading, limit)
        except SourceError as exc:
            self.errors.setdefault(source, exc)
        except TimeoutError:
            told = SourceError(f"{_LATE} {limit:.1f} s", source=source)
            self.errors.setdefault(source, told)
        return None

    def servers(self, redis: RedisFacts | None, postgres: PostgresFacts | None) -> Iterable[Check]:
        """The checks of the servers themselves."""
        starts, access = self.options.starts, self.options.access
        # Also when it went away in the middle of the check-up.
        if redis is None or self._went_away(Source.BROKER):
            yield self._unreachable(CheckName.REDIS, Source.BROKER, f"{starts.redis}   (or correct {access.redis_url})")
        else:
            yield servers.judge_redis(redis, access)
        if redis is not None:
            yield servers.judge_persistence(redis, access)
            yield servers.judge_eviction(redis, access)
        told = servers.judge_postgres(postgres, access) if postgres is not None else None
        if told is not None and told.status is not CheckStatus.OK:
            # Who waits for a lock may be left without an answer: that is no server which is away.
            yield told
        elif told is None or self._went_away(Source.DATABASE):
            yield self._unreachable(
                CheckName.POSTGRES, Source.DATABASE, f"{starts.postgres}   (or correct {access.database_url})"
            )
        else:
            yield self._unless_refused(told)
        yield servers.judge_clocks(
            {"PostgreSQL": postgres.offset if postgres else None, "Redis": redis.offset if redis else None}
        )

    def conditions(self, snapshot: Snapshot) -> Mapping[int, Condition] | None:
        """The condition of every open order and of every one with a task; None without broker or database."""
        missing = {Source.BROKER, Source.DATABASE} & snapshot.errors.keys()
        for source in missing:
            self.errors.setdefault(source, SourceError(snapshot.errors[source], source=source))
        if missing:
            return None
        with_task = {task.order_id for task in snapshot.tasks if task.order_id is not None}
        return {order_id: snapshot.diagnose(order_id).condition for order_id in {*snapshot.orders, *with_task}}

    def check_up(self, checks: Iterable[Check], names: Iterable[CheckName]) -> CheckUp:
        """All checks in their order; those that nobody could make are there too."""
        made = {check.name: check for check in checks}
        return CheckUp(
            checks=[made.get(name) or self._not_made(name) for name in names],
            strict=self.options.strict,
        )

    def _unreachable(self, name: CheckName, source: Source, start: str) -> Check:
        error = self.errors[source]
        # A server that answers and refuses needs another login, not a start.
        remedy = start if self._went_away(source) or error.hint is None else error.hint
        return failed(name, source, error.message, remedy=remedy, unreachable=True)

    def _unless_refused(self, check: Check) -> Check:
        """The check; failed, if something that the check-up had to read of a database that answers was refused."""
        error = self.errors.get(Source.DATABASE)
        if error is None:
            return check
        remedy = error.hint or f'look at who is in the way: {self.options.access.psql} -c "TABLE pg_stat_activity"'
        return failed(check.name, check.source, error.message, *check.evidence, remedy=remedy)

    def _went_away(self, source: Source) -> bool:
        """Whether the server is not there, rather than there and refusing; the adapters say it in these words."""
        error = self.errors.get(source)
        return error is not None and ("be reached" in error.message or error.message.startswith(_LATE))

    def _not_made(self, name: CheckName) -> Check:
        needed = [source for source, names in _NEEDS.items() if name in names]
        missing = [source for source in needed if source in self.errors]
        if missing:
            refused = missing[0] is not Source.FILES and not self._went_away(missing[0])
            return unchecked(name, missing[0], self.errors[missing[0]].message if refused else _SAID[missing[0]])
        source = needed[0] if needed else Source.FILES
        if source is Source.FILES or name is CheckName.FINISHED_SITES:
            remedy = f"set {self.options.access.sites_dir} to the workers' own"
            return unchecked(name, Source.FILES, "no sites directory is configured", remedy=remedy)
        return unchecked(name, Source.WORKERS, "no worker answered that could be asked")


async def _broker(
    seen: _Seen,
    broker: BrokerProbe,
    sources: Sources,
    redis: RedisFacts | None,
    database_answers: bool,
) -> list[Check]:
    if redis is None:
        return []
    options = seen.options
    reading = asyncio.ensure_future(seen.attempt(Source.BROKER, broker.messages()))
    messages, leftovers, watched, snapshot = await asyncio.gather(
        reading,
        seen.attempt(Source.BROKER, broker.leftovers()),
        _watch(seen, broker, reading),
        observe_open(sources) if database_answers else _nothing(),
    )
    checks = []
    conditions = seen.conditions(snapshot) if snapshot is not None else None
    if snapshot is not None and conditions is not None:
        idle = {order_id: order.idle for order_id, order in snapshot.orders.items()}
        checks += [
            feeding.judge_backend(conditions, idle),
            feeding.judge_orders(conditions, _remedies(conditions, snapshot)),
        ]
    if messages is not None:
        checks.append(work.judge_serialization(messages, options.terms))
        checks.append(work.judge_scheduler(messages, options.starts))
    if leftovers is not None:
        checks.append(work.judge_leftovers(leftovers, options.keyprefix, options.access))
    due = _due(snapshot, conditions) if snapshot is not None and conditions is not None else None
    interval = options.beat_interval
    checks.append(feeding.judge_beat(watched, messages, due, options.ours, options.starts, interval=interval))
    if watched:
        stale = snapshot.stale if snapshot is not None else ()
        checks += _workers(watched, redis, messages, options, stale)
    elif redis.denied is not None:
        checks.append(work.judge_connected(redis, options.starts, options.access))
    return checks


def _remedies(conditions: Mapping[int, Condition], snapshot: Snapshot) -> dict[Condition, Remedy | None]:
    by_condition: dict[Condition, list[int]] = {}
    for order_id, condition in conditions.items():
        by_condition.setdefault(condition, []).append(order_id)
    return {condition: remedy_for(condition, orders, snapshot) for condition, orders in by_condition.items()}


def _workers(
    watched: work.Watched,
    redis: RedisFacts,
    messages: MessageFacts | None,
    options: DoctorOptions,
    stale: Sequence[StaleClaim],
) -> list[Check]:
    ours, starts, terms = options.ours, options.starts, options.terms
    checks = [
        work.judge_alive(watched.after, redis, starts, options.access, terms, stale=stale),
        work.judge_progress(watched, ours, starts, terms),
    ]
    if answered := watched.after.workers:
        checks += [
            work.judge_queue(watched.after, ours, starts, terms),
            work.judge_task(answered, ours, messages),
            work.judge_limits(answered, ours, messages, terms),
            work.judge_visibility(answered, ours, messages),
        ]
    return checks


def _due(snapshot: Snapshot, conditions: Mapping[int, Condition]) -> Mapping[int, timedelta]:
    """For how long the orders have waited that beat would start: it looks at the time of the onboarding, too."""
    return {
        order_id: order.idle or timedelta(0)
        for order_id, order in snapshot.orders.items()
        if conditions.get(order_id) is Condition.UNSTARTED and order.onboarding_completed_at is not None
    }


async def _watch(seen: _Seen, broker: BrokerProbe, reading: Awaitable[MessageFacts | None]) -> work.Watched | None:
    """Look at queue and workers; where messages wait and nobody works, or nobody could, wait and look again.

    ``reading`` is the first look at the messages.
    """
    first = await _glance(seen, broker)
    if first is None:
        return None
    look, workers = first
    consumers = seen.options.ours.consumers(workers.workers)
    if consumers and (not look.depth or any(worker.busy for worker in consumers)):
        return work.Watched(first=look, second=look, before=workers, after=workers)
    earlier = await reading
    waited = seen.options.patience
    await asyncio.sleep(waited.total_seconds())
    second = await _glance(seen, broker) or first
    # Only without a worker do beat's messages stay, so that one more of them is a new one.
    later = await seen.attempt(Source.BROKER, broker.messages()) if earlier and not consumers else None
    return work.Watched(
        first=look,
        second=second[0],
        before=workers,
        after=second[1],
        waited=waited,
        beat_came=earlier is not None and later is not None and later.beat > earlier.beat,
    )


async def _glance(seen: _Seen, broker: BrokerProbe) -> tuple[QueueLook, WorkersFacts] | None:
    look = await seen.attempt(Source.BROKER, broker.look())
    workers = await seen.attempt(Source.BROKER, broker.workers()) if look is not None else None
    return (look, workers) if look is not None and workers is not None else None


async def _database(seen: _Seen, probes: HealthProbes) -> list[Check]:
    shapes = await seen.attempt(Source.DATABASE, probes.database.shapes())
    return [servers.judge_schema(*shapes, seen.options.access)] if shapes is not None else []


async def _files(
    seen: _Seen, probes: HealthProbes, sites: SiteStore | None, directory: DirectoryFacts | None, database_answers: bool
) -> list[Check]:
    if directory is None:
        error = seen.errors.get(Source.FILES)
        if error is None:
            return []
        evidence = f"the sites directory: {error.message}"
        remedy = "look at its mount: a network file system may hang"
        return [failed(CheckName.DIRECTORY, Source.FILES, evidence, remedy=remedy, unreachable=True)]
    access = seen.options.access
    checks = [servers.judge_directory(directory, access, read_only=seen.options.read_only)]
    if not directory.exists:
        seen.errors[Source.FILES] = SourceError(_SAID[Source.FILES], source=Source.FILES)
        return checks
    checks.append(servers.judge_disk(directory))
    if sites is not None and database_answers:
        sample = await seen.attempt(Source.DATABASE, probes.database.newest_finished(SAMPLE))
        if sample is not None:
            files = await seen.attempt(Source.FILES, sites.count(sample, enough=MIN_SITE_FILES))
            if files is not None:
                checks.append(servers.judge_finished(directory.path, sample, files, access))
    return checks


async def _nothing() -> None:
    return None


async def _no_checks() -> list[Check]:
    return []
