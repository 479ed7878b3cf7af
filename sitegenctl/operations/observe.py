"""Read database, broker, workers and files into one snapshot. Reading never writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.listing import OrderFilter
from sitegenctl.domain.diagnosis.liveness import (
    Liveness,
    StaleClaim,
    attribute,
    confirmed,
    doubtful,
    separate_claims,
    unconfirmed,
)
from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Order, OrderStatus
from sitegenctl.domain.orders.site import MIN_SITE_FILES, SiteFiles
from sitegenctl.domain.ports import OrdersStore, QueueBackend, SiteStore, Sources
from sitegenctl.domain.queue.task import BrokerReading, LiveTask, TaskState
from sitegenctl.domain.queue.worker import WorkerRoster, WorkerSurvey, survey_of
from sitegenctl.errors import SourceError, Unreachable

# A reading is valid for this many seconds, or for this many times as long as it took, so that a growing queue is not
# read most of the time. Changes that go through an order's row are detected in any case: before planning by `covers`,
# afterwards under the row's lock. The limit is for publishers that do not touch the row.
_MIN_AGE = 1.0
_AGE_FACTOR = 10

#: Seconds by which the clocks that write an order's times may differ.
_CLOCK_SKEW = 2.0


@dataclass(kw_only=True)
class QueueCache:
    """The tasks of these orders as last read; ``order_ids`` may shrink meanwhile."""

    queue: QueueBackend
    order_ids: Collection[int]
    by_order: Mapping[int, Sequence[LiveTask]] = field(default_factory=dict)
    _reading: BrokerReading = field(default_factory=BrokerReading)
    _began: float = float("-inf")
    _valid_until: float = float("-inf")
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self, *, refresh: bool = False) -> BrokerReading:
        """The tasks of these orders without positions, read again if outdated. Raises ``SourceError``."""
        clock = asyncio.get_running_loop().time
        async with self._lock:
            if refresh or clock() > self._valid_until:
                began = clock()
                self._reading = await self.queue.read(self.order_ids)
                by_order: dict[int, list[LiveTask]] = {}
                for task in self._reading.tasks:
                    if task.order_id is not None:
                        by_order.setdefault(task.order_id, []).append(task)
                self.by_order, self._began = by_order, began
                self._valid_until = clock() + max(_MIN_AGE, _AGE_FACTOR * (clock() - began))
            return self._reading

    def covers(self, orders: Iterable[Order]) -> bool:
        """Whether none of these orders, read just now, changed since the reading: a change may have added a task."""
        age = asyncio.get_running_loop().time() - self._began + _CLOCK_SKEW
        return all(
            order.idle is None or order.idle.total_seconds() > age or order.order_id in self.by_order
            for order in orders
        )


T = TypeVar("T")

#: Seconds between the two readings that it takes to call a task orphaned or duplicated: longer than a task takes to
#: get from the queue to a worker.
CONFIRM_DELAY = 0.25

#: The newest finished orders whose files are checked to recognise a wrong sites directory, and the share of them (one
#: in ``_ONE_IN``) that must have a file.
_SAMPLE = 20

# Finished orders are checked for their files this long.
_RECENT = timedelta(days=1)
_ONE_IN = 4


def utc_now() -> datetime:
    """The current time, aware."""
    return datetime.now(UTC)


@dataclass(kw_only=True)
class Attempts:
    """The reads of the sources for one snapshot; a failed source is not read again, as each read could take long."""

    before: Sequence[LiveTask] = ()  # tasks of the last snapshot, which need no second reading
    #: Where a view polls, it may answer a slow question from its last answer to the same key.
    recall: Callable[[Hashable, Callable[[], Awaitable[Any]]], Awaitable[Any]] = lambda _, ask: ask()
    now: Callable[[], datetime] = utc_now
    #: The last task seen of each order, by a view that polls: when it is gone, its result shows how it ended.
    last_ids: dict[int, str] = field(default_factory=dict)
    errors: dict[Source, str] = field(default_factory=dict)  # why a source did not respond
    causes: dict[Source, SourceError] = field(default_factory=dict)
    took: dict[Source, float] = field(default_factory=dict)  # seconds of each first response
    _locks: Mapping[Source, asyncio.Lock] = field(default_factory=lambda: {source: asyncio.Lock() for source in Source})

    @property
    def hints(self) -> dict[Source, Hint]:
        """What to do about a source that refused the request; doctor finds out about one that is unreachable."""
        refused = {source: exc.hint for source, exc in self.causes.items() if not isinstance(exc, Unreachable)}
        return {source: hint for source, hint in refused.items() if hint is not None}

    async def make(self, source: Source, ask: Callable[[], Awaitable[T]]) -> T | None:
        """The response; None, with the reason in ``errors``, without one."""
        async with self._locks[source]:
            if source in self.errors:
                return None
            began = time.perf_counter()
            try:
                response = await ask()
            except SourceError as exc:
                self.errors[source] = exc.message
                self.causes[source] = exc
                return None
            self.took.setdefault(source, time.perf_counter() - began)
            return response


async def observe(
    sources: Sources,
    order_ids: Collection[int] | None,
    *,
    files: bool = True,
    enough: int | None = None,
    check_hollow: bool = False,
    worker_details: bool = False,
    cache: QueueCache | None = None,
    attempts: Attempts | None = None,
) -> Snapshot:
    """Take a snapshot of everything live, or of what the ``cache`` has of the queue, and of these orders.

    None stands for all orders with a live task.

    Nothing is raised for a source that does not respond: the snapshot's ``errors`` has it. The broker is read before
    the database; the other way round, an order that finishes in between would look wrong. ``files`` are counted up to
    ``enough``, or all of them with their sizes. With ``worker_details`` the snapshot has the roster.
    """
    observation = _Observation(sources=sources, check_hollow=check_hollow, attempts=attempts or Attempts())
    attempts, orders = observation.attempts, sources.orders
    reading = await attempts.make(Source.BROKER, cache.read if cache is not None else sources.queue.read)
    ids = order_ids if order_ids is not None else reading.order_ids if reading else set()
    survey, known, counted = await asyncio.gather(
        observation.survey(reading, details=worker_details),
        attempts.make(Source.DATABASE, lambda: orders.read_orders(ids)),
        observation.count(ids, enough, sizes=enough is None) if files else asyncio.sleep(0),
    )
    if order_ids is None and known is not None and (unread := _claimed_orders(survey).difference(ids)):
        known = await attempts.make(Source.DATABASE, lambda: orders.read_orders({*ids, *unread}))
    if cache is not None and reading is not None and not cache.covers((known or {}).values()):
        reading = await attempts.make(Source.BROKER, lambda: cache.read(refresh=True))
    if known is not None and order_ids is not None:
        known = {order_id: known[order_id] for order_id in order_ids if order_id in known}  # plans keep their order
    certain = set(order_ids) if order_ids is not None else None
    return await observation.snapshot(reading, survey, known, counted, certain=certain)


async def observe_open(
    sources: Sources,
    *,
    check_hollow: bool = False,
    check_recent: bool = False,
    only: OrderFilter | None = None,
    also: Collection[int] = (),
    worker_details: bool = False,
    attempts: Attempts | None = None,
) -> Snapshot:
    """Take a snapshot of every order that can matter: the open ones, those with a live task, and ``also`` these.

    As ``observe`` otherwise. Files of GENERATING orders are counted where a condition depends on them. With
    ``check_hollow``, those of finished orders with a task are counted, too. With ``check_recent``, the snapshot has the
    orders that finished within the last day and have no files. With ``worker_details`` it has the roster.
    """
    attempts = attempts or Attempts()
    observation = _Observation(sources=sources, check_hollow=check_hollow, attempts=attempts, taken_at=attempts.now())
    read = observation.attempts.make
    reading = await read(Source.BROKER, sources.queue.read)
    hollow = await observation.recently_hollow() if check_recent else {}
    with_task = {*(reading.order_ids if reading else ()), *also, *hollow}
    survey, known = await asyncio.gather(
        observation.survey(reading, details=worker_details),
        read(Source.DATABASE, lambda: sources.orders.read_open(with_task, only)),
    )
    if known is not None and (unread := _claimed_orders(survey) - with_task - known.keys()):
        known = await read(Source.DATABASE, lambda: sources.orders.read_open(with_task | unread, only))
    with_files = [
        order.order_id
        for order in (known or {}).values()
        if order.status is OrderStatus.GENERATING or (check_hollow and order.status and order.status.is_finished)
    ]
    files = await observation.count(with_files, MIN_SITE_FILES, check_directory=check_hollow)
    snapshot = await observation.snapshot(reading, survey, known, {**hollow, **files} if files is not None else None)
    return replace(snapshot, without_files=frozenset(hollow))


@dataclass(kw_only=True)
class _Observation:
    """One snapshot that is being taken."""

    sources: Sources
    check_hollow: bool = False
    attempts: Attempts = field(default_factory=Attempts)
    roster: WorkerRoster | None = None
    taken_at: datetime = field(default_factory=utc_now)

    async def survey(self, reading: BrokerReading | None, *, details: bool = False) -> WorkerSurvey | None:
        """Ask the workers, unless the broker is unreachable: then that error is enough."""
        if reading is None:
            return None
        if not details:
            return await self.attempts.make(Source.WORKERS, self.sources.queue.survey)
        self.roster = await self.attempts.make(Source.WORKERS, self.sources.queue.worker_details)
        return survey_of(self.roster, task_name=self.sources.task_name) if self.roster is not None else None

    async def recently_hollow(self) -> dict[int, SiteFiles]:
        """The files of the orders that finished within the last day and have too few."""
        attempts, orders = self.attempts, self.sources.orders
        recent = await attempts.make(
            Source.DATABASE, lambda: attempts.recall("recently finished", lambda: orders.recently_finished(_RECENT))
        )
        files = await self.count(recent, MIN_SITE_FILES, sizes=False, is_slow=True) if recent else None
        return {order_id: counted for order_id, counted in (files or {}).items() if counted.is_empty}

    async def count(
        self,
        order_ids: Collection[int],
        enough: int | None,
        *,
        check_directory: bool = False,
        sizes: bool = True,
        is_slow: bool = False,
    ) -> dict[int, SiteFiles] | None:
        """Count these orders' files; None where they could not be, or in a wrong directory.

        The directory is checked as soon as one site looks empty, not only when all do: a wrong one may have a stray
        site of one of them. ``check_directory`` checks it in any case. With ``is_slow``, a view that polls does not
        count each time.
        """
        sites, attempts = self.sources.sites, self.attempts
        count = partial(sites.count, order_ids, enough=enough, sizes=sizes)
        recall = partial(attempts.recall, ("files", frozenset(order_ids)), count)
        files: dict[int, SiteFiles] | None = await attempts.make(Source.FILES, recall if is_slow else count)
        if files is None:
            return None
        few = MIN_SITE_FILES if enough is None else enough
        if not check_directory and all(counted.count >= few for counted in files.values()):
            return files
        sample = await attempts.make(
            Source.DATABASE,
            lambda: attempts.recall("newest finished", lambda: self.sources.orders.newest_finished(_SAMPLE)),
        )
        if sample is None:
            # Without the database every condition is unknown anyway.
            return None
        # When any of the files has changed, it may be another directory.
        key = ("right directory", tuple(sample), frozenset(files.items()))
        await attempts.make(Source.FILES, lambda: attempts.recall(key, lambda: _require_sites(sites, sample)))
        return files if Source.FILES not in attempts.errors else None

    async def snapshot(
        self,
        reading: BrokerReading | None,
        survey: WorkerSurvey | None,
        known: dict[int, Order] | None,
        files: dict[int, SiteFiles] | None,
        *,
        certain: set[int] | None = None,
    ) -> Snapshot:
        """Join the sources; doubtful tasks of ``certain`` orders (None: of all) take a second reading."""
        reading, orders = reading or BrokerReading(), known or {}
        results = await self._results(reading, survey) if survey is not None and survey.workers else {}
        liveness = Liveness(reading=reading, survey=survey, now=self.taken_at)
        tasks = liveness.decide(attribute(reading.tasks, survey, finished=results), orders)
        doubted = doubtful(tasks, self.attempts.before) if tasks else frozenset()
        in_doubt = [task for task in tasks if task.task_id in doubted]
        if any(certain is None or task.order_id in certain for task in in_doubt):
            tasks, reread = await self._read_again(tasks, {task.order_id for task in in_doubt if task.order_id})
            # Orders that a filter left out stay out.
            orders = {order_id: reread.get(order_id, order) for order_id, order in orders.items()}
        with_task = {task.order_id for task in tasks if task.order_id is not None}
        stale = separate_claims(survey, {task.task_id for task in reading.tasks}, results)[1]
        holds: list[StaleClaim | LiveTask] = [*stale, *tasks]
        self.attempts.last_ids.update((each.order_id, each.task_id) for each in holds if each.order_id is not None)
        orders = {**orders, **await self._failed(order for order in orders.values() if order.order_id not in with_task)}
        if survey is not None:
            # A task that no worker claims may be running.
            unclaimed = (task.state is TaskState.RUNNING and task.worker is None for task in tasks)
            locked = (order.run_lock_held for order in orders.values())
            survey = replace(
                survey, may_run=any(task.is_unaccounted for task in tasks) or any(unclaimed) or any(locked)
            )
        without_task = (order for order_id, order in orders.items() if order_id not in with_task)
        return Snapshot(
            taken_at=self.taken_at,
            orders=orders,
            tasks=tasks,
            reading=reading,
            workers=survey,
            roster=self.roster,
            files=files or {},
            errors=dict(self.attempts.errors),
            hints=self.attempts.hints,
            grace=self.sources.grace,
            due_soon=self.sources.due_soon,
            check_hollow=self.check_hollow,
            possible=liveness.possible_runs(without_task),
            stale=stale,
            authoritative=known is None
            or with_task <= orders.keys()
            or bool(await self.attempts.make(Source.DATABASE, self.sources.orders.is_authoritative)),
        )

    async def _failed(self, orders: Iterable[Order]) -> Mapping[int, Order]:
        """Those of these orders whose run has no outcome in the log, and failed by the result of its task.

        The id is in the log, that of the last task seen, or in the broker's list of failed tasks.
        """
        lacking = {order.order_id: order for order in orders if order.lacks_outcome}
        if not lacking:
            return {}
        queue, attempts = self.sources.queue, self.attempts
        # The list may be long: a view that polls does not read it each time.
        recall = partial(attempts.recall, ("failed tasks", frozenset(lacking)), lambda: queue.failed(lacking))
        failed: Mapping[int, str] = await attempts.make(Source.BROKER, recall) or {}
        ids = [
            (order, task_id, is_last)
            for order in lacking.values()
            for task_id, is_last in (
                (failed.get(order.order_id), False),
                (order.last_task_id, True),
                (attempts.last_ids.get(order.order_id), True),
            )
            if task_id is not None
        ]
        if not ids:
            return {}
        read = partial(queue.results, {task_id for _, task_id, _ in ids})
        results = await attempts.make(Source.BROKER, read) or {}
        ended = [
            (order, order.with_result(task_id, results[task_id], self.taken_at, is_last=is_last))
            for order, task_id, is_last in ids
            if task_id in results
        ]
        return {order.order_id: failed for order, failed in ended if failed is not order}

    async def _results(self, reading: BrokerReading, survey: WorkerSurvey) -> Mapping[str, str]:
        """The final results of tasks that workers list as running and that have no message."""
        claims = (task for worker in survey.workers for task in worker.tasks)
        claimed = {task.task_id for task in claims if task.state is TaskState.RUNNING}
        claimed.difference_update(task.task_id for task in reading.tasks)
        if not claimed:
            return {}
        return await self.attempts.make(Source.BROKER, lambda: self.sources.queue.finished(claimed)) or {}

    async def _read_again(
        self, tasks: tuple[LiveTask, ...], order_ids: Collection[int]
    ) -> tuple[tuple[LiveTask, ...], dict[int, Order]]:
        """The tasks that a second reading of all sources confirms, and these orders at that time."""
        await asyncio.sleep(CONFIRM_DELAY)
        try:
            reading = await self.sources.queue.read()
            survey = await self.sources.queue.survey()
            orders = await self.sources.orders.read_orders(order_ids)
            second = attribute(reading.tasks, survey, finished=await self._results(reading, survey))
        except SourceError:
            return unconfirmed(tasks), {}
        liveness = Liveness(reading=reading, survey=survey, now=self.taken_at)
        return confirmed(tasks, liveness.decide(second, orders)), orders


async def require_right_directory(orders: OrdersStore, sites: SiteStore) -> None:
    """Raise ``SourceError`` where (almost) none of the newest finished orders has a file.

    Then the directory is not the one that the workers write, or its volume is not mounted, and every order would look
    empty.
    """
    await _require_sites(sites, await orders.newest_finished(_SAMPLE))


async def _require_sites(sites: SiteStore, finished: Sequence[int]) -> None:
    files = await sites.count(finished, enough=1)
    with_files = sum(counted.count > 0 for counted in files.values())
    # One of many is not enough: a worker once started with a wrong path leaves a stray site.
    if with_files * _ONE_IN >= len(finished):
        return
    if len(finished) == 1:
        problem = f"the only finished order, {finished[0]}, has no file"
    else:
        some = f"only {with_files}" if with_files else "none"
        problem = f"{some} of the {len(finished)} newest finished orders has a file"
    raise SourceError(
        f"{problem} in the sites directory: another one than the workers write, or their sites are lost",
        hint=Remedy.run(
            Command.CONFIG_SHOW, advice="check that its volume is mounted and that SITES_BASE_DIR is right"
        ),
        source=Source.FILES,
    )


def _claimed_orders(survey: WorkerSurvey | None) -> set[int]:
    """Orders of the tasks that workers hold; a task acknowledged early is in no other source."""
    claims = (task for worker in (survey.workers if survey is not None else ()) for task in worker.tasks)
    return {task.order_id for task in claims if task.order_id is not None}


def require(snapshot: Snapshot, *sources: Source) -> None:
    """Raise ``SourceError`` if one of these sources did not respond: nothing may be decided without it."""
    for source in sources:
        if source in snapshot.errors:
            raise SourceError(
                snapshot.errors[source],
                hint=snapshot.hints.get(source, "nothing was done: without it live tasks are unknown"),
                source=source,
            )
