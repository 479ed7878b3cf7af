"""``events``: stream task and worker events."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from sitegenctl.cli import complete, signals
from sitegenctl.cli.options import Invocation, Output, examples, option, service
from sitegenctl.cli.terminal import screen
from sitegenctl.errors import UsageProblem
from sitegenctl.render.output import to_json
from sitegenctl.render.text import shorten

if TYPE_CHECKING:
    from collections.abc import Callable

    from sitegenctl.domain.queue.event import Event

# A note may contain a name of any length.
_NOTE_WIDTH = 300


@examples(("events --order 28", "Only what happens to order 28"), ("events --type task-failed", "Only failures"))
@service(lambda _: True)
async def events(
    call: Invocation,
    types: Annotated[
        list[str] | None,
        option("--type", metavar="TYPE", help="Only events of this type, such as task-failed; repeatable."),
    ] = None,
    orders: Annotated[
        list[str] | None,
        option(
            "--order", metavar="ORDER", help="Only events of these orders; repeatable.", autocompletion=complete.orders
        ),
    ] = None,
    worker: Annotated[
        str | None, option("--worker", metavar="NAME", help="Only events of this worker or host.")
    ] = None,
) -> int:
    """Stream task and worker events until Ctrl-C."""
    from sitegenctl.cli.order_selection import read_order_ids
    from sitegenctl.domain.queue.event import EVENT_TYPES, Event, EventFilter, unknown_type
    from sitegenctl.operations.events import stream
    from sitegenctl.session import open_session

    if call.output in (Output.JSON, Output.CSV):
        raise UsageProblem(f"a stream has no end, and {call.output} needs one", hint="use -o ndjson")
    if (unknown := unknown_type(types or ())) is not None:
        raise UsageProblem(f"{unknown!r} is not an event type", hint=f"one of: {', '.join(EVENT_TYPES)}")
    wanted = EventFilter(
        types=frozenset(types or ()),
        orders=frozenset(read_order_ids(orders, None)) if orders else frozenset(),
        worker=worker,
        heartbeats=call.verbose,
    )
    settings = call.settings()
    show = _printer(call)
    async with signals.while_read(), open_session(settings, call.command) as session:
        async for item in stream(session.events, session.queue, wanted, task_name=settings.task):
            if isinstance(item, Event):
                show(item)
            else:
                print(f"note: {shorten(item.message, _NOTE_WIDTH)}", file=sys.stderr, flush=True)
    return 0


def _printer(call: Invocation) -> Callable[[Event], None]:
    """A function that prints an event, in the width that the terminal has then."""
    from sitegenctl.render.log import event_data, event_lines, event_severity
    from sitegenctl.render.table import coloured

    def show(event: Event) -> None:
        if call.output == Output.NDJSON:
            print(to_json(event_data(event)), flush=True)
            return
        now = screen()
        lines = event_lines(event, width=now.width)
        print(coloured("\n".join(lines), event_severity(event), now), flush=True)

    return show
