"""``history``: what happened to all orders, and who did it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from sitegenctl.cli import complete, signals
from sitegenctl.cli.options import MAX_ROWS, Invocation, Output, examples, number, option, service
from sitegenctl.cli.terminal import screen

# Pure and without dependencies: importing it does not slow --help.
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.orders.operation import is_operation_id
from sitegenctl.domain.statistics.activity import ActivityFilter, ActivityKind, ActivityOutcome
from sitegenctl.errors import Refused, UsageProblem
from sitegenctl.render.output import Report, to_json, write
from sitegenctl.render.text import shorten

if TYPE_CHECKING:
    from datetime import datetime

    from sitegenctl.domain.statistics.activity import Past
    from sitegenctl.session import Session

DEFAULT_SINCE = "12h"
DEFAULT_LAST = 200

# A note may contain a message of any length.
_NOTE_WIDTH = 300


@examples(
    ("history --since 12h", "What happened last night, and who did it"),
    ("history --outcome failed", "Only what failed"),
)
@service(lambda options: options["follow"])
async def history(
    call: Invocation,
    operation: Annotated[
        str | None, typer.Argument(metavar="[OPERATION]", help="Id of one operation.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        option("--since", metavar="TIME", help=f"From: 10m or 2026-01-31T08:00 (default {DEFAULT_SINCE})."),
    ] = None,
    until: Annotated[str | None, option("--until", metavar="TIME", help="To: 10m or 2026-01-31T08:00.")] = None,
    order: Annotated[
        list[str] | None,
        option("--order", metavar="ORDER", help="Only these orders; repeatable.", autocompletion=complete.orders),
    ] = None,
    outcome: Annotated[
        list[ActivityOutcome] | None, option("--outcome", metavar="OUTCOME", help="Only with this outcome; repeatable.")
    ] = None,
    kind: Annotated[
        list[ActivityKind] | None,
        option("--kind", metavar="KIND", help="Only run, operator or maintenance; repeatable."),
    ] = None,
    by: Annotated[str | None, option("--by", metavar="USER", help="Only operations of this user.")] = None,
    search: Annotated[
        str | None, option("--search", metavar="TEXT", help="Only where customer, reason, command or kind matches.")
    ] = None,
    last: Annotated[
        int, number("--last", "-n", min=0, max=MAX_ROWS, help="Newest N lines; 0 is all.", show_default=True)
    ] = DEFAULT_LAST,
    follow: Annotated[bool, option("--follow", "-f", help="Follow what happens until Ctrl-C.")] = False,
) -> int:
    """Show what happened to all orders, and who did it."""
    from sitegenctl.cli.order_selection import read_order_ids
    from sitegenctl.session import open_session

    if follow and call.output in (Output.JSON, Output.CSV):
        raise UsageProblem(f"a followed history has no end, and {call.output} needs one", hint="use -o ndjson")
    if follow and until is not None:
        raise UsageProblem("--until and --follow are mutually exclusive")
    only = ActivityFilter(
        orders=frozenset(read_order_ids(order, None)) if order else frozenset(),
        outcomes=frozenset(outcome or ()),
        kinds=frozenset(kind or ()),
        by=by,
        search=search,
    )
    if operation is not None:
        if operation.isdecimal():
            hint = Remedy.run(Command.HISTORY, order=operation)
            raise UsageProblem(f"{operation} is not the id of an operation", hint=hint)
        if not is_operation_id(operation):
            raise UsageProblem(
                f"{operation} is not the id of an operation", hint="ids look like 1v3k8q2-x7m: see sitegenctl history"
            )
        if follow or only != ActivityFilter() or since is not None or until is not None:
            raise UsageProblem("the id of an operation cannot be combined with other options")
    async with open_session(call.settings(), call.command) as session:
        if operation is not None:
            return await _operation(call, session, operation)
        if follow:
            async with signals.while_read():
                return await _follow(call, session, since, only, last)
        return await _past(call, session, since, until, only, last)


async def _past(
    call: Invocation, session: Session, since: str | None, until: str | None, only: ActivityFilter, last: int
) -> int:
    from sitegenctl.render.history import HISTORY_COLUMNS, activity_data, history_text

    found = await _read(session, since or DEFAULT_SINCE, only, last, until)
    rows = [activity_data(each) for each in found.activity]
    return write(
        Report(
            command=call.command,
            data={
                "since": found.window.since.isoformat(),
                "until": found.window.until.isoformat(),
                "activity": rows,
                "left_out": found.left_out,
            },
            rows=rows,
            columns=HISTORY_COLUMNS,
            text=lambda: history_text(found, screen()),
        ),
        call.output,
    )


async def _read(session: Session, since: str, only: ActivityFilter, last: int, until: str | None = None) -> Past:
    from sitegenctl.cli.commands.logs import read_since
    from sitegenctl.cli.commands.stats import warn_of_results
    from sitegenctl.cli.execute import progress
    from sitegenctl.operations.history import past
    from sitegenctl.operations.observe import Attempts

    begin, end = read_since(since), read_since(until, "--until") if until is not None else None
    # Without Redis the log alone is enough for nearly all runs.
    queue, attempts = session.queue if session.settings.redis_url else None, Attempts()
    with progress("reading the log…"):
        found = await past(session.orders, begin, only, until=end, last=last, queue=queue, attempts=attempts)
    warn_of_results(attempts)
    return found


async def _operation(call: Invocation, session: Session, operation: str) -> int:
    from sitegenctl.render.history import ENTRY_COLUMNS, entry_data, operation_data, operation_text

    found = await session.orders.read_operation(operation)
    if found is None:
        raise Refused(
            f"no operation {operation}", hint=Remedy.run(Command.HISTORY, advice="lists the newest ones", since="7d")
        )
    customers = await session.orders.customers([entry.order_id for entry in found.entries])
    rows = [entry_data(entry, customers) for entry in found.entries]
    return write(
        Report(
            command=call.command,
            data={**operation_data(found), "entries": rows},
            rows=rows,
            columns=ENTRY_COLUMNS,
            text=lambda: operation_text(found, customers, screen()),
        ),
        call.output,
    )


async def _follow(call: Invocation, session: Session, since: str | None, only: ActivityFilter, last: int) -> int:
    from datetime import UTC, datetime

    from sitegenctl.domain.statistics.activity import Activity
    from sitegenctl.operations.follow import Notice
    from sitegenctl.operations.history import follow
    from sitegenctl.render.history import activity_data, activity_lines

    def show(activity: Activity, today: datetime | None) -> None:
        if call.output is Output.NDJSON:
            print(to_json(activity_data(activity)), flush=True)
        else:
            print(*activity_lines(activity, today, screen()), sep="\n", flush=True)

    # Without a beginning, only what is new.
    found = await _read(session, since or "0s", only, last)
    for each in found.activity:
        show(each, found.window.until)
    async for event in follow(session.orders, only, after=found.window.last_id):
        if isinstance(event, Notice):
            print(f"note: {shorten(event.message, _NOTE_WIDTH)}", file=sys.stderr, flush=True)
        else:
            show(event, event.at or datetime.now(UTC))
    return 0
