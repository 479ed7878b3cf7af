"""Following the generation logs of orders until their runs have ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from sitegenctl.domain.order import LogRow, OrderStatus
from sitegenctl.domain.ports import OrdersStore, QueueBackend
from sitegenctl.domain.result import OperationResult, Outcome, OutcomeKind
from sitegenctl.domain.run import RunOutcome

#: Seconds between two looks at the log, and between two looks at the queue.
_LOG_INTERVAL = 0.2
_QUEUE_INTERVAL = 1.0

#: Seconds without a row after which it is worth asking whether anybody is there to work.
_QUIET = 5.0


class Ending(StrEnum):
    """How following an order ended."""

    SUCCESS = "SUCCESS"
    SKIP = "SKIP"
    ERROR = "ERROR"  # with no retry left
    GONE = "GONE"  # its task is finished or lost, and no outcome was logged


@dataclass(frozen=True, kw_only=True)
class Followed:
    """An order that is being followed: its task, and the id of the newest log row already known."""

    task_id: str
    after_log_id: int


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The end of one order's run; ``message`` is that of the row which decided it."""

    order_id: int
    ending: Ending
    message: str


@dataclass(frozen=True, kw_only=True)
class Quiet:
    """Nothing moves, and no worker is alive to move it."""

    message: str


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
    return replace(outcome, outcome=OutcomeKind.FAILED, reason=ended.message, after=None)


async def follow(
    orders: OrdersStore, queue: QueueBackend, followed: Mapping[int, Followed]
) -> AsyncIterator[LogRow | Ended | Quiet]:
    """Yield the log rows of these orders as they are written, and an ``Ended`` for each at its end.

    SUCCESS and SKIP end a run at once. After an ERROR the queue decides: while the order's task is still live
    a retry will come. A task that is gone without an outcome has ended too.
    """
    open_orders = dict(followed)
    errors: dict[int, str] = {}
    seen_gone: set[int] = set()
    after = min((item.after_log_id for item in followed.values()), default=0)
    quiet = since_queue = 0.0
    told = False
    while open_orders:
        rows = await orders.read_log(list(open_orders), after_id=after)
        for row in rows:
            after = max(after, row.log_id)
            if row.order_id not in open_orders or row.log_id <= open_orders[row.order_id].after_log_id:
                continue
            quiet = 0.0
            yield row
            if row.step in (RunOutcome.SUCCESS, RunOutcome.SKIP):
                del open_orders[row.order_id]
                yield Ended(order_id=row.order_id, ending=Ending(row.step), message=row.message)
            elif row.step == RunOutcome.ERROR:
                errors[row.order_id] = row.message
                since_queue = _QUEUE_INTERVAL
            else:
                errors.pop(row.order_id, None)
        if since_queue >= _QUEUE_INTERVAL:
            since_queue = 0.0
            gone = await _gone(queue, open_orders)
            # Twice in a row: a task on the move between queue and worker is in neither for a moment.
            for order_id in gone & seen_gone:
                del open_orders[order_id]
                yield _ended(order_id, errors)
            seen_gone = gone
        if quiet >= _QUIET and not told:
            told = True
            if not (await queue.survey()).workers:
                yield Quiet(message="no worker answers: the task waits until one does")
        if open_orders:
            await asyncio.sleep(_LOG_INTERVAL)
            quiet += _LOG_INTERVAL
            since_queue += _LOG_INTERVAL


async def _gone(queue: QueueBackend, open_orders: Mapping[int, Followed]) -> set[int]:
    live = {task.task_id for task in (await queue.read()).tasks}
    return {order_id for order_id, item in open_orders.items() if item.task_id not in live}


def _ended(order_id: int, errors: Mapping[int, str]) -> Ended:
    if order_id in errors:
        return Ended(order_id=order_id, ending=Ending.ERROR, message=errors[order_id])
    return Ended(
        order_id=order_id,
        ending=Ending.GONE,
        message="its task is gone, and its log has no outcome: look at it with sitegenctl inspect",
    )
