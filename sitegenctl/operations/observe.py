"""Looking: one snapshot of database, broker, workers and files. Reading never writes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from sitegenctl.domain.condition import DEFAULT_GRACE, Source
from sitegenctl.domain.listing import OrderFilter
from sitegenctl.domain.order import Order, OrderStatus
from sitegenctl.domain.ports import OrdersStore, QueueBackend, SiteStore
from sitegenctl.domain.site import MIN_SITE_FILES, SiteFiles
from sitegenctl.domain.snapshot import Snapshot, attribute
from sitegenctl.domain.task import BrokerReading, LiveTask, TaskState
from sitegenctl.domain.worker import WorkerSurvey
from sitegenctl.errors import SourceError

T = TypeVar("T")

#: Seconds between the two looks that it takes to call a task orphaned: longer than any task is on the move
#: between queue, ``unacked`` and worker.
SECOND_LOOK = 0.25


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
    now: Callable[[], datetime] = utc_now,
) -> Snapshot:
    """Take a snapshot of these orders and of everything live.

    A source that doesn't answer is named in the snapshot's ``errors``; nothing is raised for it. The broker is
    read before the database: the other way round, an order finished in between would look wrong. ``sites`` is
    None when the files don't matter.
    """
    look = _Look(queue=queue, grace=grace, check_hollow=check_hollow, taken_at=now())
    reading = await look.attempt(Source.BROKER, queue.read())
    survey, known, files = await asyncio.gather(
        look.survey(reading),
        look.attempt(Source.DATABASE, orders.read_orders(order_ids)),
        look.attempt(Source.FILES, count_sites(orders, sites, order_ids)) if sites is not None else _nothing(),
    )
    return await look.snapshot(reading, survey, known, files, sure_of=set(order_ids))


async def observe_open(
    orders: OrdersStore,
    queue: QueueBackend,
    sites: SiteStore | None,
    *,
    grace: timedelta = DEFAULT_GRACE,
    check_hollow: bool = False,
    only: OrderFilter | None = None,
    now: Callable[[], datetime] = utc_now,
) -> Snapshot:
    """Take a snapshot of every order that can matter: the open ones, and those with a live task.

    As ``observe`` otherwise. The sites of GENERATING orders are counted as far as a verdict needs it, and with
    ``check_hollow`` those of finished orders with a task, too.
    """
    look = _Look(queue=queue, grace=grace, check_hollow=check_hollow, taken_at=now())
    reading = await look.attempt(Source.BROKER, queue.read())
    with_task = reading.order_ids if reading else set()
    survey, known = await asyncio.gather(
        look.survey(reading), look.attempt(Source.DATABASE, orders.read_open(with_task, only))
    )
    files: dict[int, SiteFiles] | None = None
    judged = [
        order.order_id
        for order in (known or {}).values()
        if order.status is OrderStatus.GENERATING or (check_hollow and order.status and order.status.is_finished)
    ]
    if sites is not None:
        files = await look.attempt(Source.FILES, count_sites(orders, sites, judged, enough=MIN_SITE_FILES))
    return await look.snapshot(reading, survey, known, files, sure_of=None)


async def observe_live(orders: OrdersStore, queue: QueueBackend, *, now: Callable[[], datetime] = utc_now) -> Snapshot:
    """Take a snapshot of everything live and of the orders that it is for; no files."""
    look = _Look(queue=queue, grace=DEFAULT_GRACE, check_hollow=False, taken_at=now())
    reading = await look.attempt(Source.BROKER, queue.read())
    with_task = reading.order_ids if reading else set()
    survey, known = await asyncio.gather(
        look.survey(reading), look.attempt(Source.DATABASE, orders.read_orders(with_task))
    )
    return await look.snapshot(reading, survey, known, None, sure_of=None)


@dataclass(kw_only=True)
class _Look:
    """One look at the sources, with what went wrong on the way."""

    queue: QueueBackend
    grace: timedelta
    check_hollow: bool
    taken_at: datetime
    errors: dict[Source, str] = field(default_factory=dict)

    async def attempt(self, source: Source, reading: Awaitable[T]) -> T | None:
        try:
            return await reading
        except SourceError as exc:
            self.errors[source] = exc.message
            return None

    async def survey(self, reading: BrokerReading | None) -> WorkerSurvey | None:
        # Without the broker nobody can be asked, and nobody has to be told so twice.
        return await self.attempt(Source.WORKERS, self.queue.survey()) if reading is not None else None

    async def snapshot(
        self,
        reading: BrokerReading | None,
        survey: WorkerSurvey | None,
        known: dict[int, Order] | None,
        files: dict[int, SiteFiles] | None,
        *,
        sure_of: set[int] | None,
    ) -> Snapshot:
        """Put the sources together; orphans among ``sure_of`` (None: all) are looked at a second time."""
        tasks = attribute(reading.tasks, survey) if reading is not None else ()
        orphans = [task for task in tasks if task.state is TaskState.ORPHANED]
        if any(sure_of is None or task.order_id in sure_of for task in orphans):
            tasks = await _look_again(self.queue, tasks)
        return Snapshot(
            taken_at=self.taken_at,
            orders=known or {},
            tasks=tasks,
            foreign=reading.foreign if reading is not None else (),
            workers=survey,
            files=files or {},
            errors=self.errors,
            grace=self.grace,
            check_hollow=self.check_hollow,
        )


async def count_sites(
    orders: OrdersStore, sites: SiteStore, order_ids: Collection[int], *, enough: int | None = None
) -> dict[int, SiteFiles]:
    """Count these orders' files. Raises ``SourceError`` where the directory is evidently the wrong one.

    That is one without any site while there are finished orders: a volume that isn't mounted, or another path.
    Every site would look empty.
    """
    files = await sites.count(order_ids, enough=enough)
    all_empty = bool(files) and not any(counted.count for counted in files.values())
    if all_empty and await sites.is_bare() and await orders.has_finished():
        raise SourceError(
            "the sites directory holds no site at all, and there are finished orders",
            hint="is its volume mounted, and SITES_BASE_DIR right? (sitegenctl config show)",
            source=Source.FILES,
        )
    return files


async def _look_again(queue: QueueBackend, tasks: tuple[LiveTask, ...]) -> tuple[LiveTask, ...]:
    """Believe "orphaned" only of tasks that a second look finds orphaned too.

    The first look may have caught a task finishing: its worker had let go of it already.
    """
    await asyncio.sleep(SECOND_LOOK)
    try:
        reading: BrokerReading = await queue.read()
        second = {task.task_id: task for task in attribute(reading.tasks, await queue.survey())}
    except SourceError:
        # Without a second look nothing is known of them but that they are delivered.
        return tuple(
            replace(task, state=TaskState.UNACKED) if task.state is TaskState.ORPHANED else task for task in tasks
        )
    seen: list[LiveTask] = []
    for task in tasks:
        if task.state is not TaskState.ORPHANED:
            seen.append(task)
        elif task.task_id in second:
            seen.append(second[task.task_id])
    return tuple(seen)


async def _nothing() -> None:
    return None


def require(snapshot: Snapshot, *sources: Source) -> None:
    """Raise ``SourceError`` if one of these sources did not answer: nothing may be decided without it."""
    for source in sources:
        if source in snapshot.errors:
            raise SourceError(
                snapshot.errors[source],
                hint="nothing was done: what is live can't be known without it",
                source=source,
            )
