"""``repair``: fix duplicated, ghost, orphaned and interrupted orders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from sitegenctl.cli import signals
from sitegenctl.cli.execute import RunOptions, run_mutation
from sitegenctl.cli.options import DryRun, Invocation, Limit, OrderSelector, Terminate, examples, option
from sitegenctl.domain.diagnosis.condition import REPAIRABLE, Condition
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.errors import UsageProblem

#: The choices of ``--condition``.
if TYPE_CHECKING:
    Repairable = Condition
else:
    Repairable = StrEnum("Repairable", {condition.name: condition.value for condition in REPAIRABLE})


@dataclass(frozen=True, kw_only=True)
class RepairSelector(OrderSelector):
    """The options that select orders to repair; ``--only`` is the older name of ``--condition``."""

    condition: Annotated[
        list[Repairable] | None,
        option("--condition", "-C", "--only", help="Only orders in this condition; repeatable."),
    ] = None


@examples(("repair --dry-run", "What is broken, and what would be done"), ("repair 28", "Fix only order 28"))
def repair(
    call: Invocation,
    selector: RepairSelector,
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
    from sitegenctl.operations.repair_planner import RepairPlanner

    conditions = [Condition(name) for name in selector.condition or ()]
    choice = replace(selector, condition=conditions).choice()
    if not isinstance(choice, list) and not selector.status and selector.search is None:
        choice = None  # the plan itself is restricted to the conditions
    if worker_dead and not isinstance(choice, list):
        raise UsageProblem(
            "--worker-dead needs order numbers",
            hint=Remedy(command=Command.REPAIR, any_order=True, options=(("worker_dead", True),)),
        )
    options = RepairOptions(only=frozenset(conditions or REPAIRABLE), terminate=terminate, worker_dead=worker_dead)
    run_options = RunOptions(
        done="repaired", dry_run=dry_run, limit=limit, journal_as=WORKER_DEAD if worker_dead else None
    )
    return signals.run(run_mutation(call, RepairPlanner(options=options), choice, run_options))
