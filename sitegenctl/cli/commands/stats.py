"""``stats``: statistics of past generations, from the generation log."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from sitegenctl.cli.execute import progress
from sitegenctl.cli.options import Invocation, Output, examples, option
from sitegenctl.cli.terminal import screen
from sitegenctl.errors import UsageProblem
from sitegenctl.render.text import folded
from sitegenctl.streams import use_utf8

if TYPE_CHECKING:
    from sitegenctl.operations.observe import Attempts

_STDOUT = "-"


@examples(("stats --since 7d", "The last week"))
async def stats(
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
    from sitegenctl.config.atomic_write import output_file, write_whole
    from sitegenctl.domain.diagnosis.remedy import Command, Remedy
    from sitegenctl.operations import overview as operation
    from sitegenctl.operations.observe import Attempts
    from sitegenctl.render.statistics import STATISTICS_COLUMNS, statistics_data, statistics_rows, statistics_text
    from sitegenctl.session import open_session

    settings = call.settings()
    window = read_since(since)
    to_stdout = html == _STDOUT
    if to_stdout and call.output is not Output.TABLE:
        raise UsageProblem(f"--html - and -o {call.output} both write to stdout", hint="write one of them to a file")
    target = output_file("--html", html) if html is not None and not to_stdout else None
    async with open_session(settings, call.command) as session:
        with progress("reading the log…"):
            # Without Redis the log alone is enough for nearly all runs.
            queue, attempts = session.queue if settings.redis_url else None, Attempts()
            statistics = await operation.statistics(session.orders, window, queue=queue, attempts=attempts)
    warn_of_results(attempts)
    failed = Remedy.run(Command.HISTORY, advice="to list the failed runs", kind="run", outcome="failed", since=since)
    hint = call.hint_text(failed) if statistics.runs.failed else None
    page = ""
    if html is not None:
        from sitegenctl.render.statistics_page import statistics_page

        page = statistics_page(statistics, context=settings.context, hint=hint)
        if to_stdout:
            use_utf8()
        if target is not None:
            write_whole(target, page)
            page = f"wrote {target}\n"

    def text() -> str:
        lines = folded(hint, screen().width) if hint is not None else []
        return statistics_text(statistics, screen()) + "".join(f"{line}\n" for line in ["", *lines] if lines)

    return call.write(
        {**statistics_data(statistics), **({"html": html} if html is not None else {})},
        lambda: page or text(),
        rows=statistics_rows(statistics),
        columns=STATISTICS_COLUMNS,
    )


def warn_of_results(attempts: Attempts) -> None:
    """Warn where the results of tasks could not be read."""
    for error in attempts.errors.values():
        print(
            f"warning: without the results of tasks, failures that are not logged are left out: {error}",
            file=sys.stderr,
        )
