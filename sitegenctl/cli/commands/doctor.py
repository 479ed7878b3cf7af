"""``doctor``: check the health of the system and suggest fixes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from sitegenctl.cli.options import Invocation, Output, examples, option, span
from sitegenctl.cli.terminal import screen
from sitegenctl.render.output import write


@examples(("doctor", "Check everything"), ("doctor --quick", "Only what takes no time, for health checks"))
async def doctor(
    call: Invocation,
    quick: Annotated[bool, option("--quick", help="Check only Redis and PostgreSQL, for health checks.")] = False,
    strict: Annotated[bool, option("--strict", help="Treat warnings as failures.")] = False,
    patience: Annotated[
        str, option("--patience", metavar="TIME", help="Wait for an idle worker to take a message.", show_default=True)
    ] = "3s",
) -> int:
    """Check the whole system and suggest fixes.

    Exits 0 if healthy, 5 if not, 3 if a source cannot be reached.
    """
    from sitegenctl.operations.doctor import check_up
    from sitegenctl.render.doctor import doctor_report
    from sitegenctl.session import doctor_options, open_session

    settings = call.settings()
    options = doctor_options(settings, patience=span("--patience", patience), strict=strict)
    async with open_session(settings, call.command) as session:
        checkup = await check_up(session, options, quick=quick)
    on = screen()
    report = doctor_report(checkup, call.command, width=on.width, colour=on.colour, selector=settings.selector)
    if call.output is Output.TABLE:
        # The list of checks already has the errors, with their fixes.
        report = replace(report, errors=())
    return write(report, call.output)
