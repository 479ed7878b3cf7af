"""``inspect orders``: lists of orders, faults first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from sitegenctl.cli.options import (
    MAX_ROWS,
    Conditions,
    Invocation,
    Search,
    Statuses,
    WatchInterval,
    age,
    number,
    option,
)

# Pure and without dependencies: importing it does not slow --help.
from sitegenctl.domain.diagnosis.listing import OrderFilter, OrderQuery, SortBy

if TYPE_CHECKING:
    from sitegenctl.domain.diagnosis.condition import Source
    from sitegenctl.render.output import Report
    from sitegenctl.session import Session


def orders(
    call: Invocation,
    condition: Conditions = None,
    status: Statuses = None,
    search: Search = None,
    since: Annotated[str | None, option("--since", metavar="TIME", help="Only orders changed within TIME.")] = None,
    sort: Annotated[SortBy, option("--sort", help="Sort by this column.", show_default=True)] = SortBy.FAULT,
    reverse: Annotated[bool, option("--reverse", help="Reverse the order.")] = False,
    limit: Annotated[int, number("--limit", min=1, max=10_000, help="Orders per page.", show_default=True)] = 50,
    page: Annotated[int, number("--page", min=1, max=MAX_ROWS, help="Page number.", show_default=True)] = 1,
    watch: WatchInterval = None,
) -> int:
    """List orders with their conditions, faults first."""
    call.is_service = watch is not None
    from sitegenctl.cli.order_selection import read_statuses
    from sitegenctl.cli.terminal import screen
    from sitegenctl.cli.watch import show
    from sitegenctl.operations.listing import list_orders
    from sitegenctl.render.listing import listing_text
    from sitegenctl.render.order import SUMMARY_COLUMNS, order_summary
    from sitegenctl.render.output import Report

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

    async def read(session: Session) -> tuple[Report, Mapping[Source, str]]:
        listed, snapshot = await list_orders(session, query)
        rows = [order_summary(each, snapshot, selector=session.settings.selector) for each in listed.orders]
        counts = {"total": listed.total, "undecided": listed.undecided, "limit": query.limit, "offset": query.offset}
        report = Report(
            command=call.command,
            data={"orders": rows, **counts},
            rows=rows,
            columns=SUMMARY_COLUMNS,
            text=lambda: listing_text(listed, offset=query.offset, screen=screen()),
        )
        return report, snapshot.unanswered

    return show(call, read, watch)
