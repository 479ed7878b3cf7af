"""``--watch``: the same report again and again, until Ctrl-C."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from sitegenctl.cli.options import Invocation, Output, span

if TYPE_CHECKING:
    from sitegenctl.render.output import Report

# Home, and clear to the end: a screen that is cleared first flickers.
_HOME, _CLEAR_BELOW, _CLEAR_LINE_END = "\x1b[H", "\x1b[J", "\x1b[K"


def show(call: Invocation, look: Callable[[], Awaitable[Report]], watch: str | None) -> int:
    """Show the report once, or every ``watch`` (a duration) until Ctrl-C; returns its exit code."""
    from sitegenctl.render.output import write

    async def once() -> Report:
        return await look()

    if watch is None:
        return write(asyncio.run(once()), call.output)
    return asyncio.run(_repeat(call, look, _interval(watch)))


async def _repeat(call: Invocation, look: Callable[[], Awaitable[Report]], interval: float) -> int:
    from sitegenctl.errors import SitegenError
    from sitegenctl.render.output import error_lines, write

    on_screen = sys.stdout.isatty() and call.output is Output.TABLE
    while True:
        try:
            report = await look()
        except SitegenError as exc:
            # Whoever watches wants to see it come back.
            for line in error_lines(exc.message, exc.hint):
                print(line, file=sys.stderr)
        else:
            if on_screen:
                text = report.text().replace("\n", f"{_CLEAR_LINE_END}\n")
                sys.stdout.write(f"{_HOME}{text}{_CLEAR_BELOW}")
                sys.stdout.flush()
            else:
                write(report, call.output)
        await asyncio.sleep(interval)


def _interval(watch: str) -> float:
    from sitegenctl.errors import UsageProblem

    seconds = span("--watch", watch).total_seconds()
    if seconds < 0.1:
        raise UsageProblem("--watch: not more often than every 100ms")
    return seconds
