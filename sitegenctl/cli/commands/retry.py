"""``retry-failed`` and ``start-stuck``: enqueue the orders that need it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from sitegenctl.cli import signals
from sitegenctl.cli.execute import RunOptions, run_mutation
from sitegenctl.cli.options import (
    DryRun,
    Invocation,
    Limit,
    MaxAttempts,
    OlderThan,
    OrderSelector,
    examples,
    option,
    span,
)
from sitegenctl.cli.pattern import Pattern


@examples(
    ("retry-failed --dry-run", "What would be retried"),
    ("retry-failed --match timeout", "Only failures whose reason has this text"),
)
def retry_failed(
    call: Invocation,
    selector: OrderSelector,
    max_attempts: MaxAttempts = 3,
    match: Annotated[str | None, option("--match", metavar="REGEX", help="Only orders whose error matches.")] = None,
    older_than: OlderThan = None,
    limit: Limit = None,
    force: Annotated[bool, option("--force", help="Retry before the next attempt is due.")] = False,
    dry_run: DryRun = False,
) -> int:
    """Retry failed orders that have attempts left."""
    from sitegenctl.operations.enqueue_planner import RetryPlanner

    choice = selector.choice()
    planner = RetryPlanner(
        max_attempts=max_attempts,
        match=Pattern("--match", match) if match is not None else None,
        older_than=span("--older-than", older_than) if older_than is not None else timedelta(0),
        force=force,
    )
    return signals.run(run_mutation(call, planner, choice, RunOptions(done="retried", dry_run=dry_run, limit=limit)))


@examples(("start-stuck --dry-run", "What would be started"), ("start-stuck --yes", "Start without asking"))
def start_stuck(call: Invocation, selector: OrderSelector, limit: Limit = None, dry_run: DryRun = False) -> int:
    """Enqueue BUILDING orders that were never started."""
    from sitegenctl.operations.enqueue_planner import StartPlanner

    choice = selector.choice()
    return signals.run(
        run_mutation(call, StartPlanner(), choice, RunOptions(done="started", dry_run=dry_run, limit=limit))
    )
