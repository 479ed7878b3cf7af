"""``reset ORDER…`` and ``reset-empty``: begin again from nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from sitegenctl.cli.options import (
    Conditions,
    DryRun,
    Force,
    FromFile,
    Invocation,
    Limit,
    NoEnqueue,
    OrderArguments,
    Search,
    Statuses,
    Terminate,
    command,
    span,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "reset")(reset)
    command(app, "reset-empty")(reset_empty)


def reset(
    call: Invocation,
    orders: OrderArguments = None,
    source: FromFile = None,
    condition: Conditions = None,
    status: Statuses = None,
    search: Search = None,
    no_enqueue: NoEnqueue = False,
    keep_files: Annotated[bool, typer.Option("--keep-files", help="Leave the site where it is.")] = False,
    terminate: Terminate = False,
    force: Force = False,
    dry_run: DryRun = False,
) -> int:
    """Begin orders again: tasks withdrawn, files to the trash, a fresh task that resumes nothing."""
    from sitegenctl.cli.execute import RunOptions, run_mutation
    from sitegenctl.cli.order_selection import read_choice
    from sitegenctl.domain.plans.reset import ResetOptions
    from sitegenctl.operations.reset import ResetPlanner

    choice = read_choice(orders, source, condition, status, search)
    options = ResetOptions(enqueue=not no_enqueue, keep_files=keep_files, terminate=terminate, force=force)
    # Numbers are a decision about each order; a condition or status may select every site there is.
    by_kind = not isinstance(choice, list)
    run_options = RunOptions(done="reset", dry_run=dry_run, by_kind=by_kind)
    return run_mutation(call, ResetPlanner(options=options), choice, run_options)


def reset_empty(
    call: Invocation,
    orders: OrderArguments = None,
    source: FromFile = None,
    condition: Conditions = None,
    status: Statuses = None,
    search: Search = None,
    min_files: Annotated[
        int, typer.Option("--min-files", min=1, max=100_000, help="Fewer files than this are an empty site.")
    ] = 5,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="TIME", help="Only orders that have been still for so long.")
    ] = "5m",
    limit: Limit = None,
    no_enqueue: NoEnqueue = False,
    dry_run: DryRun = False,
) -> int:
    """Reset every GENERATING order that has no task and (almost) no files, or these of them."""
    from sitegenctl.cli.execute import RunOptions, run_mutation
    from sitegenctl.cli.order_selection import read_restriction
    from sitegenctl.operations.reset import ResetEmptyPlanner

    choice = read_restriction(orders, source, condition, status, search)
    planner = ResetEmptyPlanner(
        min_files=min_files, older_than=span("--older-than", older_than), enqueue=not no_enqueue
    )
    return run_mutation(call, planner, choice, RunOptions(done="reset", dry_run=dry_run, limit=limit))
