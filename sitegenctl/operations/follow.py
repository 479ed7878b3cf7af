"""Follow the generation logs of orders, until their runs have ended."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from sitegenctl.domain.diagnosis.liveness import Liveness, attribute
from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.orders.log import LOOK_BACK, Cursor, LogQuery
from sitegenctl.domain.orders.order import LogRow, Order, OrderStatus
from sitegenctl.domain.orders.run import ENQUEUES, OUTCOME_STEPS, STARTS, RunOutcome
from sitegenctl.domain.plans.plan import OperationResult, OutcomeKind
from sitegenctl.domain.ports import OrdersStore, Sources
from sitegenctl.domain.queue.defaults import MAX_ORDER_ID
from sitegenctl.domain.queue.task import LiveTask, TaskState
from sitegenctl.errors import SourceError
from sitegenctl.operations.observe import CONFIRM_DELAY, utc_now

#: Poll intervals in seconds: of the log while it grows and while it is quiet, and of the queue.
_LOG_INTERVAL = 0.2
_QUIET_INTERVAL = 1.0
_QUEUE_INTERVAL = 1.0

#: Seconds without a row after which the log is quiet, and the workers are asked.
_QUIET = 5.0

# The steps that begin a run, or after which the run before no longer counts.
_BEGINNINGS = STARTS | ENQUEUES

_KINDS: Mapping[RunOutcome | None, OutcomeKind] = {
    RunOutcome.SUCCESS: OutcomeKind.DONE,
    RunOutcome.SKIP: OutcomeKind.SKIPPED,
}

_GONE = "its task no longer exists, and its log has no outcome"
_ORPHANED = "its task is orphaned: its worker no longer exists"

Clock = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Followed:
    """A followed order."""

    task_id: str | None  # whose end is that of the run; None: the last task of the order
    after_log_id: int  # of the newest known log row
    outcome: RunOutcome | None = None  # of the last run up to there
    message: str = ""  # of the last run up to there


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The end of an order's run."""

    order_id: int
    outcome: RunOutcome | None  # ERROR: no retry is left; None: its task is gone or lost, without an outcome in the log
    message: str  # of the row that decided it
    hint: Hint | None = None


@dataclass(frozen=True, kw_only=True)
class Notice:
    """News about the sources: one became unreachable and is tried again, ``is_regained``, or sends nothing."""

    message: str
    is_regained: bool = False


REGAINED = Notice(message="connected again", is_regained=True)


def back_off() -> Iterator[float]:
    """Seconds to wait before each attempt."""
    delay = 0.1
    while True:
        yield delay
        delay = min(delay * 2, 10.0)


def followed(result: OperationResult) -> dict[int, Followed]:
    """The orders of a result that have a task."""
    return {
        outcome.order_id: Followed(task_id=outcome.task_id, after_log_id=outcome.log_id)
        for outcome in result.outcomes
        if outcome.task_id is not None
    }


def follow_result(result: OperationResult, endings: Mapping[int, Ended]) -> OperationResult:
    """The result with the end of each followed order as its outcome."""
    outcomes = list(result.outcomes)
    for index, outcome in enumerate(outcomes):
        if (ended := endings.get(outcome.order_id)) is None:
            continue
        after = OrderStatus.REVIEW if ended.outcome is RunOutcome.SUCCESS else None
        kind = _KINDS.get(ended.outcome, OutcomeKind.FAILED)
        hint = ended.hint or outcome.hint
        outcomes[index] = replace(outcome, outcome=kind, reason=ended.message, hint=hint, after=after)
    return replace(result, outcomes=outcomes, interrupted=len(endings) < len(followed(result)))


async def tail(
    orders: OrdersStore,
    order_ids: Collection[int],
    cursor: Cursor,
    *,
    patient: bool,
    clock: Clock = time.monotonic,
) -> AsyncIterator[list[LogRow] | Notice]:
    """Poll the logs of these orders without end; yields the new rows each time, also none.

    ``order_ids`` may shrink meanwhile. When the database becomes unreachable, ``patient`` waits for it, without losing
    or repeating a row; otherwise ``SourceError`` is raised.
    """
    delays: Iterator[float] | None = None
    last_row = clock()
    while True:
        try:
            rows = await orders.read_log(list(order_ids), after_id=cursor.after_id)
        except SourceError as exc:
            if not patient:
                raise
            if delays is None:
                delays = back_off()
                yield Notice(message=exc.message)
            await asyncio.sleep(next(delays))
            continue
        if delays is not None:
            delays = None
            yield REGAINED
        new = cursor.fresh(rows, now=clock())
        if new:
            last_row = clock()
        yield new
        await asyncio.sleep(_LOG_INTERVAL if clock() - last_row < _QUIET else _QUIET_INTERVAL)


async def follow(
    sources: Sources,
    followed: Mapping[int, Followed],
    *,
    cursor: Cursor | None = None,
    patient: bool = False,
    clock: Clock = time.monotonic,
) -> AsyncIterator[LogRow | Ended | Notice]:
    """Yield the log rows of these orders as they are written, and an ``Ended`` for each at its end.

    SUCCESS and SKIP end a run at once. After an ERROR the queue decides: a task that is still live will be retried. A
    run whose task is gone has ended, too. ``patient`` waits for an unreachable source instead of raising
    ``SourceError``.
    """
    if cursor is None:
        cursor = Cursor({order_id: item.after_log_id for order_id, item in followed.items()}, now=clock())
    runs = _Runs(sources, followed, patient=patient, clock=clock)
    async for rows in tail(sources.orders, runs.open, cursor, patient=patient, clock=clock):
        if not isinstance(rows, list):
            yield rows
            continue
        for row in rows:
            if row.order_id in runs.open:
                yield row
                if ended := runs.read(row):
                    yield ended
        if rows:
            runs.last_row = clock()
        if any(row.step == RunOutcome.ERROR for row in rows):
            runs.next_poll = clock()  # the queue shows whether it will be retried
        async for change in runs.poll():
            yield change
        if not runs.open:
            return


class _Runs:
    """The runs that have not ended, with what the log and the queue show about each."""

    def __init__(self, sources: Sources, followed: Mapping[int, Followed], *, patient: bool, clock: Clock) -> None:
        self._sources = sources
        self._patient = patient
        self._clock = clock
        self.open = dict(followed)
        self.last_row = self.next_poll = clock()
        self._gone: set[int] = set()
        self._orphaned: set[int] = set()
        self._lost = self._warned = False

    def read(self, row: LogRow) -> Ended | None:
        """Read a row; SUCCESS and SKIP end the run."""
        item = self.open[row.order_id]
        outcome = RunOutcome(row.step) if row.step in OUTCOME_STEPS else None
        if outcome in (RunOutcome.SUCCESS, RunOutcome.SKIP):
            del self.open[row.order_id]
            return Ended(order_id=row.order_id, outcome=outcome, message=row.message)
        if outcome is not None:
            self.open[row.order_id] = replace(item, outcome=outcome, message=row.message)
        elif row.step in _BEGINNINGS:
            self.open[row.order_id] = replace(item, outcome=None, message="")
        return None

    async def poll(self) -> AsyncIterator[Ended | Notice]:
        """Read the queue if the interval is over."""
        if not self.open or self._clock() < self.next_poll:
            return
        changes: list[Ended | Notice] = []
        try:
            await self._read_queue(changes)
        except SourceError as exc:
            if not self._patient:
                raise
            self.next_poll = self._clock() + _QUEUE_INTERVAL
            if not self._lost:
                self._lost = True
                changes.append(Notice(message=exc.message))
        else:
            if self._lost:
                self._lost = False
                yield REGAINED
        for change in changes:
            yield change

    async def _read_queue(self, changes: list[Ended | Notice]) -> None:
        """Find tasks that are gone and, while the log is quiet, orphaned ones, or that no worker responds."""
        reading = await self._sources.queue.read()
        gone = self.open.keys() - self._with_task(reading.tasks)
        # Twice in a row: on its way from the queue to a worker, a task is in neither for a moment.
        changes += [self._end(order_id, _GONE) for order_id in sorted(gone & self._gone)]
        self._gone = gone
        if self.open and self._clock() - self.last_row >= _QUIET:
            survey = await self._sources.queue.survey()
            liveness = Liveness(reading=reading, survey=survey, now=utc_now())
            tasks = attribute(reading.tasks, survey)
            unaccounted = {task.order_id for task in tasks if task.is_unaccounted and task.order_id is not None}
            held = liveness.decide(tasks, await self._sources.orders.read_orders(unaccounted) if unaccounted else {})
            orphaned = self._with_task([task for task in held if task.state is TaskState.ORPHANED])
            changes += [self._end(order_id, _ORPHANED) for order_id in sorted(orphaned & self._orphaned)]
            self._orphaned = orphaned
            if self.open and not (self._warned or survey.anyone_alive or orphaned):
                self._warned = True
                changes.append(Notice(message="no worker responds: the task waits until one does"))
        doubtful = (self._gone | self._orphaned) & self.open.keys()
        self.next_poll = self._clock() + (CONFIRM_DELAY if doubtful else _QUEUE_INTERVAL)

    def _with_task(self, tasks: Collection[LiveTask]) -> set[int]:
        """The orders whose task is among these."""
        ids = {task.task_id for task in tasks}
        orders = {task.order_id for task in tasks}
        return {
            order_id
            for order_id, item in self.open.items()
            if (order_id in orders if item.task_id is None else item.task_id in ids)
        }

    def _end(self, order_id: int, reason: str) -> Ended:
        """End a run whose task is gone, by its last outcome; ``reason`` is for one without any."""
        item = self.open.pop(order_id)
        if item.outcome is not None:
            return Ended(order_id=order_id, outcome=item.outcome, message=item.message)
        return Ended(order_id=order_id, outcome=None, message=reason, hint=Remedy.run(Command.INSPECT, order_id))


#: Rows read in one query.
PAGE = 5000


async def find(orders: OrdersStore, order_ids: Sequence[int]) -> tuple[list[int], list[int]]:
    """Split orders into existing and missing ones."""
    existing = await orders.existing(order_ids)
    return [i for i in order_ids if i in existing], [i for i in order_ids if i not in existing]


async def read(orders: OrdersStore, order_ids: Sequence[int], query: LogQuery) -> AsyncIterator[LogRow]:
    """Yield the rows of a query, of all these orders, in the order of their ids."""
    levels = query.level.and_worse
    if query.last is not None:
        for row in await orders.read_log(order_ids, last=query.last, since=query.since, levels=levels):
            yield row
        return
    after = 0
    while True:
        page = await orders.read_log(order_ids, after_id=after, since=query.since, levels=levels, limit=PAGE)
        for row in page:
            yield row
        if len(page) < PAGE:
            return
        after = page[-1].log_id


#: The newest rows of all orders are looked for within this time.
_LOOKED_THROUGH = timedelta(days=7)


async def read_newest(orders: OrdersStore, query: LogQuery, *, limit: int) -> tuple[list[LogRow], int]:
    """The newest rows of all orders, at most ``limit``, and the newest id of the log."""
    window = await orders.log_window(query.since or _LOOKED_THROUGH, lead=timedelta(0))
    levels = query.level.and_worse
    rows = await orders.read_all_logs(window.first_id, window.last_id, limit=limit, newest=True, levels=levels)
    return rows, window.last_id


async def tail_all(orders: OrdersStore, *, after: int) -> AsyncIterator[list[LogRow] | Notice]:
    """Poll the log of all orders without end; yields the rows written after the row with this id, also none.

    A lost connection is taken up again, and no row is lost or repeated.
    """
    seen = await orders.read_all_logs(max(after - LOOK_BACK, 0), after, limit=LOOK_BACK + 1)
    cursor = Cursor({}, seen=[row.log_id for row in seen], floor=max(after - LOOK_BACK, 0), now=time.monotonic())
    delays: Iterator[float] | None = None
    while True:
        try:
            rows = await orders.read_all_logs(cursor.after_id + 1, MAX_ORDER_ID, limit=PAGE * 10)
        except SourceError as exc:
            if delays is None:
                delays = back_off()
                yield Notice(message=exc.message)
            await asyncio.sleep(next(delays))
            continue
        if delays is not None:
            delays = None
            yield REGAINED
        yield cursor.fresh(rows, now=time.monotonic())
        await asyncio.sleep(_QUIET_INTERVAL)


async def read_and_follow(
    sources: Sources,
    order_ids: Sequence[int],
    query: LogQuery,
    *,
    until_done: bool = False,
    clock: Clock = time.monotonic,
) -> AsyncIterator[LogRow | Ended | Notice]:
    """Yield the rows of ``read``, then new rows of the query's level as they are written.

    This goes on for ever, or with ``until_done`` until every order's run has ended, with an ``Ended`` each; an order
    without a live task has ended already. Raises ``SourceError`` only until the existing rows are read.
    """
    orders = sources.orders
    if until_done:
        # Only the queue shows the end of a run: fail at once where it is unreachable.
        await sources.queue.read()
    # Read before the rows, so that rows written in between are followed.
    newest = {row.order_id: row.log_id for row in await orders.read_log(order_ids, last=1)}
    first: dict[int, int] = {}
    recent: deque[int] = deque(maxlen=LOOK_BACK)
    async for row in read(orders, order_ids, query):
        first.setdefault(row.order_id, row.log_id - 1)
        recent.append(row.log_id)
        yield row
    cursor = Cursor(
        {order_id: first.get(order_id, newest.get(order_id, 0)) for order_id in order_ids},
        seen=recent,
        floor=max([*newest.values(), *recent], default=0) - LOOK_BACK,
        now=clock(),
    )
    if not until_done:
        async for rows in tail(orders, order_ids, cursor, patient=True, clock=clock):
            if not isinstance(rows, list):
                yield rows
                continue
            for row in rows:
                if query.level.includes(row.status):
                    yield row
        return
    # Read after the rows, which are not followed again.
    known = await orders.read_orders(order_ids)
    runs = {order_id: _followed(known[order_id]) for order_id in order_ids if order_id in known}
    async for event in follow(sources, runs, cursor=cursor, patient=True, clock=clock):
        if not isinstance(event, LogRow) or query.level.includes(event.status):
            yield event


def exit_code(endings: Mapping[int, Ended], missing: Sequence[int]) -> int:
    """1 when a run failed or its task is gone, 4 when an order is missing and none failed, else 0."""
    if any(ended.outcome in (RunOutcome.ERROR, None) for ended in endings.values()):
        return 1
    return 4 if missing else 0


def _followed(order: Order) -> Followed:
    run = order.history.last_run
    outcome = run.outcome if run is not None else None
    message = f"its last run ended in {outcome}" if outcome else ""
    if outcome is RunOutcome.ERROR and order.last_error:
        message = order.last_error
    return Followed(task_id=None, after_log_id=order.last_log_id, outcome=outcome, message=message)
