"""``stats``: how generation went, told from the generation log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sitegenctl.cli import signals
from sitegenctl.cli.options import Invocation, Output, command
from sitegenctl.errors import UsageProblem

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sitegenctl.config.settings import Settings
    from sitegenctl.domain.statistics.statistics import Statistics

_STDOUT = "-"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "stats")(stats)


def stats(
    call: Invocation,
    since: Annotated[
        str,
        typer.Option("--since", metavar="TIME", help="How far back: 7d, 12h, or from 2026-01-31 on."),
    ] = "7d",
    html: Annotated[
        str | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write a page with plots, which needs no network; - is stdout.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Show throughput, success, durations and reasons of failure."""
    from sitegenctl.cli.commands.logs import read_since
    from sitegenctl.cli.terminal import screen
    from sitegenctl.config.atomic_write import output_file, write_whole
    from sitegenctl.render.output import Report, write
    from sitegenctl.render.statistics import STATISTICS_COLUMNS, statistics_data, statistics_rows, statistics_text

    settings = call.settings()
    window = read_since(since)
    to_stdout = html == _STDOUT
    if to_stdout and call.output is not Output.TABLE:
        raise UsageProblem(f"--html - and -o {call.output} both want stdout", hint="write one of them to a file")
    target = output_file("--html", html) if html is not None and not to_stdout else None
    seen = signals.run(_statistics(call, settings, window))
    page = ""
    if html is not None:
        from sitegenctl.render.statistics_page import statistics_page

        page = statistics_page(seen, context=settings.context)
        if target is not None:
            write_whole(target, page)
            page = f"wrote {target}\n"
    report = Report(
        command=call.command,
        data={**statistics_data(seen), **({"html": html} if html is not None else {})},
        rows=statistics_rows(seen),
        columns=STATISTICS_COLUMNS,
        text=lambda: page or statistics_text(seen, screen()),
    )
    return write(report, call.output)


async def _statistics(call: Invocation, settings: Settings, since: timedelta | datetime) -> Statistics:
    from sitegenctl.cli.execute import with_spinner
    from sitegenctl.operations.stats import statistics
    from sitegenctl.session import open_session

    async with open_session(settings, call.command) as session:
        return await with_spinner(statistics(session.orders, since), "reading the log…")
