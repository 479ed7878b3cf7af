"""Following the generation logs of orders as they grow, and until their runs have ended.

Owns the polling, what becomes of it when a source goes away meanwhile, and what ends a run. What is read
before the following begins is ``logs.py``'s; which rows are new, ``domain/log.py``'s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from sitegenctl.domain.diagnosis.liveness import Liveness, attribute
from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.orders.log import Cursor
from sitegenctl.domain.orders.order import LogRow, OrderStatus
from sitegenctl.domain.orders.run import OPERATOR_ENQUEUE, OPERATOR_RESET, OUTCOME_STEPS, RunOutcome
from sitegenctl.domain.plans.result import OperationResult, Outcome, OutcomeKind
from sitegenctl.domain.ports import OrdersStore, QueueBackend
from sitegenctl.domain.queue.task import BrokerReading, LiveTask, TaskState
from sitegenctl.errors import SourceError
from sitegenctl.operations.observe import SECOND_LOOK, utc_now

#: Seconds between two looks at the log, while it grows and when it has been quiet for so long.
_LOG_INTERVAL = 0.2
_QUIET_INTERVAL = 1.0

#: Seconds between two looks at the queue.
_QUEUE_INTERVAL = 1.0

#: Seconds without a row after which it is worth asking whether anybody is there to work.
_QUIET = 5.0

# The rows with which a run begins, or after which the one before no longer counts.
_BEGINNINGS = frozenset({"START", "RESUME", OPERATOR_ENQUEUE, OPERATOR_RESET})

_GONE = "its task is gone, and its log has no outcome"
_ORPHANED = "its task is orphaned: the worker that had it is gone"

Clock = Callable[[], float]


class Ending(StrEnum):
    """How following an order ended."""

    SUCCESS = "SUCCESS"
    SKIP = "SKIP"
    ERROR = "ERROR"  # with no retry left
    GONE = "GONE"  # its task is finished or lost, and no outcome was logged


@dataclass(frozen=True, kw_only=True)
class Followed:
    """An order that is being followed.

    ``task_id`` is the task whose end is the order's, None when any task of the order keeps it going.
    ``after_log_id`` is the id of the newest log row already known; ``outcome`` and ``message`` are what the
    log up to there says of the last run.
    """

    task_id: str | None
    after_log_id: int
    outcome: RunOutcome | None = None
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The end of one order's run; ``message`` is that of the row which decided it."""

    order_id: int
    ending: Ending
    message: str
    hint: Hint | None = None

    @property
    def failed(self) -> bool:
        """Whether there is no site to show for it."""
        return self.ending in (Ending.ERROR, Ending.GONE)


@dataclass(frozen=True, kw_only=True)
class Quiet:
    """Nothing moves, and no worker is alive to move it."""

    message: str


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A source went away; it is tried again until it is back."""

    message: str


@dataclass(frozen=True, kw_only=True)
class Regained:
    """The source that went away is back."""

    message: str = "connected again"


def back_off() -> Iterator[float]:
    """Seconds to wait before each new attempt."""
    delay = 0.1
    while True:
        yield delay
        delay = min(delay * 2, 10.0)


def followed(result: OperationResult) -> dict[int, Followed]:
    """The orders of a result that have a task, whoever published it."""
    return {
        outcome.order_id: Followed(task_id=outcome.task_id, after_log_id=outcome.log_id)
        for outcome in result.outcomes
        if outcome.task_id is not None
    }


def follow_result(result: OperationResult, endings: Mapping[int, Ended]) -> OperationResult:
    """The result with each followed order's ending in the place of its outcome."""
    outcomes = [
        _after(outcome, endings[outcome.order_id]) if outcome.order_id in endings else outcome
        for outcome in result.outcomes
    ]
    return replace(result, outcomes=outcomes, interrupted=len(endings) < len(followed(result)))


def _after(outcome: Outcome, ended: Ended) -> Outcome:
    if ended.ending is Ending.SUCCESS:
        return replace(outcome, outcome=OutcomeKind.DONE, reason=ended.message, after=OrderStatus.REVIEW)
    if ended.ending is Ending.SKIP:
        return replace(outcome, outcome=OutcomeKind.SKIPPED, reason=ended.message, after=None)
    return replace(outcome, outcome=OutcomeKind.FAILED, reason=ended.message, hint=ended.hint, after=None)


async def tail(
    orders: OrdersStore,
    order_ids: Collection[int],
    cursor: Cursor,
    *,
    patient: bool,
    clock: Clock = time.monotonic,
) -> AsyncIterator[list[LogRow] | Lost | Regained]:
    """Look at these orders' logs again and again, without end; yields what is new each time, if only nothing.

    ``order_ids`` may shrink meanwhile. When the database goes away, ``patient`` waits until it is back, and no
    row is lost or seen twice; otherwise ``SourceError`` is raised.
    """
    delays: Iterator[float] | None = None
    moved = clock()
    while True:
        try:
            rows = await orders.read_log(list(order_ids), after_id=cursor.after_id)
        except SourceError as exc:
            if not patient:
                raise
            if delays is None:
                delays = back_off()
                yield Lost(message=exc.message)
            await asyncio.sleep(next(delays))
            continue
        if delays is not None:
            delays = None
            yield Regained()
        new = cursor.fresh(rows, now=clock())
        if new:
            moved = clock()
        yield new
        await asyncio.sleep(_LOG_INTERVAL if clock() - moved < _QUIET else _QUIET_INTERVAL)


async def follow(
    orders: OrdersStore,
    queue: QueueBackend,
    followed: Mapping[int, Followed],
    *,
    cursor: Cursor | None = None,
    patient: bool = False,
    clock: Clock = time.monotonic,
) -> AsyncIterator[LogRow | Ended | Quiet | Lost | Regained]:
    """Yield the log rows of these orders as they are written, and an ``Ended`` for each at its end.

    SUCCESS and SKIP end a run at once. After an ERROR the queue decides: while the order's task is still live
    a retry will come. A task that is gone has ended too, as the last row of its run says. ``patient`` waits
    for a source that goes away instead of raising ``SourceError``.
    """
    runs = _Runs(followed)
    if cursor is None:
        cursor = Cursor({order_id: item.after_log_id for order_id, item in followed.items()}, now=clock())
    watch = _Watch(orders, queue, patient=patient, clock=clock)
    async for look in tail(orders, runs.open, cursor, patient=patient, clock=clock):
        if not isinstance(look, list):
            yield look
            continue
        for row in look:
            if row.order_id not in runs.open:
                continue
            yield row
            if ended := runs.read(row):
                yield ended
        if look:
            watch.moved(errors=any(row.step == RunOutcome.ERROR for row in look))
        async for seen in watch.look(runs):
            yield seen
        if not runs.open:
            return


class _Runs:
    """The runs that are still open, and what the log has said of each so far."""

    def __init__(self, followed: Mapping[int, Followed]) -> None:
        self.open = dict(followed)

    def read(self, row: LogRow) -> Ended | None:
        """Take a row into account; SUCCESS and SKIP end the run."""
        item = self.open[row.order_id]
        outcome = RunOutcome(row.step) if row.step in OUTCOME_STEPS else None
        if outcome in (RunOutcome.SUCCESS, RunOutcome.SKIP):
            del self.open[row.order_id]
            return Ended(order_id=row.order_id, ending=Ending(row.step), message=row.message)
        if outcome is not None:
            self.open[row.order_id] = replace(item, outcome=outcome, message=row.message)
        elif row.step in _BEGINNINGS:
            self.open[row.order_id] = replace(item, outcome=None, message="")
        return None

    def without_task(self, live: Collection[tuple[int | None, str]]) -> set[int]:
        """The orders whose task is not among these (order, task id)."""
        ids = {task_id for _, task_id in live}
        orders = {order_id for order_id, _ in live}
        return {
            order_id
            for order_id, item in self.open.items()
            if (order_id not in orders if item.task_id is None else item.task_id not in ids)
        }

    def with_task(self, tasks: Collection[LiveTask]) -> set[int]:
        """The orders whose task is among these."""
        ids = {task.task_id for task in tasks}
        orders = {task.order_id for task in tasks}
        return {
            order_id
            for order_id, item in self.open.items()
            if (order_id in orders if item.task_id is None else item.task_id in ids)
        }

    def give_up(self, order_id: int, why: str) -> Ended:
        """End a run whose task is gone, as the last row of its log says; ``why`` is for a log that says nothing."""
        item = self.open.pop(order_id)
        if item.outcome is not None:
            return Ended(order_id=order_id, ending=Ending(item.outcome), message=item.message)
        return Ended(order_id=order_id, ending=Ending.GONE, message=why, hint=Remedy.run(Command.INSPECT, order_id))


class _Watch:
    """Looks at the queue now and then for tasks that are gone, and at the workers when nothing moves."""

    def __init__(self, orders: OrdersStore, queue: QueueBackend, *, patient: bool, clock: Clock) -> None:
        self._orders = orders
        self._queue = queue
        self._patient = patient
        self._clock = clock
        self._last_row = clock()
        self._next_look = clock()
        self._gone: set[int] = set()
        self._orphaned: set[int] = set()
        self._lost = self._told = False

    def moved(self, *, errors: bool) -> None:
        """Rows were written; after an ERROR it is worth looking at once."""
        self._last_row = self._clock()
        if errors:
            self._next_look = self._last_row

    async def look(self, runs: _Runs) -> AsyncIterator[Ended | Quiet | Lost | Regained]:
        """Look if it is time to."""
        if not runs.open or self._clock() < self._next_look:
            return
        try:
            ended, quiet = await self._ask(runs)
        except SourceError as exc:
            if not self._patient:
                raise
            self._next_look = self._clock() + _QUEUE_INTERVAL
            if not self._lost:
                self._lost = True
                yield Lost(message=exc.message)
            return
        if self._lost:
            self._lost = False
            yield Regained()
        for each in ended:
            yield each
        if quiet is not None:
            yield quiet

    async def _ask(self, runs: _Runs) -> tuple[list[Ended], Quiet | None]:
        reading = await self._queue.read()
        tasks = reading.tasks
        gone = runs.without_task([(task.order_id, task.task_id) for task in tasks])
        # Twice in a row: a task on the move between queue and worker is in neither for a moment.
        ended = [runs.give_up(order_id, _GONE) for order_id in sorted(gone & self._gone)]
        self._gone = gone
        quiet = None
        if runs.open and self._clock() - self._last_row >= _QUIET:
            orphaned, quiet = await self._ask_workers(runs, reading)
            ended += orphaned
        doubtful = (self._gone | self._orphaned) - {each.order_id for each in ended}
        self._next_look = self._clock() + (SECOND_LOOK if doubtful else _QUEUE_INTERVAL)
        return ended, quiet

    async def _ask_workers(self, runs: _Runs, reading: BrokerReading) -> tuple[list[Ended], Quiet | None]:
        """Find out why nothing moves: orphaned tasks, or no worker to take them."""
        survey = await self._queue.survey()
        liveness = Liveness(reading=reading, survey=survey, now=utc_now())
        tasks = attribute(reading.tasks, survey)
        unaccounted = {task.order_id for task in tasks if task.is_unaccounted and task.order_id is not None}
        held = liveness.decide(tasks, await self._orders.read_orders(unaccounted) if unaccounted else {})
        orphaned = runs.with_task([task for task in held if task.state is TaskState.ORPHANED])
        ended = [runs.give_up(order_id, _ORPHANED) for order_id in sorted(orphaned & self._orphaned)]
        self._orphaned = orphaned
        if self._told or survey.workers or survey.silent or not runs.open or orphaned:
            return ended, None
        self._told = True
        return ended, Quiet(message="no worker responds: the task waits until one does")
