"""A table whose rows come and go while somebody is looking: by key, so that cursor, scroll and selection stay.

Textual's own ``DataTable`` keeps every cell as an object and measures its columns anew when one changes; with ten
thousand rows and a clock in each that takes longer than a key may. Here nothing is kept but the rows: a line is made
when it is on the screen, and drawn when it looks different.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.render.text import neutralise
from sitegenctl.tui.keys import MOVING_KEYS
from sitegenctl.tui.theme import palette

R = TypeVar("R")

#: Columns between two cells.
_GAP = 2

#: So many rows before the last one that is there, more are asked for.
_NEAR = 50


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of ``width`` cells; the one without a width takes what is left, if that is ``least`` or more.

    A table of less than ``from_width`` columns does without it. ``sort`` is what its heading sorts by.
    """

    heading: str
    width: int | None = None
    number: bool = False
    from_width: int = 0
    share: int = 1
    sort: Hashable = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """What stands in a cell: any text, neutralised here, and how bad it is; ``dim`` is what matters less."""

    text: str
    severity: Severity = Severity.OK
    dim: bool = False


class LiveTable(ScrollView, Generic[R], can_focus=True):
    """Rows of one kind; ``key_of`` tells a row's key and ``cells_of`` its cells, in the order of the columns."""

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

    BINDINGS: ClassVar[list[BindingType]] = list(MOVING_KEYS)

    class Highlighted(Message):
        """The cursor has come to another row; ``key`` is None where there is none."""

        def __init__(self, table: LiveTable[Any], key: Hashable) -> None:
            super().__init__()
            self.table = table
            self.key = key

        @property
        def control(self) -> LiveTable[Any]:
            """Whose cursor it is."""
            return self.table

    class Opened(Highlighted):
        """Somebody wants to see more of the row."""

    class SortAsked(Message):
        """Somebody clicked a heading."""

        def __init__(self, sort: Hashable) -> None:
            super().__init__()
            self.sort = sort

    class MoreAsked(Message):
        """The cursor comes near the last row that is there."""

    def __init__(
        self,
        columns: Sequence[Column],
        key_of: Callable[[R], Hashable],
        cells_of: Callable[[R], Sequence[Cell]],
        *,
        nothing: str = "",
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self.columns = columns
        self.key_of = key_of
        self.cells_of = cells_of
        self.nothing = nothing
        self.rows: Sequence[R] = ()
        self.marked: set[Hashable] = set()
        self.sorted_by: Hashable = None
        self.reversed = False
        self._places: dict[Hashable, int] = {}
        self._cursor = 0
        self._key: Hashable = None
        self._drawn: dict[int, tuple[Any, ...]] = {}
        self._widths: list[tuple[int, int]] = []
        self._shown: list[int] = []

    # --- rows ---------------------------------------------------------------------------------------------

    def show(self, rows: Sequence[R]) -> None:
        """Show these rows instead; the cursor stays on its row, and that where it is on the screen."""
        place = self._cursor - round(self.scroll_offset.y)
        self.rows = rows
        self._places = {self.key_of(row): index for index, row in enumerate(rows)}
        self.marked &= self._places.keys()
        moved_to = self._places.get(self._key)
        before = self._key
        if moved_to is not None:
            delta = moved_to - self._cursor
            self._cursor = moved_to
        else:
            delta = 0
            self._cursor = max(0, min(self._cursor, len(rows) - 1))
            self._key = self.key_of(rows[self._cursor]) if rows else None
        size = Size(self.size.width, len(rows) + 1)
        if self.virtual_size != size:
            self.virtual_size = size
        if delta and 0 <= place < self.size.height:
            self.scroll_to(y=max(0, self._cursor - place), animate=False, immediate=True)
        if self._key != before:
            self.post_message(self.Highlighted(self, self._key))
        self.redraw()

    def redraw(self) -> None:
        """Draw the lines that look different by now."""
        top = round(self.scroll_offset.y)
        width, height = self.size
        first: int | None = None
        # Neighbours are drawn together: for each region Textual works out all styles anew.
        for y in range(1, height + 1):
            is_other = y < height and self._drawn.get(y) != self._look_of(top + y - 1)
            if is_other and first is None:
                first = y
            elif not is_other and first is not None:
                self.refresh(Region(0, first, width, y - first))
                first = None

    @property
    def key(self) -> Hashable:
        """The key of the row under the cursor; None where there is none."""
        return self._key

    @property
    def row(self) -> R | None:
        """The row under the cursor."""
        return self.rows[self._cursor] if self._cursor < len(self.rows) else None

    def has_cut(self, row: R) -> bool:
        """Whether there is less room than a row's cells would take."""
        cells = self.cells_of(row)
        return len(self._shown) < len(cells) or any(
            cell_len(neutralise(cells[place].text)) > room
            for place, (_, room) in zip(self._shown, self._widths, strict=False)
        )

    def go_to(self, key: Hashable) -> None:
        """Move the cursor to a row, if it is there."""
        if (place := self._places.get(key)) is not None:
            self._move_to(place)

    def toggle_mark(self) -> None:
        """Mark the row under the cursor, or not any more, and go to the next."""
        if self._key is not None:
            self.marked ^= {self._key}
            self._move_to(self._cursor + 1)
            self.redraw()

    def mark_all(self) -> None:
        """Mark all rows; none, if all are marked."""
        self.marked = set() if len(self.marked) == len(self._places) else set(self._places)
        self.redraw()

    def unmark(self) -> None:
        """Mark none."""
        self.marked = set()
        self.redraw()

    # --- keys and mouse -----------------------------------------------------------------------------------

    def action_move(self, by: int) -> None:
        """Move the cursor by so many rows."""
        self._move_to(self._cursor + by)

    def action_page(self, by: int) -> None:
        """Move the cursor by so many screens."""
        self._move_to(self._cursor + by * max(1, self.size.height - 2))

    def action_to(self, place: int) -> None:
        """Move the cursor to the first row, or with -1 to the last."""
        self._move_to(place if place >= 0 else len(self.rows) - 1)

    def action_open(self) -> None:
        """Ask for more of the row under the cursor."""
        if self._key is not None:
            self.post_message(self.Opened(self, self._key))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to where was clicked; a second click opens, one on a heading sorts."""
        if event.y == 0:
            for column, (start, width) in zip(self._shown_columns(), self._widths, strict=False):
                if start <= event.x < start + width + _GAP and column.sort is not None:
                    self.post_message(self.SortAsked(column.sort))
            return
        self._move_to(round(self.scroll_offset.y) + event.y - 1)
        if event.chain == 2:
            self.action_open()

    def on_resize(self) -> None:
        """The columns have other widths."""
        self._drawn.clear()
        self._widths = self._measured(self.size.width)
        self.virtual_size = Size(self.size.width, len(self.rows) + 1)
        self._keep_in_sight()
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """What is scrolled to may be near the end."""
        super().watch_scroll_y(old_value, new_value)
        if self.rows and new_value + self.size.height >= len(self.rows) - _NEAR:
            self.post_message(self.MoreAsked())

    def _move_to(self, place: int) -> None:
        if not self.rows:
            return
        self._cursor = max(0, min(place, len(self.rows) - 1))
        key = self.key_of(self.rows[self._cursor])
        has_moved, self._key = key != self._key, key
        self._keep_in_sight()
        self.redraw()
        if has_moved:
            self.post_message(self.Highlighted(self, key))

    def _keep_in_sight(self) -> None:
        top, height = round(self.scroll_offset.y), max(1, self.size.height - 1)
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, immediate=True)
        elif self._cursor >= top + height:
            self.scroll_to(y=self._cursor - height + 1, animate=False, immediate=True)

    # --- drawing ------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Draw one line of what is on the screen; the first is the headings."""
        width = self.size.width
        if y == 0:
            self._widths = self._measured(width)
            return self._heading(width)
        index = round(self.scroll_offset.y) + y - 1
        look = self._look_of(index)
        self._drawn[y] = look
        if index >= len(self.rows):
            text = self.nothing if index == 0 else ""
            style = self.rich_style + Style(color=palette(self.app)["text-muted"])
            return Strip([Segment(set_cell_size(f"  {text}", width), style)], width)
        cells, is_cursor, is_marked = look
        return self._line(cells, width, is_cursor=is_cursor, is_marked=is_marked)

    def _look_of(self, index: int) -> tuple[Any, ...]:
        if index >= len(self.rows):
            return (None, index == 0 and self.nothing, False)
        row = self.rows[index]
        given = self.cells_of(row)
        cells = tuple(given[place] for place in self._shown)
        return cells, index == self._cursor, self.key_of(row) in self.marked

    def _line(self, cells: Sequence[Cell], width: int, *, is_cursor: bool, is_marked: bool) -> Strip:
        base = self.rich_style
        colours = palette(self.app)
        if is_cursor:
            # In monochrome the colours are alike: weight tells where one is.
            base += self.get_component_rich_style("table--cursor", partial=True) + Style(bold=True)
        marked = base + Style(color=colours["accent"], bold=True) if is_marked else base
        segments = [Segment("●" if is_marked else " ", marked), Segment(" ", base)]
        for cell, column, (_, room) in zip(cells, self._shown_columns(), self._widths, strict=False):
            text = _fitted(neutralise(cell.text), room, right=column.number)
            segments += [Segment(text, base + _style_of(cell, colours)), Segment(" " * _GAP, base)]
        return Strip(segments).adjust_cell_length(width, base)

    def _heading(self, width: int) -> Strip:
        style = self.rich_style + Style(color=palette(self.app)["text-muted"], bold=True)
        parts = ["  "]
        for column, (_, room) in zip(self._shown_columns(), self._widths, strict=False):
            is_sorted = column.sort is not None and column.sort == self.sorted_by
            arrow = ("▲" if self.reversed else "▼") if is_sorted else ""
            parts.append(_fitted(f"{column.heading}{arrow}", room, right=column.number) + " " * _GAP)
        return Strip([Segment("".join(parts), style)]).adjust_cell_length(width, style)

    def _shown_columns(self) -> list[Column]:
        return [self.columns[place] for place in self._shown]

    def _measured(self, width: int) -> list[tuple[int, int]]:
        """Where each column shown begins, and how wide it is."""
        self._shown = [place for place, column in enumerate(self.columns) if width >= column.from_width]
        shown = self._shown_columns()
        fixed = sum(column.width or 0 for column in shown) + _GAP * len(shown) + 2
        shares = sum(column.share for column in shown if column.width is None) or 1
        start, measured = 2, []
        for column in shown:
            room = column.width if column.width is not None else max(4, (width - fixed) * column.share // shares)
            measured.append((start, room))
            start += room + _GAP
        return measured


def _style_of(cell: Cell, colours: Mapping[str, str]) -> Style:
    if cell.severity is Severity.FAULT:
        return Style(color=colours["error"])
    if cell.severity is Severity.UNKNOWN:
        return Style(color=colours["warning"])
    return Style(color=colours["text-muted"]) if cell.dim else Style.null()


def _fitted(text: str, room: int, *, right: bool = False) -> str:
    length = len(text) if text.isascii() else cell_len(text)
    if length > room:
        text = set_cell_size(text, max(room - 1, 0)).rstrip() + "…"
        length = cell_len(text)
    padding = " " * (room - length)
    return padding + text if right else text + padding
