"""``repair``: fix duplicated, ghost, orphaned and interrupted orders."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from sitegenctl.cli import signals
from sitegenctl.cli.execute import RunOptions, run_mutation
from sitegenctl.cli.options import DryRun, Invocation, Limit, OrderSelector, Terminate, option
from sitegenctl.domain.diagnosis.condition import REPAIRABLE, Condition
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.errors import UsageProblem

#: The choices of ``--only``.
if TYPE_CHECKING:
    Repairable = Condition
else:
    Repairable = StrEnum("Repairable", {condition.name: condition.value for condition in REPAIRABLE})


def repair(
    call: Invocation,
    selector: OrderSelector,
    only: Annotated[list[Repairable] | None, option("--only", help="Fix only this condition; repeatable.")] = None,
    terminate: Terminate = False,
    worker_dead: Annotated[
        bool, option("--worker-dead", help="Requeue now, because the worker is known dead.")
    ] = False,
    limit: Limit = None,
    dry_run: DryRun = False,
) -> int:
    """Fix duplicated, ghost, orphaned and interrupted orders."""
    from sitegenctl.domain.orders.run import WORKER_DEAD
    from sitegenctl.domain.plans.repair import RepairOptions
    from sitegenctl.operations.planners import RepairPlanner

    choice = selector.choice()
    if worker_dead and not isinstance(choice, list):
        raise UsageProblem(
            "--worker-dead needs order numbers",
            hint=Remedy(command=Command.REPAIR, any_order=True, options=(("worker_dead", True),)),
        )
    options = RepairOptions(
        only=frozenset(Condition(name) for name in only or Repairable), terminate=terminate, worker_dead=worker_dead
    )
    run_options = RunOptions(
        done="repaired", dry_run=dry_run, limit=limit, journal_as=WORKER_DEAD if worker_dead else None
    )
    return signals.run(run_mutation(call, RepairPlanner(options=options), choice, run_options))
