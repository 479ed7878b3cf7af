"""``inspect ORDER``: everything about one order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sitegenctl.cli.options import Invocation, Watch

if TYPE_CHECKING:
    from sitegenctl.render.output import Report


def order(
    call: Invocation,
    order: Annotated[str, typer.Argument(metavar="ORDER", help="The order's number.", show_default=False)],
    last: Annotated[int, typer.Option("--last", min=0, help="How many log rows to show.")] = 10,
    watch: Watch = None,
) -> int:
    """Show where one order really is, and why."""
    from sitegenctl.cli.selection import read_order_ids
    from sitegenctl.cli.watching import show
    from sitegenctl.errors import UsageProblem

    if not order.isdecimal():
        raise UsageProblem(
            f"{order} is neither an order number nor one of: orders, queue, workers, task",
            hint="sitegenctl inspect --help",
        )
    (order_id,) = read_order_ids([order], None)
    return show(call, lambda: _look(call, order_id, last), watch)


async def _look(call: Invocation, order_id: int, last: int) -> Report:
    from sitegenctl.cli.terminal import screen
    from sitegenctl.operations.inspect import inspect_order
    from sitegenctl.render.order import order_data, order_text
    from sitegenctl.render.output import Report
    from sitegenctl.render.sources import source_errors
    from sitegenctl.session import open_session

    settings = call.settings()
    async with open_session(settings, call.command) as session:
        view = await inspect_order(
            session.orders, session.queue, session.sites, order_id, grace=settings.grace, last=last
        )
    errors = source_errors(view.snapshot)
    data = order_data(order_id, view.snapshot, view.log, view.timeline, context=settings.context)
    return Report(
        command=call.command,
        data=data,
        rows=[data],
        text=lambda: order_text(order_id, view.snapshot, view.timeline, screen=screen(), context=settings.context),
        exit_code=3 if errors else 0,
        errors=errors,
    )
