"""``inspect``: the overview, or below it an order, lists of orders, the queue, the workers, a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from sitegenctl.cli import signals
from sitegenctl.cli.commands.inspect_order import order
from sitegenctl.cli.commands.inspect_orders import orders
from sitegenctl.cli.commands.inspect_queue import queue, task, workers
from sitegenctl.cli.options import Invocation, LiveState, command, gathered, running, with_globals
from sitegenctl.cli.watch import is_watching, show

if TYPE_CHECKING:
    from sitegenctl.render.output import Report

_ORDER = "ORDER"


class _OrderOrCommand(TyperGroup):
    """``inspect 42`` is ``inspect ORDER 42``: what is no command is taken for an order."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            args = [_ORDER, *args]
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        suggested = [item for item in super().shell_complete(ctx, incomplete) if item.value != _ORDER]
        if incomplete.isdigit():
            suggested += self.commands[_ORDER].params[0].shell_complete(ctx, incomplete)
        return suggested


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        help="Where orders really are, and why; with nothing behind it, everything on one screen.",
        cls=_OrderOrCommand,
    )
    group.callback(invoke_without_command=True)(with_globals(inspect))
    command(group, _ORDER, service=is_watching)(order)
    command(group, "orders", service=is_watching)(orders)
    command(group, "queue", service=is_watching)(queue)
    command(group, "workers", service=is_watching)(workers)
    command(group, "task")(task)
    app.add_typer(group, name="inspect")


def inspect(ctx: typer.Context, watch: LiveState = None) -> None:
    """Show where orders really are, and why; with nothing behind it, everything on one screen."""
    if ctx.invoked_subcommand is not None:
        return
    running.set("inspect")
    call = Invocation(command="inspect", options=gathered(ctx))
    raise typer.Exit(signals.stoppable(lambda: show(call, lambda: _overview(call), watch), service=watch is not None))


async def _overview(call: Invocation) -> Report:
    from sitegenctl.cli.terminal import screen
    from sitegenctl.operations.overview import overview
    from sitegenctl.render.output import Report
    from sitegenctl.render.overview import OVERVIEW_COLUMNS, overview_data, overview_rows, overview_text
    from sitegenctl.render.sources import degraded
    from sitegenctl.session import open_session, queue_terms

    settings = call.settings()
    async with open_session(settings, call.command) as session:
        seen = await overview(
            session.orders, session.queue, session.sites, task_name=settings.task, grace=settings.grace
        )
    report = Report(
        command=call.command,
        data=overview_data(seen, selector=settings.selector),
        rows=overview_rows(seen),
        columns=OVERVIEW_COLUMNS,
        text=lambda: overview_text(seen, screen(), queue=settings.queue, selector=settings.selector),
    )
    return degraded(report, seen.unanswered, queue_terms(settings), selector=settings.selector)
