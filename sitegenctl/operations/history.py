"""Read what happened: runs and operations of all orders within a time, one operation, and what is new.

Windows of the log's primary key are read: the cost depends on the time that is asked for, not on the size of the log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sitegenctl.domain.orders.operation import JournalRow, journal_row, operations_of
from sitegenctl.domain.orders.order import LogRow
from sitegenctl.domain.orders.run import OUTCOME_STEPS
from sitegenctl.domain.orders.run_reader import LoggedRun, RunRow, RunStream
from sitegenctl.domain.ports import OrdersStore, QueueBackend
from sitegenctl.domain.statistics.activity import (
    Activity,
    ActivityFilter,
    OperationActivity,
    Past,
    RunActivity,
    run_activity,
    with_lateness,
)
from sitegenctl.domain.statistics.log_window import LEAD
from sitegenctl.errors import SourceError, UsageProblem
from sitegenctl.operations.follow import Notice, tail_all
from sitegenctl.operations.observe import Attempts
from sitegenctl.operations.overview import end_by_results, runs_of

#: Rows read in one query.
_PAGE = 20_000

#: While the log is followed: rows after which the orders without a row for a day are forgotten.
_ROWS_UNTIL_FORGOTTEN = 20_000
_FORGOTTEN_AFTER = timedelta(days=1)


async def past(
    orders: OrdersStore,
    since: timedelta | datetime,
    only: ActivityFilter,
    *,
    until: timedelta | datetime | None = None,
    last: int | None = None,
    queue: QueueBackend | None = None,
    attempts: Attempts | None = None,
) -> Past:
    """Read the runs and operations since then, oldest first; times as in ``OrdersStore.log_window``.

    A run that ends after ``until`` is unfinished. ``last`` keeps the newest ones. With the ``queue``, runs without an
    outcome in the log end by the results of their tasks; ``attempts`` has the error if these could not be read. Raises
    ``UsageProblem`` for a period that ends before it begins.
    """
    window = await orders.log_window(since, lead=LEAD, until=until)
    if until is not None and window.since >= window.until:
        raise UsageProblem(
            f"the period ends before it begins: {window.since:%Y-%m-%d %H:%M:%S} to {window.until:%Y-%m-%d %H:%M:%S}",
            hint="--since is the earlier time, for example --since 40m --until 30m",
        )
    found: list[Activity] = []
    if only.wants_runs:
        runs = [run async for run in runs_of(orders, window, bounds_only=True)]
        if queue is not None:
            await end_by_results(runs, orders, queue, window, attempts or Attempts())
        found += map(run_activity, runs)
    if only.wants_operations:
        rows = await _journal(orders, window.first_id, window.last_id)
        found += [OperationActivity(operation=operation) for operation in operations_of(rows)]
    found = [each for each in found if each.at is not None and window.includes(each.at)]
    # By id: times of the log go back at the end of daylight saving time.
    found.sort(key=lambda each: each.log_id)
    customers: dict[int, str] = {}
    if only.search is not None:
        customers = await _customers(orders, found)
    found = [each for each in found if only.includes(each, customers)]
    shown = found[-last:] if last else found
    if only.search is None:
        customers = await _customers(orders, shown)
    activity = await _described(orders, shown, customers)
    return Past(window=window, activity=activity, left_out=len(found) - len(shown))


async def _described(orders: OrdersStore, activity: Sequence[Activity], customers: Mapping[int, str]) -> list[Activity]:
    """The activity, its runs with their customers and how late the site was."""
    runs = (each for each in activity if isinstance(each, RunActivity))
    due = await orders.missed_due_dates({each.order_id for each in runs})
    return [
        with_lateness(replace(each, customer=customers.get(each.order_id)), due.get(each.order_id))
        if isinstance(each, RunActivity)
        else each
        for each in activity
    ]


async def _customers(orders: OrdersStore, activity: Sequence[Activity]) -> dict[int, str]:
    ids: set[int] = set()
    for each in activity:
        if isinstance(each, RunActivity):
            ids.add(each.order_id)
        else:
            ids.update(entry.order_id for entry in each.operation.entries)
    return await orders.customers(ids) if ids else {}


async def _journal(orders: OrdersStore, first_id: int, last_id: int) -> list[JournalRow]:
    """The journal rows with these ids, lowest first."""
    found: list[JournalRow] = []
    while first_id <= last_id:
        rows = await orders.read_all_logs(first_id, last_id, limit=_PAGE, journal_only=True)
        found += [row for each in rows if (row := journal_row(each)) is not None]
        if len(rows) < _PAGE:
            break
        first_id = rows[-1].log_id + 1
    return found


async def follow(orders: OrdersStore, only: ActivityFilter, *, after: int) -> AsyncIterator[Activity | Notice]:
    """Yield runs as they end and operations as they happen after the row with this id, without end.

    A lost connection is taken up again.
    """
    window = await orders.log_window(timedelta(0), lead=LEAD)
    stream = RunStream()
    async for begun in _rows(orders, window.first_id, after):
        stream.feed(begun)
    pending: list[JournalRow] = []
    ready: list[Activity] = []
    ended: dict[int, LoggedRun] = {}
    count = 0
    async for rows in tail_all(orders, after=after):
        if not isinstance(rows, list):
            yield rows
            continue
        ready += _ended(rows, stream, ended)
        count += len(rows)
        if count >= _ROWS_UNTIL_FORGOTTEN and (times := [row.created_at for row in rows if row.created_at is not None]):
            count = 0
            stream.forget(max(times) - _FORGOTTEN_AFTER)
            ended = {run.order_id: run for run in stream.newest() if ended.get(run.order_id) is run}
        journal = [row for each in rows if (row := journal_row(each)) is not None]
        # An operation is complete when a poll brings no more rows of it.
        grown = {row.operation for row in journal if row.operation is not None}
        complete = [row for row in pending if row.operation not in grown]
        pending = [row for row in pending if row.operation in grown] + journal
        ready += [OperationActivity(operation=each) for each in operations_of(complete)]
        try:
            customers = await _customers(orders, ready)
            described = await _described(orders, sorted(ready, key=lambda each: each.log_id), customers)
        except SourceError:
            continue  # the next poll reports it
        for activity in described:
            if only.includes(activity, customers):
                yield activity
        ready = []


def _ended(rows: Sequence[LogRow], stream: RunStream, known: dict[int, LoggedRun]) -> list[Activity]:
    """The runs that these rows end; one that writes several outcomes ends once. ``known`` has the last by order."""
    found: dict[int, LoggedRun] = {}
    for row in rows:
        stream.feed(
            RunRow(
                log_id=row.log_id,
                order_id=row.order_id,
                step=row.step,
                at=row.created_at,
                message=row.message if row.step == "ERROR" else None,
            )
        )
        if row.step in OUTCOME_STEPS and (run := stream.newest_of(row.order_id)) is not None:
            if known.get(row.order_id) is not run:
                found[row.order_id] = run
            known[row.order_id] = run
    return [run_activity(run) for run in found.values()]


async def _rows(orders: OrdersStore, first_id: int, last_id: int) -> AsyncIterator[RunRow]:
    while first_id <= last_id:
        rows = await orders.read_run_rows(first_id, last_id, limit=_PAGE, bounds_only=True)
        for row in rows:
            yield row
        if len(rows) < _PAGE:
            break
        first_id = rows[-1].log_id + 1
