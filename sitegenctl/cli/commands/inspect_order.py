"""``inspect ORDER``: everything about one order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from sitegenctl.cli import complete
from sitegenctl.cli.options import MAX_ROWS, Invocation, WatchInterval, number

if TYPE_CHECKING:
    from sitegenctl.domain.diagnosis.condition import Source
    from sitegenctl.render.output import Report
    from sitegenctl.session import Session

#: Log rows that are shown without ``--last``.
DEFAULT_LAST = 10


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
    call.is_service = watch is not None
    from sitegenctl.cli.order_selection import read_order_ids
    from sitegenctl.cli.terminal import screen
    from sitegenctl.cli.watch import show
    from sitegenctl.domain.diagnosis.remedy import Command, Remedy
    from sitegenctl.errors import UsageProblem
    from sitegenctl.operations.inspect import inspect_order
    from sitegenctl.render.order import order_data, order_text
    from sitegenctl.render.output import Report

    if not order.isdecimal():
        raise UsageProblem(
            f"{order} is neither an order number nor one of: orders, queue, workers, task",
            hint=Remedy.run(Command.INSPECT, help=True),
        )
    (order_id,) = read_order_ids([order], None)

    async def read(session: Session) -> tuple[Report, Mapping[Source, str]]:
        settings = session.settings
        view = await inspect_order(session, order_id, last=DEFAULT_LAST if last is None else last)
        data = order_data(order_id, view.snapshot, view.log, view.timeline, selector=settings.selector)

        def text() -> str:
            return order_text(
                order_id,
                view.snapshot,
                view.timeline,
                screen=screen(),
                selector=settings.selector,
                whole=last is not None,
            )

        return Report(command=call.command, data=data, rows=[data], text=text), view.unanswered

    return show(call, read, watch)
