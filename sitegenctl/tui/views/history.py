"""Runs and operations of all orders, newest last, with the details of the one under the cursor below them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import ClassVar

from textual import work
from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Input, Static

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.domain.orders.operation import Operation
from sitegenctl.domain.statistics.activity import (
    Activity,
    ActivityText,
    OperationActivity,
    Past,
    RunActivity,
    parse_activity_filter,
)
from sitegenctl.errors import SitegenError
from sitegenctl.render.history import activity_cells, activity_details, activity_severity
from sitegenctl.render.text import neutralise
from sitegenctl.session import Session
from sitegenctl.tui.service import ViewData
from sitegenctl.tui.views.view import UNDO_KEY, View, ViewContext
from sitegenctl.tui.widgets.live_table import Cell, Column, LiveTable
from sitegenctl.tui.widgets.look import show_text, warn

#: The period, unless the filter has one.
_PERIOD = timedelta(hours=12)

#: Rows that are shown.
_MAX_ROWS = 500

#: Lines of details.
_MAX_DETAILS = 8

#: Time between two readings while the view is open.
_INTERVAL = timedelta(seconds=2)


class HistoryView(View[Activity]):
    """Reads the log while it is open. The filter has the words of the command's options."""

    NAME = "history"
    EMPTY = "reading the log …"
    COLUMNS = (
        Column(heading="time", width=11, from_width=46),
        Column(heading="what", width=12),
        Column(heading="order", width=10, number=True),
        Column(heading="who", share=2),
        Column(heading="took", width=6, number=True, from_width=72),
        Column(heading="details", share=3, from_width=60),
    )
    BINDINGS: ClassVar[list[BindingType]] = [UNDO_KEY]
    DEFAULT_CSS = """
    HistoryView > #entry { height: auto; max-height: 8; padding: 0 2; background: $surface; }
    HistoryView > #period { height: 1; padding: 0 1; color: $text-muted; }
    """

    def __init__(self, context: ViewContext) -> None:
        super().__init__(context)
        self._details = Static(id="entry", markup=False)
        self._status = Static(id="period", markup=False)
        self._box = Input(placeholder="words  kind:run  outcome:failed  by:ana  order:42  age<2h", compact=True)
        self._box.add_class("-filter")
        self._filter = ActivityText()
        self._past: Past | None = None
        self._read_at: datetime | None = None
        self._is_reading = False

    def compose(self) -> Iterator[Widget]:
        yield self._box
        yield self.table
        yield self._details
        yield self._status

    # --- reading ------------------------------------------------------------------------------------------

    def watch_data(self, data: ViewData) -> None:
        if self._read_at is None or self.now - self._read_at >= _INTERVAL:
            self.reload()

    def reload(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            self._read()

    @work(group="history")
    async def _read(self) -> None:
        wanted = self._filter

        async def read(session: Session) -> Past:
            from sitegenctl.operations.history import past

            since = wanted.since or _PERIOD
            # The banner shows an outage of the broker.
            return await past(session.orders, since, wanted.only, last=_MAX_ROWS, queue=session.queue)

        try:
            self._show(await self.view_context.service.ask(read))
        except SitegenError as exc:
            # The banner shows an outage that lasts.
            if self._past is None:
                warn(self.app, exc.message)
        finally:
            self._read_at, self._is_reading = self.now, False
            if wanted != self._filter:
                self.reload()

    def _show(self, past: Past) -> None:
        rows = self.table.rows
        was_last = not rows or self.table.key == self.key(rows[-1])
        self._past = past
        self.table.empty = "nothing matches" if self._box.value else "nothing happened"
        self.table.rows = past.activity
        if was_last and past.activity:
            self.table.go_to(self.key(past.activity[-1]))
        self._show_details()
        self._show_status()

    # --- showing ------------------------------------------------------------------------------------------

    def key(self, row: Activity) -> Hashable:
        return (row.order_id, row.began_id) if isinstance(row, RunActivity) else row.log_id

    def cells(self, row: Activity) -> Sequence[Cell]:
        time, what, orders, name, took, details = activity_cells(row, self._past.window.until if self._past else None)
        return (
            Cell(text=time, dim=True),
            Cell(text=what, severity=activity_severity(row)),
            Cell(text=orders),
            Cell(text=name),
            Cell(text=took, dim=True),
            Cell(text=details, dim=activity_severity(row) is Severity.OK),
        )

    @property
    def selected(self) -> Sequence[int]:
        row = self.table.row
        if isinstance(row, RunActivity):
            return [row.order_id]
        return [entry.order_id for entry in row.operation.entries] if row is not None else ()

    @property
    def operation(self) -> Operation | None:
        row = self.table.row
        return row.operation if isinstance(row, OperationActivity) else None

    def on_live_table_highlighted(self, event: LiveTable.Highlighted) -> None:
        event.stop()
        self._show_details()

    def _show_details(self) -> None:
        row = self.table.row
        lines = activity_details(row) if row is not None else []
        more = [f"({len(lines) - _MAX_DETAILS + 1} more lines: history ID)"] if len(lines) > _MAX_DETAILS else []
        shown = [*lines[: _MAX_DETAILS - 1], *more] if more else lines
        show_text(self._details, "\n".join(map(neutralise, shown)))

    def _show_status(self) -> None:
        parts = []
        if self._past is not None:
            parts.append(f"{len(self._past.activity)} since {self._past.window.since:%Y-%m-%d %H:%M}")
            if self._past.left_out:
                parts.append(f"{self._past.left_out} earlier")
        if self._filter.problem is not None:
            parts.append(self._filter.problem)
        show_text(self._status, "  ·  ".join(parts))

    # --- the filter ---------------------------------------------------------------------------------------

    def open_filter(self) -> bool:
        self._box.add_class("-shown")
        self._box.focus()
        return True

    def leave(self) -> bool:
        if not self._box.has_class("-shown"):
            return False
        if not (self._box.has_focus and self._box.value):
            self._box.value = ""
            self._box.remove_class("-shown")
        self.table.focus()
        return True

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._filter = parse_activity_filter(event.value)
        self._show_status()
        self.reload()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.table.focus()
