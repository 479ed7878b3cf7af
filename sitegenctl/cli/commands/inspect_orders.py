"""``inspect orders``: lists of orders, faults first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sitegenctl.cli.options import MANY, Conditions, Invocation, LiveState, Search, Statuses, age

# Pure and without dependencies: importing them doesn't slow --help.
from sitegenctl.domain.diagnosis.listing import OrderFilter, OrderQuery, SortBy

if TYPE_CHECKING:
    from sitegenctl.render.output import Report


def orders(
    call: Invocation,
    condition: Conditions = None,
    status: Statuses = None,
    search: Search = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Only orders that moved within: 2h, 7d.")
    ] = None,
    sort: Annotated[SortBy, typer.Option("--sort", help="What to sort by.")] = SortBy.FAULT,
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Orders on a page.")] = 50,
    page: Annotated[int, typer.Option("--page", min=1, max=MANY, help="Which page.")] = 1,
    watch: LiveState = None,
) -> int:
    """List orders with their conditions, faults first."""
    from sitegenctl.cli.order_selection import read_statuses
    from sitegenctl.cli.watch import show

    query = OrderQuery(
        filter=OrderFilter(
            statuses=read_statuses(status), search=search, since=age("--since", since) if since is not None else None
        ),
        conditions=frozenset(condition or ()),
        sort=sort,
        reverse=reverse,
        limit=limit,
        offset=(page - 1) * limit,
    )
    return show(call, lambda: _list(call, query), watch)


async def _list(call: Invocation, query: OrderQuery) -> Report:
    from sitegenctl.cli.terminal import screen
    from sitegenctl.operations.listing import list_orders
    from sitegenctl.render.listing import listing_rows, listing_text
    from sitegenctl.render.order import SUMMARY_COLUMNS
    from sitegenctl.render.output import Report
    from sitegenctl.render.sources import degraded
    from sitegenctl.session import open_session, queue_terms

    settings = call.settings()
    async with open_session(settings, call.command) as session:
        page, snapshot = await list_orders(session.orders, session.queue, session.sites, query, grace=settings.grace)
    rows = listing_rows(page, snapshot, selector=settings.selector)
    report = Report(
        command=call.command,
        data={
            "orders": rows,
            "total": page.total,
            "undecided": page.undecided,
            "limit": query.limit,
            "offset": query.offset,
        },
        rows=rows,
        columns=SUMMARY_COLUMNS,
        text=lambda: listing_text(page, offset=query.offset, screen=screen()),
    )
    return degraded(report, snapshot.unanswered, queue_terms(settings), selector=settings.selector)
