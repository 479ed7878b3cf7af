"""``doctor``: is the system healthy, and what mends it."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import Annotated

import typer

from sitegenctl.cli import signals
from sitegenctl.cli.options import Invocation, Output, command, span


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "doctor")(doctor)


def doctor(
    call: Invocation,
    quick: Annotated[
        bool, typer.Option("--quick", help="Redis and PostgreSQL alone, at once: for a health check.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="A warning is a failure too.")] = False,
    patience: Annotated[
        str, typer.Option("--patience", metavar="TIME", help="How long idle workers may leave a message lying.")
    ] = "3s",
) -> int:
    """Check everything that generations depend on, and say what mends it.

    Exit code 0 is healthy, 5 not, and 3 that a source can't be reached.
    """
    return signals.run(_doctor(call, quick=quick, strict=strict, patience=patience))


async def _doctor(call: Invocation, *, quick: bool, strict: bool, patience: str) -> int:
    from sitegenctl.cli.terminal import width
    from sitegenctl.operations.doctor import check_up, quick_check_up
    from sitegenctl.render.doctor import doctor_report
    from sitegenctl.render.output import write
    from sitegenctl.session import doctor_options, open_health, open_session

    settings = call.settings()
    waited = span("--patience", patience)
    options = doctor_options(settings, patience=waited, strict=strict)
    async with open_health(settings) as probes:
        if quick:
            found = await quick_check_up(probes, options)
        else:
            async with open_session(settings, call.command) as session:
                found = await check_up(session.orders, session.queue, session.sites, probes, options)
    report = doctor_report(found, call.command, width=width(), colour=_is_coloured(), selector=settings.selector)
    if call.output is Output.TABLE:
        # The checklist has said it already, with what mends it.
        report = replace(report, errors=())
    return write(report, call.output)


def _is_coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
