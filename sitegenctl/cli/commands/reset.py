"""``reset ORDER…`` and ``reset-empty``: begin again from nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from sitegenctl.operations.bulk_plan import BulkPlanner
    from sitegenctl.session import Session


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
    from sitegenctl.cli.execute import chosen, move
    from sitegenctl.cli.order_selection import read_choice
    from sitegenctl.operations import reset as operation

    choice = read_choice(orders, source, condition, status, search)

    async def plan(session: Session) -> BulkPlanner:
        return operation.plan(
            session.orders,
            session.queue,
            session.sites,
            await chosen(session, choice),
            enqueue=not no_enqueue,
            keep_files=keep_files,
            terminate=terminate,
            force=force,
            grace=session.settings.grace,
        )

    # Numbers are a decision about each order; a condition or status may take every site there is.
    by_kind = not isinstance(choice, list)
    return move(call, plan, done="reset", dry_run=dry_run, files=True, by_kind=by_kind)


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
    from sitegenctl.cli.execute import move, within
    from sitegenctl.cli.order_selection import read_restriction
    from sitegenctl.operations import reset as operation

    choice = read_restriction(orders, source, condition, status, search)
    patience = span("--older-than", older_than)

    async def plan(session: Session) -> BulkPlanner:
        planning = operation.reset_empty(
            session.orders,
            session.queue,
            session.sites,
            min_files=min_files,
            older_than=patience,
            enqueue=not no_enqueue,
            grace=session.settings.grace,
        )
        return await within(session, planning, choice)

    return move(call, plan, done="reset", dry_run=dry_run, files=True, limit=limit)
