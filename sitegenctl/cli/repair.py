"""``repair``: put orders right that are in two hands, in the wrong ones, or in no one's."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sitegenctl.cli import signals
from sitegenctl.cli.options import (
    Conditions,
    DryRun,
    FromFile,
    Invocation,
    Limit,
    OrderArguments,
    Search,
    Statuses,
    Terminate,
    command,
)

if TYPE_CHECKING:
    from sitegenctl.domain.listing import OrderQuery


class Repairable(StrEnum):
    """What can be repaired; the values are conditions."""

    DUPLICATED = "duplicated"
    GHOST = "ghost"
    ORPHANED = "orphaned"
    INTERRUPTED = "interrupted"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "repair")(repair)


def repair(
    call: Invocation,
    orders: OrderArguments = None,
    source: FromFile = None,
    condition: Conditions = None,
    status: Statuses = None,
    search: Search = None,
    only: Annotated[
        list[Repairable] | None,
        typer.Option("--only", help="Only orders in this condition; may be repeated.", show_default=False),
    ] = None,
    terminate: Terminate = False,
    limit: Limit = None,
    dry_run: DryRun = False,
) -> int:
    """Mend what is duplicated, ghost, orphaned or interrupted: all of it, or these orders."""
    from sitegenctl.cli.selection import read_restriction

    choice = read_restriction(orders, source, condition, status, search)
    return signals.run(
        _repair(call, only or list(Repairable), choice, terminate=terminate, limit=limit, dry_run=dry_run)
    )


async def _repair(
    call: Invocation,
    only: list[Repairable],
    choice: list[int] | OrderQuery | None,
    *,
    terminate: bool,
    limit: int | None,
    dry_run: bool,
) -> int:
    from sitegenctl.cli.moving import carry_out, changing, chosen, planned, report
    from sitegenctl.domain.condition import Condition
    from sitegenctl.operations import repair as operation
    from sitegenctl.operations.planning import naming
    from sitegenctl.session import open_session

    settings = changing(call, dry_run=dry_run)
    async with open_session(settings, call.command) as session:
        plan = await planned(
            operation.plan(
                session.orders,
                session.queue,
                session.sites,
                only=frozenset(Condition(name) for name in only),
                terminate=terminate,
                grace=settings.grace,
            )
        )
        if choice is not None:
            order_ids = await chosen(session, choice)
            plan = plan.only(order_ids)
            if isinstance(choice, list):
                plan = await naming(plan, session.orders, order_ids)
        result = await carry_out(call, session, plan.limited(limit), done="repaired", asks=True, dry_run=dry_run)
    return report(call, result, done="repaired")
