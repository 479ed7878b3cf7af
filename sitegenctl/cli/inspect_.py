"""``inspect ORDER``: where an order really is, and why."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from sitegenctl.cli.options import Invocation, command


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "inspect")(inspect)


def inspect(
    call: Invocation,
    order: Annotated[str, typer.Argument(metavar="ORDER", help="The order's number.", show_default=False)],
    last: Annotated[int, typer.Option("--last", min=0, help="How many log rows to show.")] = 10,
) -> int:
    """Show where an order really is, and why."""
    from sitegenctl.cli.selection import read_order_ids
    from sitegenctl.errors import UsageProblem

    ids = read_order_ids([order], None)
    if len(ids) != 1:
        raise UsageProblem("inspect takes one order at a time")
    return asyncio.run(_inspect(call, ids[0], last))


async def _inspect(call: Invocation, order_id: int, last: int) -> int:
    from sitegenctl.cli.terminal import width
    from sitegenctl.operations.inspect import inspect_order
    from sitegenctl.render.order import order_data, order_text
    from sitegenctl.render.output import Report, write
    from sitegenctl.session import open_session

    settings = call.settings()
    async with open_session(settings, call.command) as session:
        view = await inspect_order(
            session.orders, session.queue, session.sites, order_id, grace=settings.grace, last=last
        )
    snapshot = view.snapshot
    errors: list[dict[str, str | None]] = [
        {"message": message, "hint": None, "source": source} for source, message in snapshot.errors.items()
    ]
    data = order_data(order_id, snapshot, view.log)
    report = Report(
        command=call.command,
        data=data,
        rows=[data],
        text=lambda: order_text(order_id, snapshot, view.log, width=width()),
        exit_code=3 if errors else 0,
        errors=errors,
    )
    return write(report, call.output)
