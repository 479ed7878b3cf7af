"""Reading the generation logs of orders: what there is, and what is written from then on.

Owns the page-wise reading, so that an order of 100,000 rows is never held at once, and the place from which
the following goes on. The following itself is ``follow.py``'s.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence

from sitegenctl.domain.orders.log import LOOK_BACK, Cursor, LogLevel, LogQuery
from sitegenctl.domain.orders.order import LogRow, Order
from sitegenctl.domain.orders.run import RunOutcome
from sitegenctl.domain.ports import OrdersStore, QueueBackend
from sitegenctl.operations.follow import Clock, Ended, Followed, Lost, Quiet, Regained, follow, tail

#: Rows read at once.
PAGE = 5000


async def find(orders: OrdersStore, order_ids: Sequence[int]) -> tuple[list[int], list[int]]:
    """Split into orders that there are and orders that there aren't, each as they were given."""
    existing = await orders.existing(order_ids)
    return [i for i in order_ids if i in existing], [i for i in order_ids if i not in existing]


async def read(orders: OrdersStore, order_ids: Sequence[int], query: LogQuery) -> AsyncIterator[LogRow]:
    """Yield the rows that the query wants, of all these orders, in the order of their ids."""
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


async def read_and_follow(
    orders: OrdersStore,
    order_ids: Sequence[int],
    query: LogQuery,
    *,
    queue: QueueBackend | None = None,
    clock: Clock = time.monotonic,
) -> AsyncIterator[LogRow | Ended | Quiet | Lost | Regained]:
    """Yield what ``read`` does, then the new rows of the query's level as they are written.

    Without end, or, given a ``queue``, until every order's run has ended, each with an ``Ended``; an order that
    has no live task has ended already. Raises ``SourceError`` only while what is there already is read.
    """
    if queue is not None:
        # Without it no end can be told: better said now than waited for.
        await queue.read()
    # Before the rows: what is written in between is then seen by the following, if not by the reading.
    newest = {row.order_id: row.log_id for row in await orders.read_log(order_ids, last=1)}
    first: dict[int, int] = {}
    seen: deque[int] = deque(maxlen=LOOK_BACK)
    async for row in read(orders, order_ids, query):
        first.setdefault(row.order_id, row.log_id - 1)
        seen.append(row.log_id)
        yield row
    cursor = Cursor(
        {order_id: first.get(order_id, newest.get(order_id, 0)) for order_id in order_ids},
        seen=seen,
        floor=max([*newest.values(), *seen], default=0) - LOOK_BACK,
        now=clock(),
    )
    if queue is None:
        async for look in tail(orders, order_ids, cursor, patient=True, clock=clock):
            for each in _at_level(look, query.level) if isinstance(look, list) else [look]:
                yield each
        return
    # After the rows: what was read above, the following doesn't read again.
    runs = await _runs(orders, order_ids)
    async for event in follow(orders, queue, runs, cursor=cursor, patient=True, clock=clock):
        if not isinstance(event, LogRow) or query.level.includes(event.status):
            yield event


def exit_code(endings: Mapping[int, Ended], missing: Sequence[int]) -> int:
    """1 when a run failed or its task is gone, 4 when an order is missing and none failed, else 0."""
    if any(ended.failed for ended in endings.values()):
        return 1
    return 4 if missing else 0


def _at_level(rows: Sequence[LogRow], level: LogLevel) -> list[LogRow]:
    return [row for row in rows if level.includes(row.status)]


async def _runs(orders: OrdersStore, order_ids: Sequence[int]) -> dict[int, Followed]:
    known = await orders.read_orders(order_ids)
    return {order_id: _followed(known[order_id]) for order_id in order_ids if order_id in known}


def _followed(order: Order) -> Followed:
    run = order.history.last_run
    outcome = run.outcome if run is not None else None
    message = f"its last run ended in {outcome}" if outcome else ""
    if outcome is RunOutcome.ERROR and order.last_error:
        message = order.last_error
    return Followed(task_id=None, after_log_id=order.last_log_id, outcome=outcome, message=message)
