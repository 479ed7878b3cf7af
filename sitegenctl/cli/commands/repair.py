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
from sitegenctl.domain.diagnosis.condition import REPAIRABLE, Condition

if TYPE_CHECKING:
    from sitegenctl.domain.diagnosis.listing import OrderQuery
    from sitegenctl.domain.plans.repair import RepairOptions


#: The choices of ``--only``.
if TYPE_CHECKING:
    Repairable = Condition
else:
    Repairable = StrEnum("Repairable", {condition.name: condition.value for condition in REPAIRABLE})


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
    worker_dead: Annotated[
        bool,
        typer.Option("--worker-dead", help="Requeue now: you know that the worker of these orders is dead."),
    ] = False,
    limit: Limit = None,
    dry_run: DryRun = False,
) -> int:
    """Fix duplicated, ghost, orphaned and interrupted orders: all, or these."""
    from sitegenctl.cli.order_selection import read_restriction
    from sitegenctl.domain.diagnosis.remedy import Command, Remedy
    from sitegenctl.domain.plans.repair import RepairOptions
    from sitegenctl.errors import UsageProblem

    choice = read_restriction(orders, source, condition, status, search)
    if worker_dead and not isinstance(choice, list):
        raise UsageProblem(
            "--worker-dead needs order numbers: it is your word for these orders",
            hint=Remedy(command=Command.REPAIR, any_order=True, options=(("worker_dead", True),)),
        )
    options = RepairOptions(
        only=frozenset(Condition(name) for name in only or Repairable), terminate=terminate, worker_dead=worker_dead
    )
    return signals.run(_repair(call, options, choice, limit=limit, dry_run=dry_run))


async def _repair(
    call: Invocation,
    options: RepairOptions,
    choice: list[int] | OrderQuery | None,
    *,
    limit: int | None,
    dry_run: bool,
) -> int:
    from sitegenctl.cli.execute import carry_out, changing, chosen, planned, report
    from sitegenctl.domain.orders.run import WORKER_DEAD
    from sitegenctl.operations import repair as operation
    from sitegenctl.session import open_session

    settings = changing(call, dry_run=dry_run)
    async with open_session(settings, WORKER_DEAD if options.worker_dead else call.command) as session:
        await session.orders.require_writable()
        named = choice if isinstance(choice, list) else None
        plan = await planned(
            operation.plan(session.orders, session.queue, session.sites, options, named=named, grace=settings.grace)
        )
        if choice is not None and named is None:
            plan = plan.only(await chosen(session, choice))
        result = await carry_out(call, session, plan.limited(limit), done="repaired", asks=True, dry_run=dry_run)
    return report(call, result, done="repaired")
