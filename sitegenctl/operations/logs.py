"""Read the generation logs of orders in pages, and follow them from there."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence

from sitegenctl.domain.orders.log import LOOK_BACK, Cursor, LogLevel, LogQuery
from sitegenctl.domain.orders.order import LogRow, Order
from sitegenctl.domain.orders.run import RunOutcome
from sitegenctl.domain.ports import OrdersStore, Sources
from sitegenctl.operations.follow import Clock, Ended, Followed, Lost, Quiet, Regained, follow, tail

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


async def read_and_follow(
    sources: Sources,
    order_ids: Sequence[int],
    query: LogQuery,
    *,
    until_done: bool = False,
    clock: Clock = time.monotonic,
) -> AsyncIterator[LogRow | Ended | Quiet | Lost | Regained]:
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
            for each in _at_level(rows, query.level) if isinstance(rows, list) else [rows]:
                yield each
        return
    # Read after the rows, which are not followed again.
    known = await orders.read_orders(order_ids)
    runs = {order_id: _followed(known[order_id]) for order_id in order_ids if order_id in known}
    async for event in follow(sources, runs, cursor=cursor, patient=True, clock=clock):
        if not isinstance(event, LogRow) or query.level.includes(event.status):
            yield event


def exit_code(endings: Mapping[int, Ended], missing: Sequence[int]) -> int:
    """1 when a run failed or its task is gone, 4 when an order is missing and none failed, else 0."""
    if any(ended.failed for ended in endings.values()):
        return 1
    return 4 if missing else 0


def _at_level(rows: Sequence[LogRow], level: LogLevel) -> list[LogRow]:
    return [row for row in rows if level.includes(row.status)]


def _followed(order: Order) -> Followed:
    run = order.history.last_run
    outcome = run.outcome if run is not None else None
    message = f"its last run ended in {outcome}" if outcome else ""
    if outcome is RunOutcome.ERROR and order.last_error:
        message = order.last_error
    return Followed(task_id=None, after_log_id=order.last_log_id, outcome=outcome, message=message)
