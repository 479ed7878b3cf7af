"""``inspect ORDER``: everything about one order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sitegenctl.cli import complete
from sitegenctl.cli.options import Invocation, LiveState, last_rows

if TYPE_CHECKING:
    from sitegenctl.render.output import Report

#: Log rows that are shown when their number is not given.
DEFAULT_LAST = 10


def order(
    call: Invocation,
    order: Annotated[
        str, typer.Argument(metavar="ORDER", help="Order number.", autocompletion=complete.orders, show_default=False)
    ],
    last: Annotated[
        int | None, last_rows(f"How many log rows to show. [{DEFAULT_LAST}, as far as they fit on the screen]")
    ] = None,
    watch: LiveState = None,
) -> int:
    """Show where one order really is, and why."""
    from sitegenctl.cli.order_selection import read_order_ids
    from sitegenctl.cli.watch import show
    from sitegenctl.errors import UsageProblem

    if not order.isdecimal():
        raise UsageProblem(
            f"{order} is neither an order number nor one of: orders, queue, workers, task",
            hint="sitegenctl inspect --help",
        )
    (order_id,) = read_order_ids([order], None)
    return show(call, lambda: _look(call, order_id, last), watch)


async def _look(call: Invocation, order_id: int, last: int | None) -> Report:
    from sitegenctl.cli.terminal import screen
    from sitegenctl.operations.inspect import inspect_order
    from sitegenctl.render.order import order_data, order_text
    from sitegenctl.render.output import Report
    from sitegenctl.render.sources import degraded
    from sitegenctl.session import open_session, queue_terms

    settings = call.settings()
    async with open_session(settings, call.command) as session:
        view = await inspect_order(
            session.orders,
            session.queue,
            session.sites,
            order_id,
            grace=settings.grace,
            last=DEFAULT_LAST if last is None else last,
        )
    data = order_data(order_id, view.snapshot, view.log, view.timeline, selector=settings.selector)
    report = Report(
        command=call.command,
        data=data,
        rows=[data],
        text=lambda: order_text(
            order_id,
            view.snapshot,
            view.timeline,
            screen=screen(),
            selector=settings.selector,
            whole=last is not None,
        ),
    )
    return degraded(report, view.unanswered, queue_terms(settings), selector=settings.selector)
