"""``logs``: show or follow the generation log of orders, or of all."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from sitegenctl.cli import signals
from sitegenctl.cli.options import (
    MAX_ROWS,
    FromFile,
    Invocation,
    OrderArguments,
    Output,
    examples,
    number,
    option,
    service,
)
from sitegenctl.cli.terminal import screen

# Pure and without dependencies: importing it does not slow --help.
from sitegenctl.domain.orders.log import LogLevel, LogQuery
from sitegenctl.errors import Refused, UsageProblem
from sitegenctl.render.output import Report, error_data, error_lines, to_json, write
from sitegenctl.render.text import shorten
from sitegenctl.streams import deciding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from sitegenctl.domain.orders.order import LogRow
    from sitegenctl.operations.follow import Ended
    from sitegenctl.session import Session

#: Rows per order that are shown without ``--last`` and ``--since``.
DEFAULT_LAST = 100

_MISSING_NAMED = 5

# A note may contain a message of any length.
_NOTE_WIDTH = 300


@examples(
    ("logs 28 -f", "Follow the log of order 28"), ("logs 28 30-35 --level error", "Only errors of several orders")
)
@service(lambda options: options["follow"] and not options["until_done"])
def logs(
    call: Invocation,
    orders: OrderArguments = None,
    source: FromFile = None,
    follow: Annotated[bool, option("--follow", "-f", help="Follow new rows until Ctrl-C.")] = False,
    until_done: Annotated[bool, option("--until-done", help="Follow until every run ends; exit 1 on failure.")] = False,
    since: Annotated[
        str | None, option("--since", metavar="TIME", help="Only rows newer than 10m or 2026-01-31T08:00.")
    ] = None,
    level: Annotated[
        LogLevel, option("--level", help="Only rows of this level or worse.", show_default=True)
    ] = LogLevel.INFO,
    last: Annotated[
        int | None,
        number("--last", min=0, max=MAX_ROWS, help=f"Newest N rows per order (default {DEFAULT_LAST}); 0 is all."),
    ] = None,
) -> int:
    """Show or follow the generation log."""
    follow = follow or until_done
    from sitegenctl.cli.order_selection import read_order_ids

    query = make_query(since, level, last)
    order_ids = read_order_ids(orders, source) if orders or source is not None else None
    if order_ids is None and until_done:
        raise UsageProblem("--until-done needs orders")
    if follow and call.output in (Output.JSON, Output.CSV):
        raise UsageProblem(f"a followed log has no end, and {call.output} needs one", hint="use -o ndjson")
    if order_ids is None:
        return signals.run(_all_logs(call, query, last=last, follow=follow))
    return signals.run(_logs(call, order_ids, query, follow=follow, until_done=until_done))


def make_query(since: str | None, level: LogLevel, last: int | None) -> LogQuery:
    """The log rows that the options select. Raises ``UsageProblem``."""
    if last is None and since is None:
        last = DEFAULT_LAST
    return LogQuery(since=read_since(since) if since is not None else None, level=level, last=last or None)


def read_since(text: str, option: str = "--since") -> timedelta | datetime:
    """Read an age such as ``10m`` or a time in ISO 8601. Raises ``UsageProblem``."""
    from datetime import datetime

    from sitegenctl.config.settings import parse_duration

    problem = UsageProblem(f"{option} {text}: neither an age such as 10m nor a time such as 2026-01-31T08:00")
    if not text.isascii():
        raise problem
    try:
        return parse_duration(text)
    except ValueError as not_an_age:
        problem.hint = getattr(not_an_age, "hint", None)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as exc:
            raise problem from exc
        # Times near either end of the calendar cannot be converted to another zone.
        if not 1970 <= moment.year < 9999:
            raise problem from None
        return moment


async def _logs(call: Invocation, order_ids: list[int], query: LogQuery, *, follow: bool, until_done: bool) -> int:
    from sitegenctl.operations import follow as operation
    from sitegenctl.session import open_session

    async with open_session(call.settings(), call.command) as session:
        if until_done:
            _ = session.queue  # raises where it is not configured, before anything is read
        existing, missing = await operation.find(session.orders, order_ids)
        if not existing:
            raise Refused(_no_such(missing))
        if call.output in (Output.JSON, Output.CSV):
            return await _document(call, session, existing, missing, query)
        if missing:
            print(*error_lines(_no_such(missing), None), sep="\n", file=sys.stderr, flush=True)
        show = _printer(call, existing)
        # A missing order decides the exit code, whatever is shown of the others.
        with deciding(operation.exit_code({}, missing) or None):
            if follow:
                async with signals.while_read():
                    return await _follow(session, existing, missing, query, show, until_done=until_done)
            shown = 0
            async for row in operation.read(session.orders, existing, query):
                show(row)
                shown += 1
    if not shown:
        print("note: no rows", file=sys.stderr)
    return operation.exit_code({}, missing)


async def _all_logs(call: Invocation, query: LogQuery, *, last: int | None, follow: bool) -> int:
    """The newest rows of all orders."""
    from sitegenctl.operations import follow as operation
    from sitegenctl.render.log import LOG_COLUMNS, log_data
    from sitegenctl.session import open_session

    limit = DEFAULT_LAST if last is None else last or MAX_ROWS
    async with open_session(call.settings(), call.command) as session:
        rows, last_id = await operation.read_newest(session.orders, query, limit=limit)
        if not follow and call.output is not Output.NDJSON:
            data = [log_data(row) for row in rows]
            lines = "".join(f"{line}\n" for row in rows for line in _lines(row, _digits(rows)))
            text = lines or "no rows\n"
            return call.write({"rows": data}, lambda: text, rows=data, columns=LOG_COLUMNS)
        show = _printer(call, [row.order_id for row in rows] or [0], always=True)
        for row in rows:
            show(row)
        if follow:
            async with signals.while_read():
                async for event in operation.tail_all(session.orders, after=last_id):
                    if isinstance(event, operation.Notice):
                        print(f"note: {shorten(event.message, _NOTE_WIDTH)}", file=sys.stderr, flush=True)
                        continue
                    for row in event:
                        if query.level.includes(row.status):
                            show(row)
    return 0


async def _document(
    call: Invocation, session: Session, existing: Sequence[int], missing: Sequence[int], query: LogQuery
) -> int:
    from sitegenctl.operations import follow as operation
    from sitegenctl.render.log import LOG_COLUMNS, log_data

    rows = [log_data(row) async for row in operation.read(session.orders, existing, query)]
    report = Report(
        command=call.command,
        data={"rows": rows},
        rows=rows,
        columns=LOG_COLUMNS,
        text=str,
        exit_code=operation.exit_code({}, missing),
        errors=[error_data(_no_such(missing))] if missing else (),
    )
    return write(report, call.output)


async def _follow(
    session: Session,
    existing: Sequence[int],
    missing: Sequence[int],
    query: LogQuery,
    show: Callable[[LogRow], None],
    *,
    until_done: bool,
) -> int:
    from sitegenctl.domain.orders.order import LogRow
    from sitegenctl.operations import follow as operation
    from sitegenctl.operations.follow import Ended

    endings: dict[int, Ended] = {}
    async for event in operation.read_and_follow(session, existing, query, until_done=until_done):
        if isinstance(event, LogRow):
            show(event)
            continue
        if isinstance(event, Ended):
            endings[event.order_id] = event
            message = f"order {event.order_id} ended in {event.outcome or 'GONE'}: {event.message}"
        else:
            message = event.message
        print(f"note: {shorten(message, _NOTE_WIDTH)}", file=sys.stderr, flush=True)
    return operation.exit_code(endings, missing)


def _printer(call: Invocation, existing: Sequence[int], *, always: bool = False) -> Callable[[LogRow], None]:
    """A function that prints a row, with its order if there are several or ``always``."""
    from sitegenctl.render.log import log_data

    digits = max(len(str(order_id)) for order_id in existing)

    def show(row: LogRow) -> None:
        if call.output == Output.NDJSON:
            print(to_json(log_data(row)), flush=True)
        else:
            print(*_lines(row, digits if always or len(existing) > 1 else 0), sep="\n", flush=True)

    return show


def _digits(rows: Sequence[LogRow]) -> int:
    return max((len(str(row.order_id)) for row in rows), default=0)


def _lines(row: LogRow, digits: int) -> list[str]:
    """The lines of a row in the width that the terminal has now; ``digits`` is the width of its order, 0 omits it."""
    from sitegenctl.render.log import log_lines, log_severity
    from sitegenctl.render.table import coloured

    now = screen()
    prefix = f"{row.order_id:>{digits}}  " if digits else ""
    lines = log_lines(row, width=now.width, prefix=prefix, indent="")
    return coloured("\n".join(lines), log_severity(row.status), now).split("\n")


def _no_such(missing: Sequence[int]) -> str:
    if len(missing) == 1:
        return f"there is no order {missing[0]}"
    named = ", ".join(str(order_id) for order_id in missing[:_MISSING_NAMED])
    more = f" and {len(missing) - _MISSING_NAMED} more" if len(missing) > _MISSING_NAMED else ""
    return f"there are no orders {named}{more}"
