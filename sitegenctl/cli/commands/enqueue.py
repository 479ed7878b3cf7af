"""``enqueue ORDERS``: publish a generation task for each order."""

from __future__ import annotations

import asyncio
import sys
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from sitegenctl.cli import signals
from sitegenctl.cli.execute import RunOptions, run_mutation
from sitegenctl.cli.options import DryRun, Force, Invocation, OrderSelector, Output, examples, option
from sitegenctl.cli.terminal import width
from sitegenctl.errors import OutputLost
from sitegenctl.render.text import neutralise

if TYPE_CHECKING:
    from sitegenctl.domain.plans.plan import OperationResult
    from sitegenctl.session import Session


@examples(
    ("enqueue 28 --wait", "Follow the log until the site is there"),
    ("enqueue --condition held --dry-run", "What would be enqueued"),
)
def enqueue(
    call: Invocation,
    selector: OrderSelector,
    resume: Annotated[
        bool, option("--resume/--no-resume", help="Resume after the last finished stage.", show_default=True)
    ] = True,
    force: Force = False,
    wait: Annotated[bool, option("--wait", help="Follow the log until done; exit 1 on failure.")] = False,
    dry_run: DryRun = False,
) -> int:
    """Enqueue orders for generation."""
    from sitegenctl.operations.enqueue_planner import EnqueuePlanner

    choice = selector.choice(required=True)
    planner = EnqueuePlanner(resume=resume, force=force)
    # Numbers are a decision about each order: no question.
    options = RunOptions(done="enqueued", dry_run=dry_run, asks=not isinstance(choice, list), keep_all=wait)
    return signals.run(run_mutation(call, planner, choice, options, follow=_wait if wait and not dry_run else None))


async def _wait(call: Invocation, session: Session, result: OperationResult) -> OperationResult:
    """Follow every order that has a task, and add the outcomes to the result."""
    from sitegenctl.domain.orders.order import LogRow
    from sitegenctl.operations.follow import Ended, follow, follow_result, followed
    from sitegenctl.operations.forecast import forecast_tasks
    from sitegenctl.render.log import log_lines

    stream = sys.stdout if call.output is Output.TABLE else sys.stderr
    watched = followed(result)
    endings: dict[int, Ended] = {}
    digits = max((len(str(order_id)) for order_id in watched), default=0)

    async def show() -> None:
        for order_id, item in watched.items():
            # Before the wait, which may be interrupted.
            print(f"{order_id:>{digits}}  task {neutralise(item.task_id or '')}", file=stream, flush=True)
        ids = {item.task_id: order_id for order_id, item in watched.items() if item.task_id is not None}
        for task_id, text in (await forecast_tasks(session, ids.keys(), watched.keys())).items():
            print(f"{ids[task_id]:>{digits}}  {text}", file=stream, flush=True)
        # Wait for a source that becomes unreachable: the generations go on.
        async for event in follow(session, watched, patient=True):
            if isinstance(event, Ended):
                endings[event.order_id] = event
            elif isinstance(event, LogRow):
                prefix = f"{event.order_id:>{digits}} " if len(watched) > 1 else ""
                print(*log_lines(event, width=width(stream), prefix=prefix), sep="\n", file=stream, flush=True)
            else:
                print(f"note: {event.message}", file=sys.stderr, flush=True)

    try:
        # Without the log on stdout, only the whole wait decides the exit code.
        async with signals.while_read() if stream is sys.stdout else nullcontext():
            await show()
    except OutputLost as exc:
        exc.decided = replace(follow_result(result, endings), interrupted=False).exit_code or None
        raise
    except asyncio.CancelledError:
        # Ctrl-C ends the wait, not the generations: report what is known.
        print("note: stopped waiting; the orders stay enqueued", file=sys.stderr)
    return follow_result(result, endings)
