"""A table of keyed rows. Cursor, scroll position and marks survive updates.

Textual's own ``DataTable`` keeps an object per cell and measures all columns when one changes: with ten thousand rows
and an age in each, that takes longer than a key press may. This table keeps the rows only. It renders the visible
lines, and redraws those that changed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import var
from textual.scroll_view import ScrollView
from textual.strip import Strip

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.render.text import fit, neutralise
from sitegenctl.tui.widgets.look import palette

R = TypeVar("R")

#: Columns between two cells.
_GAP = 2

#: Ask for more rows when fewer than this are left below the screen.
_PREFETCH = 50

#: These take precedence over the keys in the settings file: a table handles its keys before its view does.
TABLE_KEYS = (
    Binding("up,k", "move(-1)", "up", show=False, tooltip="Previous row"),
    Binding("down,j", "move(1)", "down", show=False, tooltip="Next row"),
    Binding("pageup,ctrl+u", "page(-1)", "page up", show=False, tooltip="Previous page"),
    Binding("pagedown,ctrl+d", "page(1)", "page down", show=False, tooltip="Next page"),
    Binding("home,g", "to(0)", "first", show=False, tooltip="First row"),
    Binding("end,G", "to(-1)", "last", show=False, tooltip="Last row"),
    Binding("enter", "open", "open", show=False, tooltip="Show all details of the order"),
)


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column ``width`` cells wide; columns without a width divide the rest by their ``share``.

    Tables narrower than ``from_width`` omit the column. ``sort`` is the sort order that its heading stands for.
    """

    heading: str
    width: int | None = None
    number: bool = False
    from_width: int = 0
    share: int = 1
    sort: Hashable = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """Text of a cell, untrusted, and its severity; ``dim`` cells are less important."""

    text: str
    severity: Severity = Severity.OK
    dim: bool = False


class LiveTable(ScrollView, Generic[R], can_focus=True):
    """Rows of one kind. ``cells_of`` returns a row's cells in the order of the columns."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"table--cursor"}

    DEFAULT_CSS = """
    LiveTable {
        height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1;
        scrollbar-background: $background; scrollbar-background-hover: $background;
        scrollbar-color: $panel-lighten-2; scrollbar-corner-color: $background;
    }
    LiveTable > .table--cursor { background: $panel; }
    LiveTable:focus > .table--cursor { background: $primary-muted; }
    """

    BINDINGS: ClassVar[list[BindingType]] = list(TABLE_KEYS)

    @dataclass
    class Highlighted(Message):
        """The cursor moved to another row; ``key`` is None in an empty table."""

        key: Hashable

    class Opened(Message):
        """The user pressed Enter on the row under the cursor, or double-clicked it."""

    @dataclass
    class SortRequested(Message):
        """The user clicked a heading."""

        sort: Hashable

    class MoreRequested(Message):
        """The last rows are near."""

    rows: var[Sequence[Any]] = var((), init=False, always_update=True)
    marked: var[frozenset[Hashable]] = var(frozenset[Hashable](), init=False)

    def __init__(
        self,
        columns: Sequence[Column],
        key_of: Callable[[R], Hashable],
        cells_of: Callable[[R], Sequence[Cell]],
        *,
        empty: str = "",
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self.columns = columns
        self.key_of = key_of
        self.cells_of = cells_of
        self.empty = empty
        self.key: Hashable = None
        self.sorted_by: Hashable = None
        self.reversed = False
        self._indexes: dict[Hashable, int] = {}
        self._cursor = 0
        self._drawn: dict[int, tuple[Any, ...]] = {}
        # The visible columns as (index, start, width).
        self._visible: list[tuple[int, int, int]] = []

    # --- rows ---------------------------------------------------------------------------------------------

    def watch_rows(self, rows: Sequence[R]) -> None:
        offset = self._cursor - round(self.scroll_offset.y)
        previous_key, previous_cursor = self.key, self._cursor
        self._indexes = {self.key_of(row): index for index, row in enumerate(rows)}
        self.marked &= frozenset(self._indexes)
        self._cursor = self._indexes.get(self.key, max(0, min(self._cursor, len(rows) - 1)))
        self.key = self.key_of(rows[self._cursor]) if rows else None
        self._resize_content()
        if self.key == previous_key and self._cursor != previous_cursor and 0 <= offset < self.size.height:
            self.scroll_to(y=max(0, self._cursor - offset), animate=False, immediate=True)
        if self.key != previous_key:
            self.post_message(self.Highlighted(self.key))
        self.redraw()

    def redraw(self) -> None:
        """Redraw the lines that changed."""
        width, height = self.size
        first: int | None = None
        # Adjacent lines are one region: Textual computes all styles once per region.
        for y in range(1, height + 1):
            has_changed = y < height and self._drawn.get(y) != self._line_state(self._index_at(y))
            if has_changed and first is None:
                first = y
            elif not has_changed and first is not None:
                self.refresh(Region(0, first, width, y - first))
                first = None

    @property
    def row(self) -> R | None:
        """The row under the cursor."""
        return self.rows[self._cursor] if self._cursor < len(self.rows) else None

    def is_truncated(self, row: R) -> bool:
        """Whether a row needs more space than it has."""
        cells = self.cells_of(row)
        return len(self._visible) < len(cells) or any(
            cell_len(neutralise(cells[index].text)) > width for index, _, width in self._visible
        )

    def go_to(self, key: Hashable) -> None:
        """Move the cursor to a row, if it exists."""
        if (index := self._indexes.get(key)) is not None:
            self._move_to(index)

    def watch_marked(self) -> None:
        self.redraw()

    # --- keys and mouse -----------------------------------------------------------------------------------

    def action_move(self, rows: int) -> None:
        self._move_to(self._cursor + rows)

    def action_page(self, pages: int) -> None:
        self._move_to(self._cursor + pages * max(1, self.size.height - 2))

    def action_to(self, index: int) -> None:
        self._move_to(index if index >= 0 else len(self.rows) - 1)

    def action_open(self) -> None:
        if self.key is not None:
            self.post_message(self.Opened())

    def on_click(self, event: events.Click) -> None:
        if event.y == 0:
            for index, start, width in self._visible:
                if start <= event.x < start + width + _GAP and self.columns[index].sort is not None:
                    self.post_message(self.SortRequested(self.columns[index].sort))
            return
        self._move_to(self._index_at(event.y))
        if event.chain == 2:
            self.action_open()

    def on_resize(self) -> None:
        self._drawn.clear()
        self._lay_out()
        self._resize_content()
        self._scroll_to_cursor()
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if self.rows and new_value + self.size.height >= len(self.rows) - _PREFETCH:
            self.post_message(self.MoreRequested())

    def _move_to(self, index: int) -> None:
        if not self.rows:
            return
        self._cursor = max(0, min(index, len(self.rows) - 1))
        previous, self.key = self.key, self.key_of(self.rows[self._cursor])
        self._scroll_to_cursor()
        self.redraw()
        if self.key != previous:
            self.post_message(self.Highlighted(self.key))

    def _scroll_to_cursor(self) -> None:
        top, height = round(self.scroll_offset.y), max(1, self.size.height - 1)
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, immediate=True)
        elif self._cursor >= top + height:
            self.scroll_to(y=self._cursor - height + 1, animate=False, immediate=True)

    def _resize_content(self) -> None:
        size = Size(self.size.width, len(self.rows) + 1)
        if self.virtual_size != size:
            self.virtual_size = size

    # --- drawing ------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y == 0:
            self._lay_out()
            return self._heading(width)
        index = self._index_at(y)
        state = self._line_state(index)
        self._drawn[y] = state
        if index < len(self.rows):
            return self._line(width, *state)
        text = self.empty if index == 0 else ""
        style = self.rich_style + Style(color=palette(self.app)["text-muted"])
        return Strip([Segment(set_cell_size(f"  {text}", width), style)], width)

    def _index_at(self, y: int) -> int:
        return round(self.scroll_offset.y) + y - 1

    def _line_state(self, index: int) -> tuple[Any, ...]:
        """Everything that the appearance of a line depends on."""
        if index >= len(self.rows):
            return None, index == 0 and self.empty, False
        row = self.rows[index]
        cells = self.cells_of(row)
        visible = tuple(cells[column] for column, _, _ in self._visible)
        return visible, index == self._cursor, self.key_of(row) in self.marked

    def _line(self, width: int, cells: Sequence[Cell], is_cursor: bool, is_marked: bool) -> Strip:
        base = self.rich_style
        colours = palette(self.app)
        if is_cursor:
            # Bold too: the monochrome theme has no other difference.
            base += self.get_component_rich_style("table--cursor", partial=True) + Style(bold=True)
        mark = Segment("●", base + Style(color=colours["accent"], bold=True)) if is_marked else Segment(" ", base)
        segments = [mark, Segment(" ", base)]
        for cell, (index, _, room) in zip(cells, self._visible, strict=False):
            text = _padded(neutralise(cell.text), room, right=self.columns[index].number)
            segments += [Segment(text, base + _cell_style(cell, colours)), Segment(" " * _GAP, base)]
        return Strip(segments).adjust_cell_length(width, base)

    def _heading(self, width: int) -> Strip:
        style = self.rich_style + Style(color=palette(self.app)["text-muted"], bold=True)
        text = "  "
        for index, _, room in self._visible:
            column = self.columns[index]
            is_sorted = column.sort is not None and column.sort == self.sorted_by
            arrow = ("▲" if self.reversed else "▼") if is_sorted else ""
            text += _padded(f"{column.heading}{arrow}", room, right=column.number) + " " * _GAP
        return Strip([Segment(text, style)]).adjust_cell_length(width, style)

    def show_columns(self, columns: Sequence[Column]) -> None:
        """Show other columns of the same cells."""
        if columns != self.columns:
            self.columns = columns
            self._lay_out()
            self.refresh()

    def _lay_out(self) -> None:
        """Choose the visible columns, and where each starts."""
        width = self.size.width
        visible = [(index, column) for index, column in enumerate(self.columns) if width >= column.from_width]
        fixed = sum(column.width or 0 for _, column in visible) + _GAP * len(visible) + 2
        shares = sum(column.share for _, column in visible if column.width is None) or 1
        start = 2
        self._visible = []
        for index, column in visible:
            room = column.width if column.width is not None else max(4, (width - fixed) * column.share // shares)
            self._visible.append((index, start, room))
            start += room + _GAP


def _cell_style(cell: Cell, colours: Mapping[str, str]) -> Style:
    if cell.severity is Severity.FAULT:
        return Style(color=colours["error"])
    if cell.severity is Severity.UNKNOWN:
        return Style(color=colours["warning"])
    return Style(color=colours["text-muted"]) if cell.dim else Style.null()


def _padded(text: str, width: int, *, right: bool) -> str:
    text = fit(text, width)
    padding = " " * (width - cell_len(text))
    return padding + text if right else text + padding
