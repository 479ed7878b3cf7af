"""``reset ORDER…`` and ``reset-empty``: begin again from nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta
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
    from sitegenctl.domain.listing import OrderQuery


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
    from sitegenctl.cli.selection import read_choice

    choice = read_choice(orders, source, condition, status, search)
    return asyncio.run(
        _reset(
            call,
            choice,
            enqueue=not no_enqueue,
            keep_files=keep_files,
            terminate=terminate,
            force=force,
            dry_run=dry_run,
        )
    )


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
    from sitegenctl.cli.selection import read_restriction

    choice = read_restriction(orders, source, condition, status, search)
    return asyncio.run(
        _reset_empty(
            call,
            choice,
            min_files=min_files,
            older_than=span("--older-than", older_than),
            limit=limit,
            enqueue=not no_enqueue,
            dry_run=dry_run,
        )
    )


async def _reset(
    call: Invocation,
    choice: list[int] | OrderQuery,
    *,
    enqueue: bool,
    keep_files: bool,
    terminate: bool,
    force: bool,
    dry_run: bool,
) -> int:
    from sitegenctl.cli.moving import changing, chosen, plan_and_carry_out, report
    from sitegenctl.operations import reset as operation
    from sitegenctl.session import open_session

    settings = changing(call, dry_run=dry_run)
    async with open_session(settings, call.command) as session:
        planning = operation.plan(
            session.orders,
            session.queue,
            session.sites,
            await chosen(session, choice),
            enqueue=enqueue,
            keep_files=keep_files,
            terminate=terminate,
            force=force,
            grace=settings.grace,
        )
        result = await plan_and_carry_out(call, session, planning, done="reset", asks=True, dry_run=dry_run, files=True)
    return report(call, result, done="reset")


async def _reset_empty(
    call: Invocation,
    choice: list[int] | OrderQuery | None,
    *,
    min_files: int,
    older_than: timedelta,
    limit: int | None,
    enqueue: bool,
    dry_run: bool,
) -> int:
    from sitegenctl.cli.moving import changing, plan_and_carry_out, report, within
    from sitegenctl.operations import reset as operation
    from sitegenctl.session import open_session

    settings = changing(call, dry_run=dry_run)
    async with open_session(settings, call.command) as session:
        planning = operation.reset_empty(
            session.orders,
            session.queue,
            session.sites,
            min_files=min_files,
            older_than=older_than,
            enqueue=enqueue,
            grace=settings.grace,
        )
        planning = await within(session, planning, choice)
        result = await plan_and_carry_out(
            call, session, planning, done="reset", asks=True, dry_run=dry_run, files=True, limit=limit
        )
    return report(call, result, done="reset")
