"""State of a view that polls the same system: the last snapshot, slowly changing answers, and recent throughput."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar, cast

from sitegenctl.domain.diagnosis.condition import Condition, Diagnosis, Source
from sitegenctl.domain.diagnosis.forecast import Forecast
from sitegenctl.domain.diagnosis.listing import OrderFilter, OrderPage, OrderQuery
from sitegenctl.domain.diagnosis.overview import conditions
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.diagnosis.timeline import COUNTED_ROWS, TimelineEntry, newest_rows, timeline
from sitegenctl.domain.orders.order import LogRow, Order, OrderStatus
from sitegenctl.domain.orders.promise import Promise, PromiseCounts
from sitegenctl.domain.orders.run import RunCounts
from sitegenctl.domain.orders.site import SiteFiles, SiteTree
from sitegenctl.domain.plans.fix import fix_obstacle, plan_fix
from sitegenctl.domain.plans.plan import Step
from sitegenctl.domain.ports import OrdersStore, Sources
from sitegenctl.domain.queue.task import LiveTask, TaskDetails, TaskPlace, TaskState
from sitegenctl.domain.queue.worker import WorkerRoster, standstill
from sitegenctl.domain.statistics.throughput import WINDOW, Bar, Throughput
from sitegenctl.errors import SourceError
from sitegenctl.operations.forecast import with_forecast
from sitegenctl.operations.listing import list_orders, page_of
from sitegenctl.operations.observe import Attempts, observe_open, utc_now
from sitegenctl.operations.overview import HOUR, count_runs

T = TypeVar("T")

#: Seconds until these are read again: counts of all orders, finished orders and the last hour; the files of a site
#: that no worker writes.
SLOW = 10.0
_FILES_MAX_AGE = 3.0

#: Rows of an order's log and files of its site to read.
LOG_ROWS = 200
MAX_FILES = 200

#: Without these sources there is no new snapshot.
_ESSENTIAL = (Source.DATABASE, Source.BROKER)


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveSnapshot:
    """Everything read by one poll."""

    snapshot: Snapshot
    latency: Mapping[Source, float] = field(default_factory=dict)  # in seconds
    errors: Mapping[Source, str] = field(default_factory=dict)  # of an essential source: the rest is older
    by_status: Mapping[OrderStatus | str | None, int] = field(default_factory=dict)
    by_condition: Mapping[Condition, int] = field(default_factory=dict)
    promises: PromiseCounts | None = None
    bars: Sequence[Bar] = ()
    last_hour: RunCounts | None = None
    roster: WorkerRoster | None = None
    standstill: str | None = None  # why no order will be generated

    @property
    def taken_at(self) -> datetime:
        """Time of the poll that read the orders."""
        return self.snapshot.taken_at

    @property
    def is_stale(self) -> bool:
        """Whether the orders are from an earlier poll."""
        return any(source in self.errors for source in _ESSENTIAL)

    def count(self, *states: TaskState) -> int:
        """Number of tasks in these states."""
        return sum(task.state in states for task in self.snapshot.tasks)


@dataclass(frozen=True, kw_only=True)
class OrderDetail:
    """Everything about one order. None is what could not be read or does not exist."""

    order_id: int
    read_at: datetime
    order: Order | None
    verdict: Diagnosis
    tasks: Sequence[LiveTask]
    story: Sequence[TimelineEntry]
    files: SiteFiles | None
    tree: SiteTree | None
    forecast: Forecast | None = None
    promise: Promise | None = None
    rows_left_out: int = 0  # of the log, earlier than those of the story
    problem: str | None = None
    fix: Step | None = None  # the step that a fix would execute
    fix_obstacle: str | None = None  # why a fix would change nothing
    clock_offset: timedelta = timedelta()  # how far the broker's clock is ahead of this machine's


class LiveState:
    """Polls ``sources``; ``clock`` is monotonic, in seconds."""

    def __init__(
        self, sources: Sources, *, now: Callable[[], datetime] = utc_now, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sources = sources
        self._now = now
        self._clock = clock
        self._last: LiveSnapshot | None = None
        self._throughput = Throughput()
        self._cache = _Cache(orders=sources.orders, clock=clock)
        self._last_ids: dict[int, str] = {}
        self._roster: WorkerRoster | None = None
        self._roster_read_at = float("-inf")

    async def poll(self, *, worker_details: bool = False) -> LiveSnapshot:
        """Read all sources; errors are part of the result. Worker details are also read every ``SLOW`` seconds."""
        sources, cache, last = self._sources, self._cache, self._last
        before = last.snapshot.tasks if last is not None else ()
        attempts = Attempts(before=before, recall=cache.get, last_ids=self._last_ids, now=self._now)
        # Without its details, a worker that consumes another queue would look healthy.
        needs_details = worker_details or self._clock() - self._roster_read_at >= SLOW
        snapshot = await observe_open(sources, check_recent=True, worker_details=needs_details, attempts=attempts)
        for order_id in self._last_ids.keys() - snapshot.orders.keys():
            del self._last_ids[order_id]
        if snapshot.roster is not None:
            self._roster, self._roster_read_at = snapshot.roster, self._clock()
        by_status = await attempts.make(Source.DATABASE, lambda: cache.counts(snapshot))
        promises = await attempts.make(
            Source.DATABASE,
            lambda: cache.get("promises", lambda: sources.orders.count_promises(sources.due_soon)),
        )
        counts = await attempts.make(
            Source.DATABASE,
            lambda: cache.get("last hour", lambda: count_runs(sources.orders, HOUR, known=snapshot.orders)),
        )
        # Any new log row belongs to an open order, or closes one.
        logs = frozenset((order.order_id, order.last_log_id) for order in snapshot.orders.values())
        steps = await attempts.make(
            Source.DATABASE,
            lambda: cache.get(
                ("steps", logs), lambda: sources.orders.recent_steps(WINDOW, after_id=self._throughput.newest)
            ),
        )
        errors = {**attempts.errors, **snapshot.unanswered}
        if last is not None and any(source in errors for source in _ESSENTIAL):
            self._last = replace(last, latency=attempts.took, errors=errors)
            return self._last
        live = LiveSnapshot(
            snapshot=snapshot,
            latency=attempts.took,
            errors=errors,
            by_status=by_status or {},
            by_condition={
                condition: orders if isinstance(orders, int) else len(orders)
                for condition, orders in conditions(snapshot, by_status).items()
            }
            if by_status is not None
            else {},
            last_hour=counts[0] if counts else None,
            roster=self._roster,
            standstill=standstill(snapshot.workers, self._roster, queue=sources.queue_name)
            if snapshot.workers
            else None,
        )
        snapshot = await with_forecast(sources, snapshot, attempts, roster=self._roster)
        live = replace(live, snapshot=snapshot, promises=snapshot.with_expected(promises))
        now = self._now()
        self._throughput.note_rows(steps or (), now)
        if Source.BROKER not in errors:
            self._throughput.note_depth(live.count(TaskState.QUEUED, TaskState.RESERVED), now)
        self._last = replace(live, bars=self._throughput.bars(now))
        return self._last

    async def page(self, live: LiveSnapshot, query: OrderQuery) -> OrderPage:
        """The orders of a query. Raises ``SourceError`` if the database is needed and does not respond."""
        sources = self._sources
        if query.includes_on_request:
            page, _ = await list_orders(sources, query)
            return page
        return await page_of(self._cache, sources.sites, query, live.snapshot)

    async def detail(self, live: LiveSnapshot, order_id: int) -> OrderDetail:
        """Everything about one order; ``problem`` in it says what could not be read."""
        orders, cache = self._sources.orders, self._cache
        attempts = Attempts()
        if Source.FILES in live.errors:
            # Do not wait a second time for a directory that hangs.
            attempts.errors[Source.FILES] = live.errors[Source.FILES]
        order = live.snapshot.orders.get(order_id)
        is_written = any(task.state is TaskState.RUNNING for task in live.snapshot.tasks_of(order_id))
        log_key = ("log", order_id, order.last_log_id if order is not None else None)
        others, log, site = await asyncio.gather(
            attempts.make(Source.DATABASE, lambda: orders.read_orders([order_id] if order is None else [])),
            attempts.make(Source.DATABASE, lambda: cache.get(log_key, lambda: self._log(order_id))),
            attempts.make(
                Source.FILES,
                lambda: cache.get(
                    ("files", order_id),
                    lambda: self._site(order_id),
                    max_age=0.0 if is_written else _FILES_MAX_AGE,
                ),
            ),
        )
        files, tree, tree_error = site or (None, None, None)
        order = order or (others or {}).get(order_id)
        snapshot = replace(
            live.snapshot,
            orders={order_id: order} if order is not None else {},
            files=files or {},
            errors={**live.snapshot.errors, **attempts.errors},
            check_hollow=True,
        )
        tasks = snapshot.tasks_of(order_id)
        # The plan is made again when the user asks for the fix; only then does a task id matter.
        fix = plan_fix(snapshot, [order_id], new_task_id=lambda: "new")
        every_row, read_at = log or ((), self._now())
        rows = newest_rows(every_row, LOG_ROWS)
        return OrderDetail(
            order_id=order_id,
            read_at=read_at,
            order=order,
            verdict=snapshot.diagnose(order_id),
            tasks=tasks,
            forecast=snapshot.forecast,
            promise=snapshot.promise_of(order),
            story=timeline(rows, [_task_details(task) for task in tasks], now=read_at + snapshot.clock_offset),
            files=(files or {}).get(order_id),
            tree=tree,
            rows_left_out=len(every_row) - len(rows),
            problem="; ".join(filter(None, (*attempts.errors.values(), tree_error))) or None,
            fix=next(iter(fix.steps), None),
            fix_obstacle=fix_obstacle(snapshot, [order_id]),
            clock_offset=snapshot.clock_offset,
        )

    async def _log(self, order_id: int) -> tuple[Sequence[LogRow], datetime]:
        """Log rows, and when they were read: their ages are as of then."""
        rows = await self._sources.orders.read_log([order_id], last=COUNTED_ROWS)
        return rows, self._now()

    async def _site(self, order_id: int) -> tuple[Mapping[int, SiteFiles], SiteTree | None, str | None]:
        """Number of files, their tree, and the error if the folder cannot be read."""
        files = await self._sources.sites.count([order_id])
        try:
            return files, await self._sources.sites.tree(order_id, limit=MAX_FILES), None
        except SourceError as exc:
            return files, None, exc.message


@dataclass(kw_only=True)
class _Cache:
    """Answers that change slowly, and whose queries get slower with the number of orders ever delivered."""

    orders: OrdersStore
    clock: Callable[[], float]
    _answers: dict[Hashable, tuple[float, object]] = field(default_factory=dict)

    async def get(self, key: Hashable, ask: Callable[[], Awaitable[T]], *, max_age: float = SLOW) -> T:
        """The answer stored under ``key``, if it is younger than ``max_age`` seconds; otherwise a new one."""
        now = self.clock()
        asked_at, answer = self._answers.get(key, (float("-inf"), None))
        if now - asked_at >= max_age:
            answer = await ask()
            self._answers = {other: entry for other, entry in self._answers.items() if now - entry[0] < SLOW}
            self._answers[key] = (now, answer)
        return cast("T", answer)

    async def counts(self, snapshot: Snapshot) -> Mapping[OrderStatus | str | None, int]:
        """Orders by status; counted again when an open order changed its status."""
        open_counts = frozenset(Counter(order.label for order in snapshot.orders.values()).items())
        return await self.get(("counts", open_counts), self.orders.count_by_status)

    async def read_settled(self, query: OrderQuery, *, excluding: Collection[int]) -> list[Order]:
        key = ("settled", query, frozenset(excluding))
        return await self.get(key, lambda: self.orders.read_settled(query, excluding=excluding))

    async def count_settled(self, only: OrderFilter, *, excluding: Collection[int]) -> int:
        key = ("number", only, frozenset(excluding))
        return await self.get(key, lambda: self.orders.count_settled(only, excluding=excluding))


def _task_details(task: LiveTask) -> TaskDetails:
    return TaskDetails(
        task_id=task.task_id,
        place=TaskPlace.QUEUE if task.worker is None else TaskPlace.WORKER,
        worker=task.worker,
        attempt=task.attempt,
        enqueued_at=task.enqueued_at,
        eta=task.eta,
        actor=task.actor,
    )
