"""``--watch``: the same report again and again, until Ctrl-C."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sitegenctl.cli import signals
from sitegenctl.cli.options import Invocation, Output, span
from sitegenctl.streams import deciding

if TYPE_CHECKING:
    from sitegenctl.render.output import Report

# Home, and clear to the end: a screen that is cleared first flickers.
_HOME, _CLEAR_BELOW, _CLEAR_LINE_END = "\x1b[H", "\x1b[J", "\x1b[K"


def is_watching(options: Mapping[str, Any]) -> bool:
    """Whether the command with these options goes on until it is stopped."""
    return options.get("watch") is not None


def show(call: Invocation, look: Callable[[], Awaitable[Report]], watch: str | None) -> int:
    """Show the report once, or every ``watch`` (a duration) until Ctrl-C; returns its exit code."""
    from sitegenctl.render.output import write

    async def once() -> Report:
        return await look()

    if watch is None:
        return write(signals.run(once()), call.output)
    interval = _interval(watch)

    async def watching() -> int:
        async with signals.while_read():
            return await _repeat(call, look, interval)

    # However the last report would have ended the command: one that goes on has not decided anything.
    with deciding(None):
        return signals.run(watching())


async def _repeat(call: Invocation, look: Callable[[], Awaitable[Report]], interval: float) -> int:
    from sitegenctl.errors import SourceError
    from sitegenctl.render.output import error_lines, write

    on_screen = sys.stdout.isatty() and call.output is Output.TABLE
    while True:
        try:
            report = await look()
        except SourceError as exc:
            # Whoever watches wants to see it come back. What is wrong in another way stays wrong.
            problems = error_lines(exc.message, call.hint_text(exc.hint))
            if on_screen:
                _draw(problems)
            else:
                print(*problems, sep="\n", file=sys.stderr)
        else:
            if on_screen:
                # Above what there is: it says why there is no more.
                problems = [line for error in report.errors for line in error_lines(error["message"] or "", None)]
                _draw([*problems, *report.text().splitlines()])
            else:
                write(report, call.output)
        await asyncio.sleep(interval)


def _draw(lines: Sequence[str]) -> None:
    """Draw these lines over what is on the screen, as far as it is high: one that scrolls can't be drawn over."""
    from sitegenctl.cli.terminal import screen

    height = screen().height - 1
    shown = lines if len(lines) <= height else [*lines[: height - 1], "…"]
    sys.stdout.write(_HOME + "".join(f"{line}{_CLEAR_LINE_END}\n" for line in shown) + _CLEAR_BELOW)
    sys.stdout.flush()


def _interval(watch: str) -> float:
    from sitegenctl.errors import UsageProblem

    seconds = span("--watch", watch).total_seconds()
    if seconds < 0.1:
        raise UsageProblem("--watch: not more often than every 100ms")
    return seconds
