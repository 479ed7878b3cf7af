"""``repair``: put orders right that are in two hands, in the wrong ones, or in no one's."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

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
    from sitegenctl.cli.execute import RunOptions, run_mutation
    from sitegenctl.cli.order_selection import read_restriction
    from sitegenctl.domain.diagnosis.remedy import Command, Remedy
    from sitegenctl.domain.orders.run import WORKER_DEAD
    from sitegenctl.domain.plans.repair import RepairOptions
    from sitegenctl.errors import UsageProblem
    from sitegenctl.operations.repair import RepairPlanner

    choice = read_restriction(orders, source, condition, status, search)
    if worker_dead and not isinstance(choice, list):
        raise UsageProblem(
            "--worker-dead needs order numbers: it is your word for these orders",
            hint=Remedy(command=Command.REPAIR, any_order=True, options=(("worker_dead", True),)),
        )
    options = RepairOptions(
        only=frozenset(Condition(name) for name in only or Repairable), terminate=terminate, worker_dead=worker_dead
    )
    run_options = RunOptions(
        done="repaired", dry_run=dry_run, limit=limit, journal_as=WORKER_DEAD if worker_dead else None
    )
    return run_mutation(call, RepairPlanner(options=options), choice, run_options)
