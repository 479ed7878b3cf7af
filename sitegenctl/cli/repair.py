"""``repair``: put orders right that are in two hands, in the wrong ones, or in no one's."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Annotated

import typer

from sitegenctl.cli.options import DryRun, Invocation, Limit, Terminate, command


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
    only: Annotated[
        list[Repairable] | None,
        typer.Option("--only", help="Only orders in this condition; may be repeated.", show_default=False),
    ] = None,
    terminate: Terminate = False,
    limit: Limit = None,
    dry_run: DryRun = False,
) -> int:
    """Mend what is duplicated, ghost, orphaned or interrupted."""
    return asyncio.run(_repair(call, only or list(Repairable), terminate=terminate, limit=limit, dry_run=dry_run))


async def _repair(
    call: Invocation, only: list[Repairable], *, terminate: bool, limit: int | None, dry_run: bool
) -> int:
    from sitegenctl.cli.moving import carry_out, changing, planned, report
    from sitegenctl.domain.condition import Condition
    from sitegenctl.operations import repair as operation
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
        result = await carry_out(call, session, plan.limited(limit), done="repaired", asks=True, dry_run=dry_run)
    return report(call, result, done="repaired")
