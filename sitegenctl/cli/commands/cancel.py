"""``cancel ORDERS``: remove orders from the queue and hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from sitegenctl.cli import complete, signals
from sitegenctl.cli.execute import RunOptions, run_mutation
from sitegenctl.cli.options import DryRun, Invocation, OrderSelector, Terminate, examples, option
from sitegenctl.errors import UsageProblem

if TYPE_CHECKING:
    from sitegenctl.domain.orders.order import OrderStatus


@examples(
    ("cancel 28", "Remove order 28 from the queue and hold it"), ("cancel 28 --terminate", "Also if it is running")
)
def cancel(
    call: Invocation,
    selector: OrderSelector,
    terminate: Terminate = False,
    to: Annotated[
        str,
        option("--to", metavar="STATUS", help="Set this status instead of BUILDING.", autocompletion=complete.statuses),
    ] = "building",
    dry_run: DryRun = False,
) -> int:
    """Remove orders from the queue and hold them."""
    from sitegenctl.operations.cancel_planner import CancelPlanner

    planner = CancelPlanner(terminate=terminate, to=_target(to))
    choice = selector.choice(required=True)
    return signals.run(run_mutation(call, planner, choice, RunOptions(done="cancelled", dry_run=dry_run)))


def _target(word: str) -> OrderStatus:
    from sitegenctl.cli.order_selection import read_statuses
    from sitegenctl.domain.plans.cancel import CANCEL_TARGETS

    (status,) = read_statuses([word])
    if status not in CANCEL_TARGETS:
        known = ", ".join(target.lower() for target in CANCEL_TARGETS)
        raise UsageProblem(f"--to: {status} is not allowed for a cancelled order", hint=f"one of: {known}")
    return status
