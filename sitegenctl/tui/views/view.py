"""The base of all views. A view's module holds everything about it: columns, rows, cells, keys, texts, details."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from textual.binding import Binding
from textual.containers import Container
from textual.message import Message
from textual.reactive import var
from textual.widget import Widget

from sitegenctl.config.settings import Settings
from sitegenctl.domain.queue.event import Event
from sitegenctl.operations.follow import Notice
from sitegenctl.tui.service import LiveService, ViewData
from sitegenctl.tui.widgets.live_table import Cell, Column, LiveTable

if TYPE_CHECKING:
    from sitegenctl.domain.orders.operation import Operation
    from sitegenctl.operations.live_state import LiveSnapshot

R = TypeVar("R")

#: A key of several views.
UNDO_KEY = Binding(
    "U", "app.act('undo')", "undo", id="undo", tooltip="Undo the order's last operation, or the listed one", show=False
)


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """An event or a note about the event stream, and when it arrived."""

    number: int
    at: datetime
    item: Event | Notice

    @property
    def order_id(self) -> int | None:
        return self.item.order_id if isinstance(self.item, Event) else None


@dataclass(frozen=True, kw_only=True)
class ViewContext:
    """What views are made with; ``keys`` are the keys of the bindings by their ids, as the user wrote them."""

    settings: Settings
    service: LiveService
    keys: Mapping[str, str]
    may_act: bool


class View(Container, Generic[R]):
    """A pane with a table. The app sets ``data``, ``events`` and ``now`` while the view is shown."""

    NAME: ClassVar[str]
    COLUMNS: ClassVar[Sequence[Column]]
    EMPTY: ClassVar[str]
    #: Whether to ask workers for their details at every poll.
    WORKER_DETAILS: ClassVar[bool] = False

    @dataclass
    class OrderOpened(Message):
        """The user opened a row that belongs to an order."""

        order_id: int

    data: var[ViewData | None] = var(None, init=False)
    events: var[Sequence[LogEntry]] = var((), init=False, always_update=True)
    now: var[datetime] = var(datetime.now(UTC), init=False)

    def __init__(self, context: ViewContext) -> None:
        super().__init__(id=self.NAME)
        self.view_context = context
        self.table: LiveTable[R] = LiveTable(self.COLUMNS, self.key, self.cells, empty=self.EMPTY)

    def compose(self) -> Iterator[Widget]:
        yield self.table

    def focus(self, scroll_visible: bool = True) -> View[R]:
        self.table.focus(scroll_visible)
        return self

    def watch_now(self) -> None:
        self.table.redraw()

    # --- what a view declares -----------------------------------------------------------------------------

    @classmethod
    def count(cls, live: LiveSnapshot) -> str:
        """The number in the view's tab."""
        return ""

    @abstractmethod
    def key(self, row: R) -> Hashable: ...

    @abstractmethod
    def cells(self, row: R) -> Sequence[Cell]: ...

    @property
    def selected(self) -> Sequence[int]:
        """The orders that an action is for."""
        return ()

    @property
    def operation(self) -> Operation | None:
        """The operation that an undo is for; None: the last one of each selected order."""
        return None

    def reload(self) -> None:
        """Read what no poll reads; called when the view is opened and on a manual refresh."""

    def open_filter(self) -> bool:
        """Open the filter of the view; False if it has none."""
        return False

    def leave(self) -> bool:
        """Close what is open in the view; False if nothing is."""
        return False

    def open_row(self) -> None:
        """Show the order that the row under the cursor belongs to."""
        order_id: Any = getattr(self.table.row, "order_id", None)
        if order_id is not None:
            self.post_message(self.OrderOpened(order_id))

    def on_live_table_opened(self, event: LiveTable.Opened) -> None:
        event.stop()
        self.open_row()
