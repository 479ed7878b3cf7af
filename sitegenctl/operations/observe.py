"""Looking: one snapshot of database, broker, workers and files. Reading never writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from sitegenctl.domain.diagnosis.condition import DEFAULT_GRACE, Source
from sitegenctl.domain.diagnosis.listing import OrderFilter
from sitegenctl.domain.diagnosis.liveness import (
    Liveness,
    attribute,
    confirmed,
    doubtful,
    may_run,
    separate_claims,
    unconfirmed,
)
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Order, OrderStatus
from sitegenctl.domain.orders.site import MIN_SITE_FILES, SiteFiles
from sitegenctl.domain.ports import OrdersStore, QueueBackend, SiteStore
from sitegenctl.domain.queue.task import BrokerReading, LiveTask, TaskState
from sitegenctl.domain.queue.worker import WorkerSurvey
from sitegenctl.errors import SourceError
from sitegenctl.operations.queue_cache import QueueCache

T = TypeVar("T")

#: Seconds between the two looks that it takes to call a task orphaned, or two of them: longer than any task is on
#: the move between queue, ``unacked`` and worker.
SECOND_LOOK = 0.25

# So many of the newest finished orders are looked up on disk to tell whether it is the right one, and of so many
# one at least must have a file there.
_SAMPLE = 20
_ONE_OF = 4


def utc_now() -> datetime:
    """The time now, aware."""
    return datetime.now(UTC)


async def observe(
    orders: OrdersStore,
    queue: QueueBackend,
    sites: SiteStore | None,
    order_ids: Collection[int],
    *,
    grace: timedelta = DEFAULT_GRACE,
    check_hollow: bool = False,
    enough: int | None = None,
    belief: QueueCache | None = None,
    now: Callable[[], datetime] = utc_now,
) -> Snapshot:
    """Take a snapshot of these orders and of everything live, or as much of it as ``belief`` is about.

    A source that doesn't answer is named in the snapshot's ``errors``; nothing is raised for it. The broker is
    read before the database: the other way round, an order finished in between would look wrong. ``sites`` is
    None when the files don't matter; they are counted up to ``enough``, without it all of them and their sizes.
    """
    look = _Look(queue=queue, grace=grace, check_hollow=check_hollow, taken_at=now())
    reading = await look.attempts.make(Source.BROKER, belief.read if belief is not None else queue.read)
    survey, known, files = await asyncio.gather(
        look.survey(reading),
        look.attempts.make(Source.DATABASE, lambda: orders.read_orders(order_ids)),
        look.count(orders, sites, order_ids, enough, sizes=enough is None),
    )
    if belief is not None and reading is not None and not belief.covers((known or {}).values()):
        reading = await look.attempts.make(Source.BROKER, lambda: belief.read(refresh=True))
    return await look.snapshot(orders, reading, survey, known, files, sure_of=set(order_ids))


async def observe_open(
    orders: OrdersStore,
    queue: QueueBackend,
    sites: SiteStore | None,
    *,
    grace: timedelta = DEFAULT_GRACE,
    check_hollow: bool = False,
    only: OrderFilter | None = None,
    also: Collection[int] = (),
    enough: int = MIN_SITE_FILES,
    ask_workers: Callable[[], Awaitable[WorkerSurvey]] | None = None,
    attempts: Attempts | None = None,
    before: Sequence[LiveTask] = (),
    recall: Recall | None = None,
    now: Callable[[], datetime] = utc_now,
) -> Snapshot:
    """Take a snapshot of every order that can matter: the open ones, those with a live task, and ``also`` these.

    As ``observe`` otherwise. The sites of GENERATING orders are counted up to ``enough`` files, which is as far
    as a verdict needs it, and with ``check_hollow`` those of finished orders with a task, too; others are then
    counted by who asks, in the right directory. ``ask_workers`` is for who asks them more than what they hold, so
    that they are asked once; ``attempts`` for who asks more of the sources in the same look. For who looks again and
    again ``before`` are the tasks of the last snapshot, of which what was found already needs no second look, and
    ``recall`` may answer by what it was told a moment ago.
    """
    look = _Look(
        queue=queue,
        grace=grace,
        check_hollow=check_hollow,
        taken_at=now(),
        ask_workers=ask_workers,
        attempts=attempts or Attempts(),
        before=before,
        recall=recall or _ask_anew,
    )
    reading = await look.attempts.make(Source.BROKER, queue.read)
    with_task = {*(reading.order_ids if reading else ()), *also}
    survey, known = await asyncio.gather(
        look.survey(reading), look.attempts.make(Source.DATABASE, lambda: orders.read_open(with_task, only))
    )
    if known is not None and (unread := _claimed(survey) - with_task - known.keys()):
        known = await look.attempts.make(Source.DATABASE, lambda: orders.read_open(with_task | unread, only))
    judged = [
        order.order_id
        for order in (known or {}).values()
        if order.status is OrderStatus.GENERATING or (check_hollow and order.status and order.status.is_finished)
    ]
    files = await look.count(orders, sites, judged, enough, check_directory=check_hollow)
    return await look.snapshot(orders, reading, survey, known, files, sure_of=None)


async def observe_live(orders: OrdersStore, queue: QueueBackend, *, now: Callable[[], datetime] = utc_now) -> Snapshot:
    """Take a snapshot of everything live and of the orders that it is for; no files."""
    look = _Look(queue=queue, grace=DEFAULT_GRACE, check_hollow=False, taken_at=now())
    reading = await look.attempts.make(Source.BROKER, queue.read)
    with_task = reading.order_ids if reading else set()
    survey, known = await asyncio.gather(
        look.survey(reading), look.attempts.make(Source.DATABASE, lambda: orders.read_orders(with_task))
    )
    if known is not None and (unread := _claimed(survey) - with_task):
        known = await look.attempts.make(Source.DATABASE, lambda: orders.read_orders(with_task | unread))
    return await look.snapshot(orders, reading, survey, known, None, sure_of=None)


class Recall(Protocol):
    """Answers a question, called ``key``, by what was answered a moment ago, or else by asking it."""

    def __call__(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> Awaitable[T]:
        """The answer; raises what ``ask`` raises, and does not remember that."""
        ...


def _ask_anew(key: Hashable, ask: Callable[[], Awaitable[T]]) -> Awaitable[T]:
    return ask()


@dataclass(kw_only=True)
class Attempts:
    """What one look asks of the sources, and why a source did not answer.

    Of one that has failed nothing more is asked: each question could take the whole timeout again. Questions to the
    same source wait for each other, so that none of them is under way when one fails. ``took`` are the seconds that
    each source's first answer took.
    """

    errors: dict[Source, str] = field(default_factory=dict)
    took: dict[Source, float] = field(default_factory=dict)
    _turns: Mapping[Source, asyncio.Lock] = field(default_factory=lambda: {source: asyncio.Lock() for source in Source})

    async def make(self, source: Source, ask: Callable[[], Awaitable[T]]) -> T | None:
        """The answer; None, and its reason in ``errors``, where there is none."""
        async with self._turns[source]:
            if source in self.errors:
                return None
            began = time.perf_counter()
            try:
                answer = await ask()
            except SourceError as exc:
                self.errors[source] = exc.message
                return None
            self.took.setdefault(source, time.perf_counter() - began)
            return answer


@dataclass(kw_only=True)
class _Look:
    """One look at the sources, with what went wrong on the way."""

    queue: QueueBackend
    grace: timedelta
    check_hollow: bool
    taken_at: datetime
    ask_workers: Callable[[], Awaitable[WorkerSurvey]] | None = None
    attempts: Attempts = field(default_factory=Attempts)
    before: Sequence[LiveTask] = ()
    recall: Recall = field(default_factory=lambda: _ask_anew)

    async def survey(self, reading: BrokerReading | None) -> WorkerSurvey | None:
        # Without the broker nobody can be asked, and nobody has to be told so twice.
        ask = self.ask_workers or self.queue.survey
        return await self.attempts.make(Source.WORKERS, ask) if reading is not None else None

    async def count(
        self,
        orders: OrdersStore,
        sites: SiteStore | None,
        order_ids: Collection[int],
        enough: int | None,
        *,
        check_directory: bool = False,
        sizes: bool = True,
    ) -> dict[int, SiteFiles] | None:
        """Count these orders' files, if there are ``sites`` and it is their directory; None otherwise.

        Which directory it is matters as soon as one of them looks empty, not only when all do: in a wrong one there
        may be a stray site of one of them, and the others would look empty all the same. ``check_directory`` is
        for who goes on to count others.
        """
        if sites is None:
            return None
        files = await self.attempts.make(Source.FILES, lambda: sites.count(order_ids, enough=enough, sizes=sizes))
        if files is None:
            return None
        few = MIN_SITE_FILES if enough is None else enough
        looks_empty = any(counted.count < few for counted in files.values())
        if not looks_empty and not check_directory:
            return files
        sample = await self.attempts.make(
            Source.DATABASE, lambda: self.recall("newest finished", lambda: orders.newest_finished(_SAMPLE))
        )
        if sample is None:
            # Without the database nobody can tell, and every verdict is unknown anyway.
            return None
        # As soon as any of the files has come or gone it may be another directory.
        found = ("right directory", tuple(sample), frozenset(files.items()))
        await self.attempts.make(Source.FILES, lambda: self.recall(found, lambda: _require_sites(sites, sample)))
        return files if Source.FILES not in self.attempts.errors else None

    async def snapshot(
        self,
        orders: OrdersStore,
        reading: BrokerReading | None,
        survey: WorkerSurvey | None,
        known: dict[int, Order] | None,
        files: dict[int, SiteFiles] | None,
        *,
        sure_of: set[int] | None,
    ) -> Snapshot:
        """Put the sources together; doubtful tasks of ``sure_of`` (None: all orders) take a second reading."""
        reading = reading or BrokerReading()
        finished = await self._finished(reading, survey)
        liveness = Liveness(reading=reading, survey=survey, now=self.taken_at)
        tasks = liveness.decide(attribute(reading.tasks, survey, finished=finished), known or {})
        doubted = doubtful(tasks, self.before)
        in_doubt = [task for task in tasks if task.task_id in doubted]
        if any(sure_of is None or task.order_id in sure_of for task in in_doubt):
            tasks, reread = await self._look_again(orders, tasks, {task.order_id for task in in_doubt if task.order_id})
            # Orders that a filter left out stay out.
            known = {order_id: reread.get(order_id, order) for order_id, order in (known or {}).items()}
        with_task = {task.order_id for task in tasks if task.order_id is not None}
        if survey is not None:
            survey = replace(survey, may_run=may_run(tasks, (known or {}).values()))
        return Snapshot(
            taken_at=self.taken_at,
            orders=known or {},
            tasks=tasks,
            reading=reading,
            workers=survey,
            files=files or {},
            errors=dict(self.attempts.errors),
            grace=self.grace,
            check_hollow=self.check_hollow,
            possible=liveness.possible_runs(
                order for order_id, order in (known or {}).items() if order_id not in with_task
            ),
            stale=separate_claims(survey, {task.task_id for task in reading.tasks}, finished)[1],
            authoritative=await self._is_authoritative(orders, known, with_task),
        )

    async def _finished(self, reading: BrokerReading, survey: WorkerSurvey | None) -> Mapping[str, str]:
        """The final results of tasks that workers say they run and that the broker has no message of."""
        messages = {task.task_id for task in reading.tasks}
        claimed = {task.task_id for task in _claims(survey) if task.state is TaskState.RUNNING} - messages
        if not claimed:
            return {}
        return await self.attempts.make(Source.BROKER, lambda: self.queue.finished(claimed)) or {}

    async def _is_authoritative(
        self, orders: OrdersStore, known: Mapping[int, Order] | None, with_task: Collection[int]
    ) -> bool:
        """Whether orders with a task that were not found are missing; asked only where there are any."""
        if known is None or all(order_id in known for order_id in with_task):
            return True
        return bool(await self.attempts.make(Source.DATABASE, orders.is_authoritative))

    async def _look_again(
        self, orders: OrdersStore, tasks: tuple[LiveTask, ...], order_ids: Collection[int]
    ) -> tuple[tuple[LiveTask, ...], dict[int, Order]]:
        """Believe of doubtful tasks what a second reading of all sources has, too; and their orders as of then."""
        await asyncio.sleep(SECOND_LOOK)
        try:
            reading = await self.queue.read()
            survey = await self.queue.survey()
            known = await orders.read_orders(order_ids)
            second = attribute(reading.tasks, survey, finished=await self._finished(reading, survey))
        except SourceError:
            return unconfirmed(tasks), {}
        liveness = Liveness(reading=reading, survey=survey, now=self.taken_at)
        return confirmed(tasks, liveness.decide(second, known)), known


async def require_right_directory(orders: OrdersStore, sites: SiteStore) -> None:
    """Raise ``SourceError`` where (almost) none of the newest finished orders has a file.

    Then it is another directory than the one that the workers write, or its volume isn't mounted, and every order
    would look empty.
    """
    await _require_sites(sites, await orders.newest_finished(_SAMPLE))


async def _require_sites(sites: SiteStore, finished: Sequence[int]) -> None:
    """Raise ``SourceError`` where (almost) none of these orders, the newest finished ones, has a file."""
    files = await sites.count(finished, enough=1)
    with_files = sum(counted.count > 0 for counted in files.values())
    # Where there are more, one is not enough: a worker that was once started with a wrong path has left a site there.
    if with_files * _ONE_OF >= len(finished):
        return
    if len(finished) == 1:
        seen = f"the only finished order, {finished[0]}, has no file"
    else:
        some = f"only {with_files}" if with_files else "none"
        seen = f"{some} of the {len(finished)} newest finished orders has a file"
    raise SourceError(
        f"{seen} in the sites directory: another one than the workers write, or their sites are lost",
        hint=Remedy.run(
            Command.CONFIG_SHOW, advice="check that its volume is mounted and that SITES_BASE_DIR is right"
        ),
        source=Source.FILES,
    )


def _claimed(survey: WorkerSurvey | None) -> set[int]:
    """Orders of the tasks that workers hold: of some, such as one acknowledged early, nobody else knows."""
    return {task.order_id for task in _claims(survey) if task.order_id is not None}


def _claims(survey: WorkerSurvey | None) -> Iterator[LiveTask]:
    """Every claim of a task of ours."""
    for worker in survey.workers if survey is not None else ():
        yield from worker.tasks


def require(snapshot: Snapshot, *sources: Source) -> None:
    """Raise ``SourceError`` if one of these sources did not answer: nothing may be decided without it."""
    for source in sources:
        if source in snapshot.errors:
            raise SourceError(
                snapshot.errors[source],
                hint="nothing was done: what is live can't be known without it",
                source=source,
            )
