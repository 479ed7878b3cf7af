"""``maintain``: fix what needs no person, for cron and timers. It never asks."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import Annotated

from sitegenctl.cli.execute import require_writable
from sitegenctl.cli.options import DryRun, Invocation, MaxAttempts, number, option, span, trash_age
from sitegenctl.errors import Busy, SourceError, UsageProblem
from sitegenctl.render.output import Report, write

_LONGEST_JITTER = timedelta(hours=1)

# Time limit for --notify, in seconds.
_NOTIFY_TIMEOUT = 5.0


async def maintain(
    call: Invocation,
    max_actions: Annotated[
        int, number("--max-actions", min=1, max=100_000, help="Orders per step.", show_default=True)
    ] = 100,
    max_attempts: MaxAttempts = 3,
    keep_trash: Annotated[
        str, option("--keep-trash", metavar="TIME", help="Keep old sites in the trash for TIME.", show_default=True)
    ] = "7d",
    jitter: Annotated[
        str | None, option("--jitter", metavar="TIME", help="Start after a random delay up to TIME.")
    ] = None,
    notify: Annotated[
        str | None, option("--notify", metavar="URL", help="Post the JSON report, unless it is empty.")
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Fix orders automatically, for cron and timers."""
    import random

    from sitegenctl.operations import maintain as operation
    from sitegenctl.render.maintenance import maintenance_report
    from sitegenctl.session import open_session

    keep = trash_age("--keep-trash", keep_trash)
    options = operation.MaintainOptions(
        max_actions=max_actions, max_attempts=max_attempts, keep_trash=keep, dry_run=dry_run
    )
    wait = span("--jitter", jitter) if jitter is not None else timedelta(0)
    if wait > _LONGEST_JITTER:
        raise UsageProblem(f"--jitter {jitter} is too long: the next run would begin before", hint="1h or less")
    call.is_recurring = not dry_run
    settings = require_writable(call, dry_run=options.dry_run)
    if notify is not None:
        from sitegenctl.adapters.system.webhook import require_http

        require_http(notify)
    await asyncio.sleep(random.uniform(0, wait.total_seconds()))  # noqa: S311 - to spread hosts, not to hide anything
    async with open_session(settings, call.command) as session:
        run = await operation.maintain(session, session.reported, options)
    if run is None:
        raise Busy("another maintenance run is active; nothing was done")
    report = maintenance_report(run, command=call.command, verbose=call.verbose, selector=settings.selector)
    try:
        # First the output, since the notification may fail; it is sent even if the output cannot be written.
        return write(report, call.output)
    finally:
        if notify is not None and not run.is_quiet:
            await _notify(notify, report)


async def _notify(url: str, report: Report) -> None:
    """Post the report. A failure is printed and does not fail the run."""
    from sitegenctl.adapters.system.webhook import post_json
    from sitegenctl.domain.plans.plan import envelope

    value = envelope(report.command, exit_code=report.exit_code, data=report.data, errors=report.errors)
    try:
        await post_json(url, value, timeout=_NOTIFY_TIMEOUT)
    except SourceError as exc:
        print(f"note: {exc.message}", file=sys.stderr)
