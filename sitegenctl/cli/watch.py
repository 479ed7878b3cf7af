"""Showing a report once, or with ``--watch`` repeatedly until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from sitegenctl.cli import signals
from sitegenctl.cli.options import Invocation, Output, span
from sitegenctl.cli.terminal import screen
from sitegenctl.errors import SourceError, UsageProblem
from sitegenctl.render.output import Report, degraded, error_lines, write
from sitegenctl.streams import deciding

if TYPE_CHECKING:
    from sitegenctl.session import Session

    Read = Callable[[Session], Awaitable[Report]]

# Clearing the whole screen first would make it flicker.
_HOME, _CLEAR_BELOW, _CLEAR_LINE_END = "\x1b[H", "\x1b[J", "\x1b[K"

_MIN_INTERVAL = 0.1


def show(call: Invocation, read: Read, watch: str | None = None) -> int:
    """Show a report once, or every ``watch`` (a duration) until Ctrl-C; returns the exit code."""
    if watch is None:
        return write(signals.run(_report(call, read)), call.output)
    interval = span("--watch", watch).total_seconds()
    if interval < _MIN_INTERVAL:
        raise UsageProblem("--watch: the shortest interval is 100ms")

    async def watching() -> int:
        async with signals.while_read():
            return await _repeat(call, read, interval)

    # A report that is followed by others does not decide the exit code.
    with deciding(None):
        return signals.run(watching())


async def _report(call: Invocation, read: Read) -> Report:
    from sitegenctl.session import open_session

    settings = call.settings()
    async with open_session(settings, call.command) as session:
        return degraded(await read(session), session.texts, selector=settings.selector)


async def _repeat(call: Invocation, read: Read, interval: float) -> int:
    as_table = call.output is Output.TABLE
    on_screen = as_table and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    is_first = True
    while True:
        try:
            report = await _report(call, read)
        except SourceError as exc:
            # It may become reachable again.
            problems = error_lines(exc.message, call.hint_text(exc.hint))
            if on_screen:
                _draw(problems)
            else:
                print(*problems, sep="\n", file=sys.stderr)
        else:
            if on_screen:
                problems = [line for error in report.errors for line in error_lines(error["message"] or "", None)]
                _draw([*problems, *report.text().splitlines()])
            else:
                if as_table and not is_first:
                    print()
                # Readers of a stream of JSON read line by line.
                write(report, call.output, heading=is_first, one_line=True)
                is_first = False
        await asyncio.sleep(interval)


def _draw(lines: Sequence[str]) -> None:
    """Draw over the screen, cut to its height: a screen that scrolls cannot be drawn over."""
    height = screen().height - 1
    shown = lines if len(lines) <= height else [*lines[: height - 1], "…"]
    sys.stdout.write(_HOME + "".join(f"{line}{_CLEAR_LINE_END}\n" for line in shown) + _CLEAR_BELOW)
    sys.stdout.flush()
