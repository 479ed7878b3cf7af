"""The view of orders: facets, the filter, the list, and the order under the cursor beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from textual.containers import Container, Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.domain.diagnosis.filter_syntax import parse_filter
from sitegenctl.domain.diagnosis.listing import ListedOrder, OrderPage, OrderQuery, SortBy
from sitegenctl.domain.queue.event import Event
from sitegenctl.tui.views.rows import ORDER_COLUMNS, order_cells
from sitegenctl.tui.widgets.facets import Facets
from sitegenctl.tui.widgets.live_table import Cell, LiveTable
from sitegenctl.tui.widgets.order_detail import OrderDetailPane

if TYPE_CHECKING:
    from sitegenctl.operations.live_state import LiveSnapshot, OrderDetail

#: Orders that are loaded at once; coming near the last of them loads as many more.
PAGE = 500

_SORTED = {
    SortBy.FAULT: "faults first",
    SortBy.ID: "by number",
    SortBy.UPDATED: "by age",
    SortBy.CREATED: "newest first",
    SortBy.NAME: "by name",
    SortBy.STATUS: "by status",
}


class OrdersView(Container):
    """``query`` is what is asked for; it changes with what is typed, sorted and scrolled to."""

    class QueryChanged(Message):
        """Other orders are wanted."""

        def __init__(self, query: OrderQuery) -> None:
            super().__init__()
            self.query = query

    class OrderChosen(Message):
        """Another order is looked at; None is none."""

        def __init__(self, order_id: int | None) -> None:
            super().__init__()
            self.order_id = order_id

    class Marked(Message):
        """Other orders are marked."""

    def __init__(self, *, keys: Mapping[str, str], selector: str | None, may_act: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self.asked = OrderQuery(limit=PAGE)
        self._pane = OrderDetailPane(keys=keys, selector=selector, may_act=may_act)
        self._table: LiveTable[ListedOrder] = LiveTable(
            ORDER_COLUMNS, lambda listed: listed.order_id, self._cells, nothing="looking …", id="table"
        )
        self._table.sorted_by = SortBy.FAULT
        self._picture: LiveSnapshot | None = None
        self._page: OrderPage | None = None
        self._now = datetime.now(UTC)
        self._problem: str | None = None
        self._is_waiting = True
        self._told = ""
        self._fixed_at: datetime | None = None

    def compose(self) -> Iterator[Widget]:
        """Facets, list and detail; which of them are shown is the style sheet's."""
        yield Facets()
        with Vertical(id="list"):
            yield Input(placeholder="words  condition:failed  status:review  age>10m", id="filter", compact=True)
            yield self._table
            yield Static(id="status", markup=False)
        yield self._pane

    # --- what is shown ------------------------------------------------------------------------------------

    def show(self, picture: LiveSnapshot, page: OrderPage | None, query: OrderQuery) -> None:
        """Show a page of a picture; one that is no longer wanted is not shown."""
        self._picture = picture
        if page is not None and query == self.asked:
            self._page = page
            self._is_waiting = False
            self._table.nothing = "no such orders" if not query.filter.is_empty or query.conditions else "no orders"
            self._table.show(page.orders)
            if self._fixed_at is not None and picture.taken_at >= self._fixed_at:
                self._fixed_at = None
                self._go_to_first_fault()
        else:
            self._table.redraw()
        self.query_one(Facets).show(picture.by_condition, picture.by_status, self._words())
        self._tell()

    def show_detail(self, detail: OrderDetail | None, heard: Sequence[Event]) -> None:
        """Show an order, if it is still the one that is looked at."""
        if detail is None or detail.order_id == self._table.key:
            self._pane.show(detail, heard, now=self._now)

    def go_to_fault(self, since: datetime) -> None:
        """Put the cursor on the first order with a fault, as soon as there is a picture that was taken ``since``."""
        self._fixed_at = since

    def _go_to_first_fault(self) -> None:
        faults = (listed for listed in self._table.rows if listed.verdict.severity is Severity.FAULT)
        if (first := next(faults, None)) is not None:
            self._table.go_to(first.order_id)

    def tick(self, now: datetime) -> None:
        """Time has passed."""
        self._now = now
        self._table.redraw()

    @property
    def table(self) -> LiveTable[ListedOrder]:
        """The list."""
        return self._table

    @property
    def detail(self) -> OrderDetail | None:
        """The order that is shown beside it."""
        return self._pane.detail

    @property
    def meant(self) -> list[int]:
        """The orders that an action is for: those that are marked, else the one under the cursor."""
        marked = [listed.order_id for listed in self._table.rows if listed.order_id in self._table.marked]
        row = self._table.row
        return marked or ([row.order_id] if row is not None else [])

    def _cells(self, listed: ListedOrder) -> Sequence[Cell]:
        taken_at = self._picture.taken_at if self._picture is not None else self._now
        return order_cells(listed, self._now, taken_at)

    def _tell(self) -> None:
        parts = []
        if self._page is not None:
            shown, total = len(self._page.orders), self._page.total
            of = f" of {total:,}" if total is not None and total != shown else ""
            parts.append(f"{shown:,}{of} {'order' if shown == 1 and not of else 'orders'}")
        parts.append(_SORTED[self.asked.sort] + (", reversed" if self.asked.reverse else ""))
        if self._table.marked:
            parts.append(f"{len(self._table.marked)} marked")
        if self._problem is not None:
            parts.append(self._problem)
        if self._is_waiting:
            parts.append("looking …")
        told = "  ·  ".join(parts)
        if told != self._told:
            self._told = told
            self.query_one("#status", Static).update(told)

    # --- what is wanted -----------------------------------------------------------------------------------

    def open_filter(self) -> None:
        """Let somebody type a filter."""
        box = self.query_one("#filter", Input)
        box.add_class("-shown")
        box.focus()

    def leave(self) -> bool:
        """Leave the filter, the order or the marks, whichever is in front; False when there is nothing to leave."""
        box = self.query_one("#filter", Input)
        if box.has_focus and box.value:
            self._table.focus()
        elif box.has_class("-shown"):
            box.value = ""
            box.remove_class("-shown")
            self._table.focus()
        elif self.has_class("-open"):
            self.remove_class("-open")
            self._table.focus()
        elif self._table.marked:
            self.unmark()
        else:
            return False
        return True

    def sort_by(self, sort: SortBy) -> None:
        """Sort by it; the other way round, if it is sorted by it already."""
        reverse = not self.asked.reverse if sort is self.asked.sort else False
        self._table.sorted_by, self._table.reversed = sort, reverse
        self._ask(replace(self.asked, sort=sort, reverse=reverse, limit=PAGE))
        self._table.refresh()

    def sort_by_next(self, step: int) -> None:
        """Sort by the next column, or with -1 by the one before."""
        sorts = [column.sort for column in ORDER_COLUMNS if isinstance(column.sort, SortBy)]
        self.sort_by(sorts[(sorts.index(self.asked.sort) + step) % len(sorts)])

    def search(self, order_id: int) -> None:
        """Put the cursor on an order; if it is not listed, look for it."""
        if any(listed.order_id == order_id for listed in self._table.rows):
            self._table.go_to(order_id)
            return
        box = self.query_one("#filter", Input)
        box.value = str(order_id)
        box.add_class("-shown")

    def toggle_word(self, word: str) -> None:
        """Filter by it, or not any more."""
        words = self._words()
        box = self.query_one("#filter", Input)
        box.value = " ".join([each for each in words if each != word] if word in words else [*words, word])
        box.set_class(bool(box.value), "-shown")

    def toggle_mark(self) -> None:
        """Mark the order under the cursor, or not any more."""
        self._table.toggle_mark()
        self._tell()
        self.post_message(self.Marked())

    def mark_all(self) -> None:
        """Mark all orders that are listed; none, if all are."""
        self._table.mark_all()
        self._tell()
        self.post_message(self.Marked())

    def unmark(self) -> None:
        """Mark no order."""
        self._table.unmark()
        self._tell()
        self.post_message(self.Marked())

    def open_detail(self) -> None:
        """Show the order; where there is no room beside the list, instead of it."""
        self.add_class("-open")
        self._pane.focus()

    def _words(self) -> list[str]:
        return self.query_one("#filter", Input).value.split()

    def _ask(self, query: OrderQuery) -> None:
        if query != self.asked:
            self.asked = query
            self._is_waiting = True
            self.post_message(self.QueryChanged(query))
        self._tell()

    def on_key(self) -> None:
        """Leave the cursor to the operator."""
        self._fixed_at = None

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as it is typed."""
        event.stop()
        typed = parse_filter(event.value)
        self._problem = typed.problem
        self._ask(replace(typed.applied_to(self.asked), limit=PAGE))
        if self._picture is not None:
            self.query_one(Facets).show(self._picture.by_condition, self._picture.by_status, self._words())

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """The filter stays, and the list gets the keys."""
        event.stop()
        self._table.focus()

    def on_facets_chosen(self, event: Facets.Chosen) -> None:
        """Filter by it, or not any more."""
        event.stop()
        self.toggle_word(event.word)

    def on_live_table_sort_asked(self, event: LiveTable.SortAsked) -> None:
        """Sort by the column that was clicked on."""
        event.stop()
        if isinstance(event.sort, SortBy):
            self.sort_by(event.sort)

    def on_live_table_more_asked(self, event: LiveTable.MoreAsked) -> None:
        """Load more, if there are more."""
        event.stop()
        page = self._page
        if page is not None and not self._is_waiting and len(page.orders) == self.asked.limit:
            self._ask(replace(self.asked, limit=self.asked.limit + PAGE))

    def on_live_table_highlighted(self, event: LiveTable.Highlighted) -> None:
        """Look at another order."""
        event.stop()
        self.post_message(self.OrderChosen(event.key if isinstance(event.key, int) else None))

    def on_live_table_opened(self, event: LiveTable.Opened) -> None:
        """Show all of it."""
        event.stop()
        self.open_detail()
