"""``inspect``: the overview; below it an order, lists of orders, the queue, the workers, a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from sitegenctl.cli.commands.inspect_order import order
from sitegenctl.cli.commands.inspect_orders import orders
from sitegenctl.cli.commands.inspect_queue import queue, task, workers
from sitegenctl.cli.options import Invocation, WatchInterval, adapt, invoke
from sitegenctl.cli.watch import show

if TYPE_CHECKING:
    from sitegenctl.domain.diagnosis.condition import Source
    from sitegenctl.render.output import Report
    from sitegenctl.session import Session

_ORDER = "ORDER"


class _OrderOrCommand(TyperGroup):
    """Runs ``inspect 42`` as ``inspect ORDER 42``: a word that is not a command is an order."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            args = [_ORDER, *args]
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        suggested = [item for item in super().shell_complete(ctx, incomplete) if item.value != _ORDER]
        if incomplete.isdigit():
            suggested += self.commands[_ORDER].params[0].shell_complete(ctx, incomplete)
        return suggested


def _overview(ctx: typer.Context, watch: WatchInterval = None) -> None:
    """Show the overview, or an order, list, queue or task."""
    if ctx.invoked_subcommand is None:
        raise typer.Exit(invoke(ctx, lambda call: _show_overview(call, watch)))


def _show_overview(call: Invocation, watch: str | None) -> int:
    call.is_service = watch is not None
    return show(call, _read_overview, watch)


async def _read_overview(session: Session) -> tuple[Report, Mapping[Source, str]]:
    from sitegenctl.cli.terminal import screen
    from sitegenctl.operations.overview import overview
    from sitegenctl.render.output import Report
    from sitegenctl.render.overview import OVERVIEW_COLUMNS, overview_data, overview_rows, overview_text

    settings = session.settings
    view = await overview(session)
    report = Report(
        command="inspect",
        data=overview_data(view, selector=settings.selector),
        rows=overview_rows(view),
        columns=OVERVIEW_COLUMNS,
        text=lambda: overview_text(view, screen(), queue=settings.queue, selector=settings.selector),
    )
    return report, view.unanswered


inspect = typer.Typer(help="Show the overview, or an order, list, queue or task.", cls=_OrderOrCommand)
inspect.callback(invoke_without_command=True)(adapt(_overview))
inspect.command(_ORDER)(adapt(order))
inspect.command("orders")(adapt(orders))
inspect.command("queue")(adapt(queue))
inspect.command("workers")(adapt(workers))
inspect.command("task")(adapt(task))
