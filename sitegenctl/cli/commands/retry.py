"""``retry-failed`` and ``start-stuck``: a new task for every order that needs one."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

import typer

from sitegenctl.cli.options import (
    Conditions,
    DryRun,
    FromFile,
    Invocation,
    Limit,
    OlderThan,
    OrderArguments,
    Search,
    Statuses,
    command,
    span,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "retry-failed")(retry_failed)
    command(app, "start-stuck")(start_stuck)


def retry_failed(
    call: Invocation,
    orders: OrderArguments = None,
    source: FromFile = None,
    condition: Conditions = None,
    status: Statuses = None,
    search: Search = None,
    max_attempts: Annotated[
        int, typer.Option("--max-attempts", min=1, max=1000, help="Attempts of an order in all, the first included.")
    ] = 3,
    match: Annotated[
        str | None,
        typer.Option("--match", metavar="REGEX", help="Only orders whose error matches.", show_default=False),
    ] = None,
    older_than: OlderThan = None,
    limit: Limit = None,
    force: Annotated[bool, typer.Option("--force", help="Don't wait for the next attempt to be due.")] = False,
    dry_run: DryRun = False,
) -> int:
    """Retry every order whose last generation failed, as long as it has attempts left, or these of them."""
    from sitegenctl.cli.execute import RunOptions, run_mutation
    from sitegenctl.cli.order_selection import read_restriction
    from sitegenctl.operations.enqueue import RetryPlanner

    choice = read_restriction(orders, source, condition, status, search)
    planner = RetryPlanner(
        max_attempts=max_attempts,
        match=_pattern(match),
        older_than=span("--older-than", older_than) if older_than is not None else timedelta(0),
        force=force,
    )
    return run_mutation(call, planner, choice, RunOptions(done="retried", dry_run=dry_run, limit=limit))


def start_stuck(
    call: Invocation,
    orders: OrderArguments = None,
    source: FromFile = None,
    condition: Conditions = None,
    status: Statuses = None,
    search: Search = None,
    limit: Limit = None,
    dry_run: DryRun = False,
) -> int:
    """Start every BUILDING order that is ready and that nobody enqueued, or these of them."""
    from sitegenctl.cli.execute import RunOptions, run_mutation
    from sitegenctl.cli.order_selection import read_restriction
    from sitegenctl.operations.enqueue import StartPlanner

    choice = read_restriction(orders, source, condition, status, search)
    return run_mutation(call, StartPlanner(), choice, RunOptions(done="started", dry_run=dry_run, limit=limit))


def _pattern(text: str | None) -> re.Pattern[str] | None:
    from sitegenctl.errors import UsageProblem

    if text is None:
        return None
    try:
        return re.compile(text)
    except re.error as exc:
        raise UsageProblem(f"--match: {text!r} is not a regular expression: {exc}") from exc
