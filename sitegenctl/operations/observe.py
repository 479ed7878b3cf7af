"""Looking: one snapshot of database, broker, workers and files. Reading never writes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from sitegenctl.domain.condition import DEFAULT_GRACE, Source
from sitegenctl.domain.ports import OrdersStore, QueueBackend, SiteStore
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
    errors: dict[Source, str] = {}

    async def attempt(source: Source, reading: Awaitable[T]) -> T | None:
        try:
            return await reading
        except SourceError as exc:
            errors[source] = exc.message
            return None

    taken_at = now()
    reading = await attempt(Source.BROKER, queue.read())
    survey, known, files = await asyncio.gather(
        attempt(Source.WORKERS, queue.survey()) if reading is not None else _nothing(),
        attempt(Source.DATABASE, orders.read_orders(order_ids)),
        attempt(Source.FILES, sites.count(order_ids)) if sites is not None else _nothing(),
    )
    tasks = attribute(reading.tasks, survey) if reading is not None else ()
    asked_for = set(order_ids)
    if any(task.state is TaskState.ORPHANED and task.order_id in asked_for for task in tasks):
        tasks = await _look_again(queue, tasks, survey)
    return Snapshot(
        taken_at=taken_at,
        orders=known or {},
        tasks=tasks,
        foreign=reading.foreign if reading is not None else (),
        workers=survey,
        files=files or {},
        errors=errors,
        grace=grace,
        check_hollow=check_hollow,
    )


async def _look_again(
    queue: QueueBackend, tasks: tuple[LiveTask, ...], survey: WorkerSurvey | None
) -> tuple[LiveTask, ...]:
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
