"""Looking again and again: one picture after another for whoever keeps the screen open.

Owns what is remembered from one look to the next: the last whole picture, what changes slowly and is therefore asked
for less often, and the last minutes. What one look is, ``observe`` says; who shows it is not known here.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar, cast

from sitegenctl.domain.diagnosis.condition import Condition, Diagnosis, Source
from sitegenctl.domain.diagnosis.listing import OrderFilter, OrderPage, OrderQuery
from sitegenctl.domain.diagnosis.overview import conditions
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.diagnosis.timeline import TimelineEntry, timeline
from sitegenctl.domain.orders.order import LogRow, Order, OrderStatus
from sitegenctl.domain.orders.run import RunCounts
from sitegenctl.domain.orders.site import SiteFiles, SiteTree
from sitegenctl.domain.plans.fix import fix_obstacle, plan_fix
from sitegenctl.domain.plans.plan import Step
from sitegenctl.domain.ports import OrdersStore, QueueBackend, SiteStore
from sitegenctl.domain.queue.task import LiveTask, TaskDetails, TaskPlace, TaskState
from sitegenctl.domain.queue.worker import WorkerRoster, WorkerSurvey, standstill, survey_of
from sitegenctl.domain.statistics.throughput import WINDOW, Bar, Throughput
from sitegenctl.errors import SourceError
from sitegenctl.operations.listing import list_orders, page_of
from sitegenctl.operations.observe import Attempts, observe_open, utc_now

T = TypeVar("T")

#: Seconds for which what changes slowly is believed: counts of all orders, finished orders, the last hour; and the
#: files of an order that no worker writes.
SLOW = 10.0
_FILES = 3.0

#: Rows of an order's log, and files of its site, that are looked at.
LOG_ROWS = 200
FILES_SHOWN = 200

#: Without these there is no picture: the last one is kept, and gets old.
_ESSENTIAL = (Source.DATABASE, Source.BROKER)

_WAITING = (TaskState.QUEUED, TaskState.RESERVED)


@dataclass(frozen=True, kw_only=True)
class LiveSnapshot:
    """Everything seen in one look.

    ``unanswered`` says of each source why it did not answer; if one of them is essential, all else is as it was in the
    last look that all essential ones answered. ``took`` are the seconds of each source's first answer. ``roster`` is
    what workers told of themselves when they were last asked for so much; ``standstill`` is why nothing is going to be
    generated, if nothing is.
    """

    snapshot: Snapshot
    took: Mapping[Source, float] = field(default_factory=dict)
    unanswered: Mapping[Source, str] = field(default_factory=dict)
    by_status: Mapping[OrderStatus | str | None, int] = field(default_factory=dict)
    by_condition: Mapping[Condition, int] = field(default_factory=dict)
    bars: Sequence[Bar] = ()
    last_hour: RunCounts | None = None
    roster: WorkerRoster | None = None
    standstill: str | None = None

    @property
    def taken_at(self) -> datetime:
        """When it was taken."""
        return self.snapshot.taken_at

    @property
    def is_kept(self) -> bool:
        """Whether it is an older one, kept because an essential source is away."""
        return any(source in self.unanswered for source in _ESSENTIAL)

    @property
    def waiting(self) -> int:
        """How many tasks wait for a process."""
        return sum(task.state in _WAITING for task in self.snapshot.tasks)

    @property
    def running(self) -> int:
        """How many tasks run."""
        return sum(task.state is TaskState.RUNNING for task in self.snapshot.tasks)


@dataclass(frozen=True, kw_only=True)
class OrderDetail:
    """Everything about one order as of ``read_at``; None is what could not be read, or isn't there.

    ``fix`` is what fixes it, and ``fix_obstacle`` why nothing would be changed.
    """

    order_id: int
    read_at: datetime
    order: Order | None
    verdict: Diagnosis
    tasks: Sequence[LiveTask]
    story: Sequence[TimelineEntry]
    log: Sequence[LogRow]
    files: SiteFiles | None
    tree: SiteTree | None
    problem: str | None = None
    fix: Step | None = None
    fix_obstacle: str | None = None


@dataclass(kw_only=True)
class LiveState:
    """One who looks at the same system for a long time; ``clock`` is monotonic, in seconds."""

    orders: OrdersStore
    queue: QueueBackend
    sites: SiteStore
    task_name: str
    queue_name: str
    grace: timedelta
    now: Callable[[], datetime] = utc_now
    clock: Callable[[], float] = time.monotonic
    _last: LiveSnapshot | None = None
    _throughput: Throughput = field(default_factory=Throughput)
    _slow: _Slow = field(init=False)
    _roster: WorkerRoster | None = None
    _roster_at: float = float("-inf")

    def __post_init__(self) -> None:
        self._slow = _Slow(orders=self.orders, clock=self.clock)

    async def look(self, *, ask_all: bool = False) -> LiveSnapshot:
        """Take a picture; with ``ask_all`` workers tell everything of themselves. Nothing is raised for a source."""
        attempts = Attempts()
        # Now and then unasked: a worker that is alive, and consumes another queue, else looks as one that is well.
        ask_all = ask_all or self.clock() - self._roster_at >= SLOW

        async def ask_workers() -> WorkerSurvey:
            self._roster = await self.queue.worker_details()
            self._roster_at = self.clock()
            return survey_of(self._roster, task_name=self.task_name)

        snapshot = await observe_open(
            self.orders,
            self.queue,
            self.sites,
            grace=self.grace,
            ask_workers=ask_workers if ask_all else None,
            attempts=attempts,
            before=self._last.snapshot.tasks if self._last is not None else (),
            recall=self._slow.known,
            now=self.now,
        )
        slow = self._slow
        counts = await attempts.make(Source.DATABASE, lambda: slow.counts(snapshot))
        last_hour = await attempts.make(Source.DATABASE, slow.last_hour)
        # Whatever is written is written of an open order, and a run that ends leaves these.
        logged = frozenset((order.order_id, order.last_log_id) for order in snapshot.orders.values())
        marks = await attempts.make(
            Source.DATABASE,
            lambda: slow.known(
                ("steps", logged), lambda: self.orders.recent_steps(WINDOW, after_id=self._throughput.newest)
            ),
        )
        unanswered = {**attempts.errors, **snapshot.unanswered}
        if self._last is not None and any(source in unanswered for source in _ESSENTIAL):
            self._last = replace(self._last, took=attempts.took, unanswered=unanswered)
            return self._last
        now = self.now()
        picture = LiveSnapshot(
            snapshot=snapshot,
            took=attempts.took,
            unanswered=unanswered,
            by_status=counts or {},
            by_condition=_counted(snapshot, counts) if counts is not None else {},
            last_hour=last_hour,
            roster=self._roster,
            standstill=standstill(snapshot.workers, self._roster, queue=self.queue_name) if snapshot.workers else None,
        )
        self._throughput.note_steps(marks or (), now)
        if Source.BROKER not in unanswered:
            self._throughput.note_depth(picture.waiting, now)
        self._last = replace(picture, bars=self._throughput.bars(now))
        return self._last

    async def page(self, picture: LiveSnapshot, query: OrderQuery) -> OrderPage:
        """The orders that the query takes. Raises ``SourceError`` where the database is asked and doesn't answer."""
        if Condition.HOLLOW in query.conditions:
            page, _ = await list_orders(self.orders, self.queue, self.sites, query, grace=self.grace)
            return page
        return await page_of(self._slow, self.sites, query, picture.snapshot)

    async def detail(self, picture: LiveSnapshot, order_id: int) -> OrderDetail:
        """Everything about one order. Nothing is raised for a source: ``problem`` says what is missing."""
        snapshot = picture.snapshot
        # A directory that hung in the look itself is not waited for a second time.
        attempts = Attempts()
        if (hung := picture.unanswered.get(Source.FILES)) is not None:
            attempts.errors[Source.FILES] = hung
        order = snapshot.orders.get(order_id)
        # Files that nobody writes are looked at less often: each look is a thread's work.
        is_written = any(task.state is TaskState.RUNNING for task in snapshot.tasks_of(order_id))
        patience = 0.0 if is_written else _FILES
        written = ("log", order_id, order.last_log_id if order is not None else None)
        known, log, seen_files = await asyncio.gather(
            attempts.make(Source.DATABASE, lambda: self.orders.read_orders([order_id] if order is None else [])),
            attempts.make(Source.DATABASE, lambda: self._slow.known(written, lambda: self._log(order_id))),
            attempts.make(
                Source.FILES,
                lambda: self._slow.known(("files", order_id), lambda: self._look_into(order_id), patience=patience),
            ),
        )
        files, tree, unread = seen_files or (None, None, None)
        order = order or (known or {}).get(order_id)
        seen = replace(
            snapshot,
            orders={order_id: order} if order is not None else {},
            files=files or {},
            errors={**snapshot.errors, **attempts.errors},
            check_hollow=True,
        )
        tasks = seen.tasks_of(order_id)
        # The id of a new task is chosen only when the fix is planned.
        fixed = plan_fix(seen, [order_id], new_task_id=lambda: "new")
        # Its rows' ages are as of when they were read.
        rows, read_at = log or ((), self.now())
        return OrderDetail(
            order_id=order_id,
            read_at=read_at,
            order=order,
            verdict=seen.diagnose(order_id),
            tasks=tasks,
            story=timeline(rows, [_times(task) for task in tasks], now=read_at),
            log=rows,
            files=(files or {}).get(order_id),
            tree=tree,
            problem="; ".join(filter(None, (*attempts.errors.values(), unread))) or None,
            fix=next(iter(fixed.steps), None),
            fix_obstacle=fix_obstacle(seen, [order_id]),
        )

    async def _log(self, order_id: int) -> tuple[Sequence[LogRow], datetime]:
        rows = await self.orders.read_log([order_id], last=LOG_ROWS)
        return rows, self.now()

    async def _look_into(self, order_id: int) -> tuple[Mapping[int, SiteFiles], SiteTree | None, str | None]:
        """Its files, and as a tree; why not, where its folder can't be read."""
        files = await self.sites.count([order_id])
        try:
            return files, await self.sites.tree(order_id, limit=FILES_SHOWN), None
        except SourceError as exc:
            return files, None, exc.message


@dataclass(kw_only=True)
class _Slow:
    """What changes slowly, and costs the database more the longer it has been in use."""

    orders: OrdersStore
    clock: Callable[[], float]
    _answers: dict[Hashable, tuple[float, object]] = field(default_factory=dict)

    async def counts(self, snapshot: Snapshot) -> Mapping[OrderStatus | str | None, int]:
        """Orders by status; counted anew as soon as one of the open ones has moved."""
        seen = frozenset(Counter(order.label for order in snapshot.orders.values()).items())
        return await self.known(("counts", seen), self.orders.count_by_status)

    async def last_hour(self) -> RunCounts:
        return await self.known("last hour", lambda: self.orders.count_runs(timedelta(hours=1)))

    async def read_settled(self, query: OrderQuery, *, excluding: Collection[int]) -> list[Order]:
        key = ("settled", query, frozenset(excluding))
        return await self.known(key, lambda: self.orders.read_settled(query, excluding=excluding))

    async def count_settled(self, only: OrderFilter, *, excluding: Collection[int]) -> int:
        key = ("number", only, frozenset(excluding))
        return await self.known(key, lambda: self.orders.count_settled(only, excluding=excluding))

    async def known(self, key: Hashable, ask: Callable[[], Awaitable[T]], *, patience: float = SLOW) -> T:
        """The answer that there is, if it is younger than ``patience`` seconds; else one that is asked for now."""
        now = self.clock()
        asked_at, answer = self._answers.get(key, (float("-inf"), None))
        if now - asked_at >= patience:
            answer = await ask()
            self._answers = {known: kept for known, kept in self._answers.items() if now - kept[0] < SLOW}
            self._answers[key] = (now, answer)
        return cast("T", answer)


def _counted(snapshot: Snapshot, by_status: Mapping[OrderStatus | str | None, int]) -> dict[Condition, int]:
    found = conditions(snapshot, by_status)
    return {condition: each if isinstance(each, int) else len(each) for condition, each in found.items()}


def _times(task: LiveTask) -> TaskDetails:
    return TaskDetails(
        task_id=task.task_id,
        place=TaskPlace.QUEUE if task.worker is None else TaskPlace.WORKER,
        worker=task.worker,
        attempt=task.attempt,
        enqueued_at=task.enqueued_at,
        eta=task.eta,
        actor=task.actor,
    )
