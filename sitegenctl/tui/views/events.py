"""Task and worker events as they arrive, newest first."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.domain.queue.event import Event
from sitegenctl.render.log import event_detail, event_severity
from sitegenctl.tui.views.view import LogEntry, View
from sitegenctl.tui.widgets.live_table import Cell, Column


class EventsView(View[LogEntry]):
    """Also lists notes about the stream: why there are no events, lost and restored connections."""

    NAME = "events"
    EMPTY = "no events yet"
    COLUMNS = (
        Column(heading="time UTC", width=8, from_width=46),
        Column(heading="event", width=15),
        Column(heading="order", width=8, number=True),
        Column(heading="details", share=2),
        Column(heading="worker", share=1, from_width=90),
    )

    def watch_events(self) -> None:
        self.table.rows = [*reversed(self.events)]

    def key(self, row: LogEntry) -> Hashable:
        return row.number

    def cells(self, row: LogEntry) -> Sequence[Cell]:
        item = row.item
        if not isinstance(item, Event):
            severity = Severity.OK if item.is_regained else Severity.UNKNOWN
            time = Cell(text=f"{row.at:%H:%M:%S}", dim=True)
            return time, Cell(text="note", severity=severity), Cell(text=""), Cell(text=item.message), Cell(text="")
        return (
            Cell(text=f"{item.at:%H:%M:%S}" if item.at else "--:--:--", dim=True),
            Cell(text=item.type, severity=event_severity(item)),
            Cell(text="" if item.order_id is None else str(item.order_id)),
            Cell(text=event_detail(item)),
            Cell(text=item.worker or "", dim=True),
        )
