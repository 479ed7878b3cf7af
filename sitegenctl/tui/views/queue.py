"""All unfinished tasks and messages, in the order in which they will run."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.diagnosis.snapshot import Snapshot, running_order
from sitegenctl.domain.queue.task import ForeignMessage, LiveTask, TaskState
from sitegenctl.render.queue import starts_in
from sitegenctl.tui.service import ViewData
from sitegenctl.tui.views.view import View
from sitegenctl.tui.widgets.live_table import Cell, Column
from sitegenctl.tui.widgets.look import order_name

if TYPE_CHECKING:
    from sitegenctl.operations.live_state import LiveSnapshot


class QueueView(View[LiveTask | ForeignMessage]):
    """Finished tasks are not listed; scheduled and orphaned tasks are."""

    NAME = "queue"
    EMPTY = "the queue is empty"
    COLUMNS = (
        Column(heading="pos", width=7, number=True, from_width=54),
        Column(heading="state", width=10),
        Column(heading="order", width=8, number=True),
        Column(heading="business"),
        Column(heading="age", width=7, number=True, from_width=46),
        Column(heading="try", width=3, number=True, from_width=60),
        Column(heading="due in", width=7, number=True, from_width=72),
        Column(heading="starts in", width=9, number=True, from_width=80),
        Column(heading="worker", share=1, from_width=88),
        Column(heading="task", width=36, from_width=140),
    )

    @classmethod
    def count(cls, live: LiveSnapshot) -> str:
        return "?" if live.is_stale else str(len(live.snapshot.tasks) + len(live.snapshot.reading.foreign))

    def watch_data(self, data: ViewData) -> None:
        self.table.rows = list(running_order(data.live.snapshot))

    def key(self, row: LiveTask | ForeignMessage) -> Hashable:
        return row.task_id or f"{row.state} {row.position}"

    def cells(self, row: LiveTask | ForeignMessage) -> Sequence[Cell]:
        position = "-" if row.position is None else str(row.position + 1)
        if isinstance(row, ForeignMessage):
            task_id = row.task_id or "-"
            texts = (position, str(row.state), "-", f"{row.name}: {row.reason}", "-", "-", "-", "-", "-", task_id)
            return tuple(Cell(text=text, dim=True) for text in texts)
        snapshot = self.data.live.snapshot if self.data is not None else Snapshot(taken_at=self.now)
        order = snapshot.orders.get(row.order_id) if row.order_id is not None else None
        age = snapshot.age_of(row)
        now = self.now + snapshot.clock_offset
        due_in = describe_age(row.eta - now) if row.eta is not None and row.eta > now else "-"
        return (
            Cell(text=position, dim=True),
            Cell(text=str(row.state), severity=Severity.FAULT if row.state is TaskState.ORPHANED else Severity.OK),
            Cell(text="-" if row.order_id is None else str(row.order_id)),
            Cell(text=order_name(order)),
            # It has aged since it was read.
            Cell(text=describe_age(age + (self.now - snapshot.taken_at)) if age is not None else "-"),
            Cell(text=str(row.attempt)),
            Cell(text=due_in, dim=True),
            Cell(text=starts_in(row, snapshot), dim=True),
            Cell(text=row.worker or "-", dim=True),
            Cell(text=row.task_id, dim=True),
        )
