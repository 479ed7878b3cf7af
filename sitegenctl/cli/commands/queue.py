"""``queue pause|resume|purge``: the queue as a whole."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from sitegenctl.cli.execute import (
    RunOptions,
    confirm_and_execute,
    mutating_session,
    progress,
    read_answer,
    report,
    require_terminal,
    require_writable,
)
from sitegenctl.cli.options import DryRun, Invocation, examples, group
from sitegenctl.domain.diagnosis.remedy import Hint
from sitegenctl.errors import Declined
from sitegenctl.render.command import hint_text
from sitegenctl.render.output import write
from sitegenctl.render.text import neutralise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sitegenctl.config.settings import Settings
    from sitegenctl.operations.cancel_planner import Purge


@examples(("queue pause", "Workers finish what they have and take nothing new"))
async def pause(call: Invocation, dry_run: DryRun = False) -> int:
    """Make the workers stop taking tasks from the queue."""
    return await _consume(call, pausing=True, dry_run=dry_run)


async def resume(call: Invocation, dry_run: DryRun = False) -> int:
    """Make the workers take tasks from the queue again."""
    return await _consume(call, pausing=False, dry_run=dry_run)


async def _consume(call: Invocation, *, pausing: bool, dry_run: bool) -> int:
    from sitegenctl.operations.inspect import would_consume
    from sitegenctl.render.queue import consumers_report
    from sitegenctl.session import open_session

    settings = require_writable(call, dry_run=dry_run)
    async with open_session(settings, call.command) as session:
        if dry_run:
            consumers = await would_consume(session.workers)
        else:
            consumers = await (session.queue.pause() if pausing else session.queue.resume())
        texts = session.texts
    report = consumers_report(
        consumers,
        command=call.command,
        queue=settings.queue,
        texts=texts,
        pausing=pausing,
        dry_run=dry_run,
        selector=settings.selector,
    )
    return write(report, call.output)


async def purge(call: Invocation, dry_run: DryRun = False) -> int:
    """Remove every task from the queue and hold its order."""
    from sitegenctl.operations.cancel_planner import plan_purge_of
    from sitegenctl.render.queue import survivors_note

    options = RunOptions(done="cancelled", dry_run=dry_run, asks=False)
    async with mutating_session(call, options) as session:
        with progress():
            purging = await plan_purge_of(session)
        surviving = survivors_note(purging.survivors, purging.foreign)
        plan = replace(purging.plan, notes=(*surviving, *purging.plan.notes))
        if plan.steps and not dry_run and not call.agreed:
            _confirm_by_name(call, purging, plan.notes, session.settings)
        result = await confirm_and_execute(call, session, plan, options)
    return report(call, result, options.done)


def _confirm_by_name(call: Invocation, purging: Purge, notes: Sequence[Hint], settings: Settings) -> None:
    """Ask for the name of the queue. Raises ``Declined`` for another answer."""
    require_terminal(call)
    count = len(purging.plan.steps)
    print(
        f"{count} {'order' if count == 1 else 'orders'} would lose their tasks and go back to BUILDING, on hold.",
        file=sys.stderr,
    )
    for note in notes:
        print(f"note: {neutralise(hint_text(note, settings.selector) or '')}", file=sys.stderr)
    if read_answer(f"Type the queue's name ({settings.queue}) to go on: ") != settings.queue.lower():
        raise Declined


queue = group(help="Pause, resume or empty the queue.", commands={"pause": pause, "resume": resume, "purge": purge})
