"""``inspect``: the overview; below it an order, lists of orders, the queue, the workers, a task."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sitegenctl.cli import complete
from sitegenctl.cli.help import MEANT, HelpCommand, HelpGroup, meant, meant_error
from sitegenctl.cli.options import (
    MAX_ROWS,
    Conditions,
    Invocation,
    Search,
    Statuses,
    WatchInterval,
    adapt,
    examples,
    invoke,
    number,
    option,
    span,
    watchable,
)
from sitegenctl.cli.terminal import screen
from sitegenctl.cli.watch import show

# Pure and without dependencies: importing it does not slow --help.
from sitegenctl.domain.diagnosis.listing import OrderFilter, OrderQuery, SortBy
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.errors import UsageProblem
from sitegenctl.render.output import Report

if TYPE_CHECKING:
    from sitegenctl.session import Session

#: Log rows of an order that are shown without ``--last``.
DEFAULT_LAST = 10

_ORDER = "ORDER"


class _OrderOrCommand(HelpGroup):
    """Runs ``inspect 42`` as ``inspect ORDER 42``: a word that is not a command is an order."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            if args[0] in MEANT and (remedy := meant(["show", *args])) is not None:
                raise meant_error(f"no such command 'inspect {args[0]}'", remedy, ctx)
            args = [_ORDER, *args]
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        suggested = [item for item in super().shell_complete(ctx, incomplete) if item.value != _ORDER]
        if incomplete.isdigit():
            suggested += self.commands[_ORDER].params[0].shell_complete(ctx, incomplete)
        return suggested


@examples(("status", "What is wrong now"), ("status --watch", "The same, refreshed every 2s"))
def status(call: Invocation, watch: WatchInterval = None) -> int:
    """Show what is wrong, the queue and the workers."""
    return overview(call, watch)


@examples(
    ("inspect 28", "Where is order 28, and why"),
    ("inspect orders --condition failed", "Orders whose generation failed"),
    ("inspect queue", "What waits, in the order of delivery"),
    ("inspect workers", "Who is working on what"),
)
def _overview(ctx: typer.Context, watch: WatchInterval = None) -> None:
    """Show the overview, or an order, list, queue or task."""
    if ctx.invoked_subcommand is None:
        raise typer.Exit(invoke(ctx, lambda call: overview(call, watch), is_service=watch is not None))


def overview(call: Invocation, watch: str | None) -> int:
    """Show queue, workers and the number of orders by condition."""

    async def read(session: Session) -> Report:
        from sitegenctl.operations import overview as operation
        from sitegenctl.render.overview import OVERVIEW_COLUMNS, overview_data, overview_rows, overview_text

        settings = session.settings
        view = await operation.overview(session)
        return Report(
            command=call.command,
            data=overview_data(view, selector=settings.selector),
            rows=overview_rows(view),
            columns=OVERVIEW_COLUMNS,
            text=lambda: overview_text(view, screen(), queue=settings.queue, selector=settings.selector),
            unanswered=view.unanswered,
            hints=view.snapshot.hints,
        )

    return show(call, read, watch)


@examples(("inspect 28 --last 50", "With its newest 50 log rows"))
@watchable
def order(
    call: Invocation,
    order: Annotated[
        str, typer.Argument(metavar="ORDER", help="Order number.", autocompletion=complete.orders, show_default=False)
    ],
    last: Annotated[
        int | None,
        number("--last", min=0, max=MAX_ROWS, help=f"Show N log rows (default {DEFAULT_LAST}, or what fits)."),
    ] = None,
    watch: WatchInterval = None,
) -> int:
    """Show one order: its condition, evidence and suggested fix."""
    from sitegenctl.cli.order_selection import read_order_ids

    if not order.isdecimal():
        raise UsageProblem(
            f"{order} is neither an order number nor one of: orders, queue, workers, task",
            hint=Remedy.run(Command.INSPECT, help=True),
        )
    (order_id,) = read_order_ids([order], None)

    async def read(session: Session) -> Report:
        from sitegenctl.operations.inspect import inspect_order
        from sitegenctl.render.order import order_data, order_text

        selector = session.settings.selector
        view = await inspect_order(session, order_id, last=DEFAULT_LAST if last is None else last)
        left_out = view.rows_left_out
        data = order_data(order_id, view.snapshot, view.log, view.timeline, rows_left_out=left_out, selector=selector)

        def text() -> str:
            return order_text(
                order_id,
                view.snapshot,
                view.timeline,
                rows_left_out=left_out,
                screen=screen(),
                selector=selector,
                whole=last is not None,
            )

        return Report(
            command=call.command,
            data=data,
            rows=[data],
            text=text,
            unanswered=view.unanswered,
            hints=view.snapshot.hints,
        )

    return show(call, read, watch)


@examples(
    ("inspect orders --status review --since 1d", "Orders that went to review within a day"),
    ("inspect orders --condition failed -o csv", "Failed orders for a spreadsheet"),
)
@watchable
def orders(
    call: Invocation,
    condition: Conditions = None,
    status: Statuses = None,
    search: Search = None,
    since: Annotated[str | None, option("--since", metavar="TIME", help="Only orders changed within TIME.")] = None,
    due: Annotated[
        str | None, option("--due", metavar="TIME", help="Only late orders and those due within TIME.")
    ] = None,
    late: Annotated[bool, option("--late", help="Only orders that are late.")] = False,
    sort: Annotated[SortBy, option("--sort", help="Sort by this column.", show_default=True)] = SortBy.FAULT,
    reverse: Annotated[bool, option("--reverse", help="Reverse the order.")] = False,
    limit: Annotated[int, number("--limit", min=1, max=10_000, help="Orders per page.", show_default=True)] = 50,
    page: Annotated[int, number("--page", min=1, max=MAX_ROWS, help="Page number.", show_default=True)] = 1,
    watch: WatchInterval = None,
) -> int:
    """List orders with their conditions, faults first."""
    from sitegenctl.cli.order_selection import read_statuses

    if late and due is not None:
        raise UsageProblem("--late and --due are mutually exclusive")
    query = OrderQuery(
        filter=OrderFilter(
            statuses=read_statuses(status),
            search=search,
            since=span("--since", since) if since is not None else None,
            due_within=span("--due", due) if due is not None else timedelta(0) if late else None,
        ),
        conditions=frozenset(condition or ()),
        sort=sort,
        reverse=reverse,
        limit=limit,
        offset=(page - 1) * limit,
    )

    async def read(session: Session) -> Report:
        from sitegenctl.operations.listing import list_orders
        from sitegenctl.render.order import SUMMARY_COLUMNS, listing_text, order_summary

        listed, snapshot = await list_orders(session, query, forecast=True)
        rows = [order_summary(each, snapshot, selector=session.settings.selector) for each in listed.orders]
        counts = {"total": listed.total, "undecided": listed.undecided, "limit": query.limit, "offset": query.offset}
        return Report(
            command=call.command,
            data={"orders": rows, **counts},
            rows=rows,
            columns=SUMMARY_COLUMNS,
            text=lambda: listing_text(listed, snapshot, offset=query.offset, screen=screen()),
            unanswered=snapshot.unanswered,
            hints=snapshot.hints,
        )

    return show(call, read, watch)


@watchable
def queue(
    call: Invocation,
    limit: Annotated[int, number("--limit", min=1, help="Show at most N tasks.", show_default=True)] = 50,
    watch: WatchInterval = None,
) -> int:
    """List queued tasks in the order of delivery."""

    async def read(session: Session) -> Report:
        from sitegenctl.domain.diagnosis.snapshot import running_order
        from sitegenctl.operations.inspect import inspect_queue
        from sitegenctl.render.queue import QUEUE_COLUMNS, queue_rows, queue_text

        snapshot = await inspect_queue(session)
        tasks = running_order(snapshot)
        rows = queue_rows(tasks[:limit], snapshot)
        return Report(
            command=call.command,
            data={"tasks": rows, "total": len(tasks)},
            rows=rows,
            columns=QUEUE_COLUMNS,
            text=lambda: queue_text(tasks[:limit], snapshot, total=len(tasks), screen=screen()),
            unanswered=snapshot.unanswered,
            hints=snapshot.hints,
        )

    return show(call, read, watch)


@watchable
def workers(call: Invocation, watch: WatchInterval = None) -> int:
    """Show each live worker and its tasks."""

    async def read(session: Session) -> Report:
        from sitegenctl.domain.diagnosis.condition import Source
        from sitegenctl.domain.queue.worker import describe_silence
        from sitegenctl.operations.inspect import inspect_workers
        from sitegenctl.render.queue import WORKER_COLUMNS, worker_rows, workers_text

        name = session.settings.queue
        roster, stale = await inspect_workers(session)
        rows = worker_rows(roster, stale)
        silence = describe_silence(roster)
        return Report(
            command=call.command,
            data={"workers": rows, "silent": roster.silent},
            rows=rows,
            columns=WORKER_COLUMNS,
            text=lambda: workers_text(
                roster, now=roster.taken_at or datetime.now(UTC), queue=name, screen=screen(), stale=stale
            ),
            unanswered={Source.WORKERS: silence} if silence else {},
        )

    return show(call, read, watch)


def task(
    call: Invocation, task_id: Annotated[str, typer.Argument(metavar="TASK", help="Task id.", show_default=False)]
) -> int:
    """Show one task: its message, result, order and worker."""

    async def read(session: Session) -> Report:
        from sitegenctl.operations.inspect import inspect_task
        from sitegenctl.render.queue import task_data, task_text

        settings = session.settings
        known_orders = session.orders if settings.database_url else None
        view = await inspect_task(known_orders, session.queue, task_id, hard_limit=settings.hard_time_limit)
        data = task_data(view.task)

        def text() -> str:
            return task_text(view.task, view.order, screen())

        return Report(command=call.command, data=data, rows=[data], text=text, unanswered=view.unanswered)

    return show(call, read)


inspect = typer.Typer(
    help="Show the overview, or an order, list, queue or task.",
    cls=_OrderOrCommand,
    subcommand_metavar="[ORDER | COMMAND] [ARGS]...",
)
inspect.callback(invoke_without_command=True)(adapt(_overview))
inspect.command(_ORDER, cls=HelpCommand)(adapt(order))
inspect.command("orders", cls=HelpCommand)(adapt(orders))
inspect.command("queue", cls=HelpCommand)(adapt(queue))
inspect.command("workers", cls=HelpCommand)(adapt(workers))
inspect.command("task", cls=HelpCommand)(adapt(task))
