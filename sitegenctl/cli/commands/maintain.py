"""``maintain``: fix what needs no person, for cron and timers. It never asks."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

from sitegenctl.cli import complete
from sitegenctl.cli.execute import require_writable
from sitegenctl.cli.options import DryRun, Invocation, MaxAttempts, examples, number, option, span, trash_age
from sitegenctl.errors import Busy, SourceError, UsageProblem
from sitegenctl.render.output import write
from sitegenctl.render.text import neutralise

if TYPE_CHECKING:
    from sitegenctl.config.settings import Settings
    from sitegenctl.domain.health.news import Known
    from sitegenctl.domain.plans.maintenance import Maintenance
    from sitegenctl.domain.ports import ReportMemory

_LONGEST_JITTER = timedelta(hours=1)

# Time limit for --notify, in seconds.
_NOTIFY_TIMEOUT = 5.0


@examples(("maintain --dry-run", "What a run would do now"), ("maintain --yes", "One run, as cron starts it"))
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
        str | None, option("--notify", metavar="URL", help="Post what became worse or better to URL.")
    ] = None,
    notify_format: Annotated[
        str | None,
        option(
            "--notify-format",
            metavar="FORMAT",
            help="json or slack (default json).",
            autocompletion=complete.one_of("json", "slack"),
        ),
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
    settings = require_writable(call, dry_run=options.dry_run, notify=notify, notify_format=notify_format)
    receiver = settings.notify.reveal() if settings.notify else None
    if receiver is not None:
        from sitegenctl.adapters.system.webhook import require_http

        require_http(receiver)
    await asyncio.sleep(random.uniform(0, wait.total_seconds()))  # noqa: S311 - to spread hosts, not to hide anything
    with ExitStack() as stack:
        async with open_session(settings, call.command) as session:
            memory = session.reported
            # Held until the news is posted: the lock in the database ends before, and is none where that is down.
            is_free = dry_run or stack.enter_context(memory.lock())
            known = memory.load_known(receiver) if receiver is not None else None
            run = await operation.maintain(session, memory, replace(options, known=known)) if is_free else None
        if run is None:
            raise Busy("another maintenance run is active; nothing was done")
        report = maintenance_report(run, command=call.command, verbose=call.verbose, selector=settings.selector)
        try:
            # First the output, since the notification may fail; it is sent even if the output cannot be written.
            return write(report, call.output)
        finally:
            if receiver is not None and known is not None and not run.interrupted:
                await _notify(receiver, known, run, settings, memory)


async def _notify(receiver: str, known: Known, run: Maintenance, settings: Settings, memory: ReportMemory) -> None:
    """Post what is news since the last post. A failure is printed, does not fail the run, and is tried again."""
    from sitegenctl.adapters.system.webhook import post_json
    from sitegenctl.domain.health.news import news_since
    from sitegenctl.render.news import FORMATS, news_line

    now = datetime.now(UTC)
    news, state = news_since(known, run, now=now, queue=settings.queue)
    if run.dry_run:
        for each in news:
            print(f"note: would post: {news_line(each)}", file=sys.stderr)
        return
    if news:
        value = FORMATS[settings.notify_format](news, context=settings.context, at=now)
        try:
            await post_json(receiver, value, timeout=_NOTIFY_TIMEOUT)
        except SourceError as exc:
            print(f"note: {exc.message}", file=sys.stderr)
            state = known.unposted(state)
    try:
        memory.save_known(receiver, state)
    except UsageProblem as exc:
        # A repeated message is better than a missing one.
        print(f"warning: the same news is posted with every run: {neutralise(exc.message)}", file=sys.stderr)
