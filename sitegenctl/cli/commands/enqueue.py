"""``enqueue ORDER…``: publish a generation task for each order, and journal who did."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from sitegenctl.cli import signals
from sitegenctl.cli.options import (
    Conditions,
    DryRun,
    Force,
    FromFile,
    Invocation,
    OrderArguments,
    Output,
    Search,
    Statuses,
    command,
)

if TYPE_CHECKING:
    from sitegenctl.cli.execute import RunOptions
    from sitegenctl.domain.diagnosis.listing import OrderQuery
    from sitegenctl.domain.plans.result import OperationResult
    from sitegenctl.operations.bulk_plan import Planner
    from sitegenctl.session import Session


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "enqueue")(enqueue)


def enqueue(
    call: Invocation,
    orders: OrderArguments = None,
    source: FromFile = None,
    condition: Conditions = None,
    status: Statuses = None,
    search: Search = None,
    resume: Annotated[
        bool,
        typer.Option("--resume/--no-resume", help="Go on from the last finished stage, or begin again."),
    ] = True,
    force: Force = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow the log to the end; exit 1 if a generation fails.")
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Enqueue orders: set them GENERATING, journal it, publish their tasks."""
    from sitegenctl.cli.execute import RunOptions, run_mutation
    from sitegenctl.cli.order_selection import read_choice
    from sitegenctl.operations.enqueue import EnqueuePlanner

    choice = read_choice(orders, source, condition, status, search)
    planner = EnqueuePlanner(resume=resume, force=force)
    # Numbers are a decision about each order: no question.
    options = RunOptions(done="enqueued", dry_run=dry_run, asks=not isinstance(choice, list), keep_all=wait)
    if wait and not dry_run:
        return signals.run(_enqueue_and_wait(call, planner, choice, options))
    return run_mutation(call, planner, choice, options)


async def _enqueue_and_wait(
    call: Invocation, planner: Planner, choice: list[int] | OrderQuery, options: RunOptions
) -> int:
    from sitegenctl.cli.execute import execute, mutating_session, report

    async with mutating_session(call, options) as session:
        result = await execute(call, session, planner, choice, options)
        if not result.interrupted:
            result = await _wait(session, call, result)
    return report(call, result, options.done)


async def _wait(session: Session, call: Invocation, result: OperationResult) -> OperationResult:
    """Follow every order that has a task, whoever published it, and put the endings into the result."""
    from contextlib import nullcontext
    from dataclasses import replace

    from sitegenctl.cli.terminal import width
    from sitegenctl.domain.orders.order import LogRow
    from sitegenctl.errors import OutputLost
    from sitegenctl.operations.follow import Ended, follow, follow_result, followed
    from sitegenctl.render.log import log_lines
    from sitegenctl.render.text import neutralise

    stream = sys.stdout if call.output is Output.TABLE else sys.stderr
    watched = followed(result)
    endings: dict[int, Ended] = {}
    digits = max((len(str(order_id)) for order_id in watched), default=0)

    async def show() -> None:
        for order_id, item in watched.items():
            # Shown before the wait: whatever becomes of the waiting, this is done.
            print(f"{order_id:>{digits}}  task {neutralise(item.task_id or '')}", file=stream, flush=True)
        # A source that goes away is waited for: what was enqueued goes on without us.
        async for event in follow(session.orders, session.queue, watched, patient=True):
            if isinstance(event, Ended):
                endings[event.order_id] = event
            elif isinstance(event, LogRow):
                prefix = f"{event.order_id:>{digits}} " if len(watched) > 1 else ""
                print(*log_lines(event, width=width(stream), prefix=prefix), sep="\n", file=stream, flush=True)
            else:
                print(f"note: {event.message}", file=sys.stderr, flush=True)

    try:
        # What is written to stdout at the end alone is decided by the whole wait.
        async with signals.while_read() if stream is sys.stdout else nullcontext():
            await show()
    except OutputLost as exc:
        exc.decided = replace(follow_result(result, endings), interrupted=False).exit_code or None
        raise
    except asyncio.CancelledError:
        # Ctrl-C ends the waiting, not the generations: say what is known of each.
        print("note: no longer waiting; what was enqueued stays enqueued", file=sys.stderr)
    return follow_result(result, endings)
