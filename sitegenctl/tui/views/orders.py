"""The list of orders, with facets, a filter, and the details of the order under the cursor."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from sitegenctl.domain.diagnosis.condition import Condition, Severity
from sitegenctl.domain.diagnosis.describe import describe_age, describe_due
from sitegenctl.domain.diagnosis.listing import ListedOrder, OrderPage, OrderQuery, SortBy, parse_filter
from sitegenctl.domain.orders.promise import Promise, judge_promise
from sitegenctl.domain.queue.event import Event
from sitegenctl.tui.service import ViewData
from sitegenctl.tui.views.view import UNDO_KEY, View, ViewContext
from sitegenctl.tui.widgets.facets import Facets
from sitegenctl.tui.widgets.live_table import Cell, Column, LiveTable
from sitegenctl.tui.widgets.look import order_name, progress_bar, show_text, warn
from sitegenctl.tui.widgets.order_detail import OrderDetailPane

if TYPE_CHECKING:
    from sitegenctl.operations.live_state import OrderDetail

#: Orders are loaded in pages of this size as the user scrolls.
PAGE = 500

_SORT_TEXTS = {
    SortBy.FAULT: "by condition",
    SortBy.ID: "by number",
    SortBy.UPDATED: "by age",
    SortBy.CREATED: "newest first",
    SortBy.NAME: "by name",
    SortBy.STATUS: "by status",
    SortBy.DUE: "by due date",
}


_PROMISES = {
    None: Severity.OK,
    Promise.DUE_SOON: Severity.UNKNOWN,
    Promise.WILL_BE_LATE: Severity.FAULT,
    Promise.LATE: Severity.FAULT,
}


class OrdersView(View[ListedOrder]):
    """``order_query`` is the page to show; it changes with the filter, the sort order and scrolling."""

    NAME = "orders"
    EMPTY = "reading orders …"
    COLUMNS = (
        Column(heading="order", width=7, number=True, sort=SortBy.ID),
        Column(heading="condition", width=12, sort=SortBy.FAULT),
        Column(heading="status", width=12, from_width=96, sort=SortBy.STATUS),
        Column(heading="age", width=7, number=True, from_width=46, sort=SortBy.UPDATED),
        Column(heading="due", width=11, from_width=100, sort=SortBy.DUE),
        Column(heading="business", share=2, sort=SortBy.NAME),
        Column(heading="why", share=3, from_width=72),
    )
    # Lower-case letters destroy nothing; capital letters do.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "mark", id="mark", tooltip="Mark or unmark the order"),
        Binding("a", "mark_all", "all", id="mark_all", tooltip="Mark all listed orders, or none", show=False),
        Binding("m", "app.act('fix')", "fix", id="fix", tooltip="Fix the order, or each marked order"),
        Binding("e", "app.act('enqueue')", "enqueue", id="enqueue", tooltip="Enqueue a new task", show=False),
        Binding("s", "app.act('start')", "start", id="start", tooltip="Start orders that are ready", show=False),
        Binding("t", "app.act('retry')", "retry", id="retry", tooltip="Retry failed orders", show=False),
        Binding("p", "app.act('repair')", "repair", id="repair", tooltip="Repair lost and extra tasks", show=False),
        Binding("R", "app.act('reset')", "reset", id="reset", tooltip="Move files to the trash and start over"),
        Binding("C", "app.act('cancel')", "cancel", id="cancel", tooltip="Remove tasks and put the order on hold"),
        UNDO_KEY,
        Binding("<", "sort(-1)", "sort left", id="sort_left", tooltip="Sort by the previous column", show=False),
        Binding(">", "sort(1)", "sort right", id="sort_right", tooltip="Sort by the next column", show=False),
        Binding("\\", "sort(0)", "reverse", id="reverse", tooltip="Reverse the sort order", show=False),
        Binding("d", "toggle_detail", "detail", id="detail", tooltip="Show or hide the details", show=False),
        Binding("y", "copy_id", "copy", id="copy", tooltip="Copy order numbers", show=False),
        Binding("o", "open_site", "site", id="open_site", tooltip="Open the site in a browser", show=False),
        Binding("O", "open_folder", "folder", id="open_folder", tooltip="Open the site's folder", show=False),
    ]

    FIRST_PAGE = OrderQuery(limit=PAGE)

    @dataclass
    class QueryChanged(Message):
        """The list should show other orders."""

        query: OrderQuery

    @dataclass
    class OrderHighlighted(Message):
        """The cursor moved to another order, or to none."""

        order_id: int | None

    class SelectionChanged(Message):
        """The user marked or unmarked orders."""

    def __init__(self, context: ViewContext) -> None:
        super().__init__(context)
        self.order_query = self.FIRST_PAGE
        self.pane = OrderDetailPane(keys=context.keys, selector=context.settings.selector, may_act=context.may_act)
        self.table.id = "table"
        self.table.sorted_by = SortBy.FAULT
        self.is_loading = True
        self._page: OrderPage | None = None
        self._filter_problem: str | None = None
        self._go_to_fault_after: datetime | None = None

    def compose(self) -> Iterator[Widget]:
        yield Facets()
        with Vertical(id="list"):
            yield Input(
                placeholder="words  condition:failed  status:review  age>10m  due<1d", id="filter", compact=True
            )
            yield self.table
            yield Static(id="status", markup=False)
        yield self.pane

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # In a browser, the folder would open on the server.
        return not (action == "open_folder" and self.app.is_web)

    # --- showing ------------------------------------------------------------------------------------------

    def watch_data(self, data: ViewData) -> None:
        page = data.page if data.query == self.order_query else None
        if page is None:
            self.table.redraw()
        elif page is not self._page:
            self._page = page
            self.is_loading = False
            is_filtered = not self.order_query.filter.is_empty or self.order_query.conditions
            self.table.empty = "no matching orders" if is_filtered else "no orders"
            self.table.rows = page.orders
            if self._go_to_fault_after is not None and data.live.taken_at >= self._go_to_fault_after:
                self._go_to_fault_after = None
                self._go_to_first_fault()
        if data.detail is not None and data.detail.order_id == self.table.key:
            self._show_detail(data.detail)
        # Hidden where the schema has no due dates.
        has_due_dates = data.live.promises is not None
        self.table.show_columns(
            [
                column if has_due_dates or column.sort is not SortBy.DUE else replace(column, from_width=sys.maxsize)
                for column in self.COLUMNS
            ]
        )
        self._show_facets()
        self._show_status()

    def _show_detail(self, detail: OrderDetail) -> None:
        self.pane.now = self.now
        self.pane.events = [
            entry.item for entry in self.events if isinstance(entry.item, Event) and entry.order_id == detail.order_id
        ]
        self.pane.detail = detail

    def _show_facets(self) -> None:
        if self.data is not None:
            self.query_one(Facets).show(
                self.data.live.by_condition, self.data.live.by_status, self.data.live.promises, self._words()
            )

    def _show_status(self) -> None:
        parts = []
        if self._page is not None:
            shown, total = len(self._page.orders), self._page.total
            of_total = f" of {total:,}" if total is not None and total != shown else ""
            parts.append(f"{shown:,}{of_total} {'order' if shown == 1 and not of_total else 'orders'}")
        parts.append(_SORT_TEXTS[self.order_query.sort] + (", reversed" if self.order_query.reverse else ""))
        if self.table.marked:
            parts.append(f"{len(self.table.marked)} marked")
        if self._filter_problem is not None:
            parts.append(self._filter_problem)
        if self.is_loading:
            parts.append("loading …")
        show_text(self.query_one("#status", Static), "  ·  ".join(parts))

    def key(self, row: ListedOrder) -> Hashable:
        return row.order_id

    def cells(self, row: ListedOrder) -> Sequence[Cell]:
        order, diagnosis = row.order, row.verdict
        # The order has aged since it was read.
        read_at = self.data.live.taken_at if self.data is not None else self.now
        later = max(self.now - read_at, timedelta(0))
        age, due = "-", None
        if order is not None and order.idle is not None:
            age = describe_age(order.idle + later)
        if order is not None and order.due_in is not None:
            due = order.due_in - later
        ready_in = self.data.live.snapshot.ready_in(row.order_id) if self.data is not None else None
        promise = judge_promise(
            due,
            due_soon=self.view_context.settings.due_soon,
            ready_in=ready_in - later if ready_in is not None else None,
        )
        mark = "!" if promise is Promise.WILL_BE_LATE else ""
        return (
            Cell(text=str(row.order_id)),
            Cell(text=diagnosis.condition.value, severity=diagnosis.severity),
            Cell(text=(order.label or "NULL") if order is not None else "-", dim=True),
            Cell(text=age, dim=diagnosis.severity is Severity.OK),
            Cell(text=describe_due(due) + mark, severity=_PROMISES[promise], dim=promise is None),
            Cell(text=order_name(order)),
            Cell(text=_reason(row), dim=True),
        )

    # --- the cursor and the marks -------------------------------------------------------------------------

    @property
    def selected(self) -> list[int]:
        """The orders that an action is for: the marked ones, or else the one under the cursor."""
        marked = [row.order_id for row in self.table.rows if row.order_id in self.table.marked]
        row = self.table.row
        return marked or ([row.order_id] if row is not None else [])

    def go_to_fault(self, since: datetime) -> None:
        """Move the cursor to the first fault in the first list that is read after ``since``."""
        self._go_to_fault_after = since

    def _go_to_first_fault(self) -> None:
        faults = (row.order_id for row in self.table.rows if row.verdict.severity is Severity.FAULT)
        self.table.go_to(next(faults, None))

    def search(self, order_id: int) -> None:
        """Move the cursor to an order; filter by its number if it is not listed."""
        if any(row.order_id == order_id for row in self.table.rows):
            self.table.go_to(order_id)
        else:
            self._set_filter(str(order_id))

    def mark(self, order_ids: Iterable[Hashable]) -> None:
        """Mark these orders only."""
        self.table.marked = frozenset(order_ids)
        self._show_status()
        self.post_message(self.SelectionChanged())

    def on_key(self) -> None:
        """Do not move a cursor that the user moves."""
        self._go_to_fault_after = None

    def on_live_table_highlighted(self, event: LiveTable.Highlighted) -> None:
        event.stop()
        if event.key is None:
            self.pane.detail = None
        self.post_message(self.OrderHighlighted(event.key if isinstance(event.key, int) else None))

    def open_row(self) -> None:
        """Show the details; where there is no room beside the list, instead of it."""
        self.add_class("-open")
        self.pane.focus()

    # --- the query ----------------------------------------------------------------------------------------

    def open_filter(self) -> bool:
        box = self._filter_box
        box.add_class("-shown")
        box.focus()
        return True

    @property
    def _filter_box(self) -> Input:
        return self.query_one("#filter", Input)

    def _set_filter(self, text: str) -> None:
        self._filter_box.value = text
        self._filter_box.set_class(bool(text), "-shown")

    def _words(self) -> list[str]:
        return self._filter_box.value.split()

    def leave(self) -> bool:
        box = self._filter_box
        if box.has_focus and box.value:
            self.table.focus()
        elif box.has_class("-shown"):
            self._set_filter("")
            self.table.focus()
        elif self.has_class("-open"):
            self.remove_class("-open")
            self.table.focus()
        elif self.table.marked:
            self.mark(())
        else:
            return False
        return True

    def _sort_by(self, sort: SortBy) -> None:
        """Sort by a column; in reverse if the list is sorted by it already."""
        reverse = not self.order_query.reverse if sort is self.order_query.sort else False
        self.table.sorted_by, self.table.reversed = sort, reverse
        self._set_query(replace(self.order_query, sort=sort, reverse=reverse, limit=PAGE))
        self.table.refresh()

    def _set_query(self, query: OrderQuery) -> None:
        if query != self.order_query:
            self.order_query = query
            self.is_loading = True
            self.post_message(self.QueryChanged(query))
        self._show_status()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        typed = parse_filter(event.value)
        self._filter_problem = typed.problem
        self._set_query(replace(typed.applied_to(self.order_query), limit=PAGE))
        self._show_facets()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.table.focus()

    def on_facets_chosen(self, event: Facets.Chosen) -> None:
        event.stop()
        words = self._words()
        others = [word for word in words if word != event.word]
        self._set_filter(" ".join(others if event.word in words else [*words, event.word]))

    def on_live_table_sort_requested(self, event: LiveTable.SortRequested) -> None:
        event.stop()
        if isinstance(event.sort, SortBy):
            self._sort_by(event.sort)

    def on_live_table_more_requested(self, event: LiveTable.MoreRequested) -> None:
        event.stop()
        if self._page is not None and not self.is_loading and len(self._page.orders) == self.order_query.limit:
            self._set_query(replace(self.order_query, limit=self.order_query.limit + PAGE))

    # --- keys ---------------------------------------------------------------------------------------------

    def action_mark(self) -> None:
        if self.table.key is not None:
            self.mark(self.table.marked ^ {self.table.key})
            self.table.action_move(1)

    def action_mark_all(self) -> None:
        listed = {row.order_id for row in self.table.rows}
        self.mark(() if self.table.marked == listed else listed)

    def action_sort(self, step: int) -> None:
        """Sort by the column ``step`` columns away; 0 reverses the order."""
        sorts = [column.sort for column in self.COLUMNS if isinstance(column.sort, SortBy)]
        self._sort_by(sorts[(sorts.index(self.order_query.sort) + step) % len(sorts)])

    def action_toggle_detail(self) -> None:
        self.toggle_class("-hidden")

    def action_copy_id(self) -> None:
        numbers = " ".join(map(str, self.selected))
        self.app.copy_to_clipboard(numbers)
        self.app.notify(f"copied {numbers[:40]}", markup=False)

    def action_open_site(self) -> None:
        order = self.pane.detail.order if self.pane.detail is not None else None
        url = order.site_url if order is not None else None
        if url is None or not url.startswith(("http://", "https://")):
            warn(self.app, "this order has no site to open")
        elif self.app.is_web or _has_desktop():
            self.app.open_url(url)
        else:
            self._copy_instead(url)

    def action_open_folder(self) -> None:
        row, base = self.table.row, self.view_context.settings.sites_dir
        folder = base / f"project_{row.order_id}" if row is not None and base is not None else None
        if folder is None or folder.is_symlink() or not folder.is_dir():
            warn(self.app, "this order has no folder to open")
        elif _has_desktop():
            webbrowser.open(folder.absolute().as_uri())
        else:
            self._copy_instead(str(folder.absolute()))

    def _copy_instead(self, address: str) -> None:
        self.app.copy_to_clipboard(address)
        warn(self.app, f"cannot open it without a desktop; copied {address}")


def _reason(row: ListedOrder) -> str:
    """What explains the condition best: progress, an error message, or evidence."""
    condition, order = row.verdict.condition, row.order
    if condition is Condition.RUNNING and (bar := progress_bar(order)):
        return bar
    if condition is Condition.FAILED and order is not None and order.last_error:
        return order.last_error
    evidence = row.verdict.evidence
    # The first evidence of these is status and age, which have columns of their own.
    return evidence[1 if condition in (Condition.INTERRUPTED, Condition.EMPTY) and len(evidence) > 1 else 0]


def _has_desktop() -> bool:
    """Whether links can be opened outside this terminal: a text browser would open inside it."""
    return sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
