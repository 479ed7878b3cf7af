"""``reset ORDERS`` and ``reset-empty``: generate orders again from nothing."""

from __future__ import annotations

from typing import Annotated

from sitegenctl.cli import signals
from sitegenctl.cli.execute import RunOptions, run_mutation
from sitegenctl.cli.options import (
    DryRun,
    Force,
    Invocation,
    Limit,
    NoEnqueue,
    OrderSelector,
    Terminate,
    examples,
    number,
    option,
    span,
)


@examples(("reset 28", "Discard the site of order 28 and generate it again"))
def reset(
    call: Invocation,
    selector: OrderSelector,
    no_enqueue: NoEnqueue = False,
    keep_files: Annotated[bool, option("--keep-files", help="Keep the files of the site.")] = False,
    terminate: Terminate = False,
    force: Force = False,
    dry_run: DryRun = False,
) -> int:
    """Discard tasks and files of orders and enqueue them again."""
    from sitegenctl.domain.plans.reset import ResetOptions
    from sitegenctl.operations.reset_planner import ResetPlanner

    choice = selector.choice(required=True)
    options = ResetOptions(enqueue=not no_enqueue, keep_files=keep_files, terminate=terminate, force=force)
    # Numbers are a decision about each order; a condition or status may select every site there is.
    by_kind = not isinstance(choice, list)
    run_options = RunOptions(done="reset", dry_run=dry_run, by_kind=by_kind)
    return signals.run(run_mutation(call, ResetPlanner(options=options), choice, run_options))


@examples(("reset-empty --dry-run", "What would be reset"))
def reset_empty(
    call: Invocation,
    selector: OrderSelector,
    min_files: Annotated[
        int, number("--min-files", min=1, max=100_000, help="Fewer files are an empty site.", show_default=True)
    ] = 5,
    older_than: Annotated[
        str, option("--older-than", metavar="TIME", help="Only orders unchanged for at least TIME.", show_default=True)
    ] = "5m",
    limit: Limit = None,
    no_enqueue: NoEnqueue = False,
    dry_run: DryRun = False,
) -> int:
    """Reset GENERATING orders with no task and few files."""
    from sitegenctl.operations.reset_planner import ResetEmptyPlanner

    choice = selector.choice()
    planner = ResetEmptyPlanner(
        min_files=min_files, older_than=span("--older-than", older_than), enqueue=not no_enqueue
    )
    return signals.run(run_mutation(call, planner, choice, RunOptions(done="reset", dry_run=dry_run, limit=limit)))
