"""A page of orders as a table."""

from __future__ import annotations

from collections.abc import Sequence

from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.diagnosis.listing import ListedOrder, OrderPage
from sitegenctl.render.table import Column, Line, Screen, table


def listing_text(page: OrderPage, *, offset: int, screen: Screen) -> str:
    """The orders as a table, with the range of the page below it."""
    if not page.orders and page.undecided:
        return f"unknown: {_undecided(page.undecided)}\n"
    if not page.orders:
        return "no such orders\n"
    columns = [
        Column(heading="order", number=True),
        Column(heading="condition"),
        Column(heading="status", from_width=60),
        Column(heading="changed"),
        Column(heading="business", may_shrink=True),
        Column(heading="why", may_shrink=True, from_width=70),
    ]
    text = table(columns, [_line(listed) for listed in page.orders], screen)
    more = f"\nand perhaps more: {_undecided(page.undecided)}\n" if page.undecided else ""
    return text + _range(page.orders, page.total, offset) + more


def _undecided(number: int) -> str:
    return f"{number} {'order is' if number == 1 else 'orders are'} in a condition that cannot be decided now"


def _line(listed: ListedOrder) -> Line:
    order, verdict = listed.order, listed.verdict
    facts = ["-", "-", "-"]
    if order is not None:
        changed = describe_age(order.idle) if order.idle is not None else "-"
        facts = [order.label or "NULL", changed, order.business_name or order.customer_name]
    return Line(
        cells=[str(listed.order_id), verdict.condition.value, *facts, verdict.evidence[0]],
        severity=verdict.severity,
    )


def _range(shown: Sequence[ListedOrder], total: int | None, offset: int) -> str:
    if total is not None and total <= len(shown) and not offset:
        return ""
    of = f" of {total}" if total is not None else ""
    return f"\n{offset + 1} to {offset + len(shown)}{of}; --page shows more\n"
