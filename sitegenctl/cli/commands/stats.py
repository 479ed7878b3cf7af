"""``stats``: statistics of past generations, from the generation log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sitegenctl.cli import signals
from sitegenctl.cli.options import Invocation, Output, command, option
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
        str, option("--since", metavar="TIME", help="Start of the period: 12h or 2026-01-31.", show_default=True)
    ] = "7d",
    html: Annotated[
        str | None, option("--html", metavar="FILE", help="Write an HTML page with plots; - is stdout.")
    ] = None,
) -> int:
    """Show throughput, success rate, durations and failure reasons."""
    from sitegenctl.cli.commands.logs import read_since
    from sitegenctl.cli.terminal import screen
    from sitegenctl.config.atomic_write import output_file, write_whole
    from sitegenctl.render.statistics import STATISTICS_COLUMNS, statistics_data, statistics_rows, statistics_text

    settings = call.settings()
    window = read_since(since)
    to_stdout = html == _STDOUT
    if to_stdout and call.output is not Output.TABLE:
        raise UsageProblem(f"--html - and -o {call.output} both write to stdout", hint="write one of them to a file")
    target = output_file("--html", html) if html is not None and not to_stdout else None
    statistics = signals.run(_statistics(call, settings, window))
    page = ""
    if html is not None:
        from sitegenctl.render.statistics_page import statistics_page

        page = statistics_page(statistics, context=settings.context)
        if target is not None:
            write_whole(target, page)
            page = f"wrote {target}\n"
    return call.write(
        {**statistics_data(statistics), **({"html": html} if html is not None else {})},
        lambda: page or statistics_text(statistics, screen()),
        rows=statistics_rows(statistics),
        columns=STATISTICS_COLUMNS,
    )


async def _statistics(call: Invocation, settings: Settings, since: timedelta | datetime) -> Statistics:
    from sitegenctl.cli.execute import with_spinner
    from sitegenctl.operations.overview import statistics
    from sitegenctl.session import open_session

    async with open_session(settings, call.command) as session:
        return await with_spinner(statistics(session.orders, since), "reading the log…")
