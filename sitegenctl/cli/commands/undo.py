"""``undo [OPERATION]``: reverse what a command did to orders."""

from __future__ import annotations

from typing import Annotated

import typer

from sitegenctl.cli.execute import RunOptions, execute, mutating_session, progress, report
from sitegenctl.cli.options import DryRun, Invocation, examples


@examples(("undo --dry-run", "What undoing your last command would do"), ("undo 1v3k8q2-x7m", "Undo this operation"))
async def undo(
    call: Invocation,
    operation: Annotated[
        str | None, typer.Argument(help="Operation to undo, such as 1v3k8q2-x7m; default: your last one.")
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Reverse what a command did to orders."""
    from sitegenctl.operations.undo import operations_to_undo, undoable_orders
    from sitegenctl.operations.undo_planner import UndoPlanner
    from sitegenctl.render.outcomes import candidates_report
    from sitegenctl.render.output import write

    options = RunOptions(done="undone", dry_run=dry_run)
    async with mutating_session(call, options) as session:
        with progress():
            chosen, *others = await operations_to_undo(session, operation)
        if others:
            candidates = [chosen, *others]
            with progress():
                counts = await undoable_orders(session, candidates)
            return write(candidates_report(candidates, counts, selector=session.settings.selector), call.output)
        order_ids = [entry.order_id for entry in chosen.entries]
        result = await execute(call, session, UndoPlanner(operation=chosen), order_ids, options)
    return report(call, result, options.done)
