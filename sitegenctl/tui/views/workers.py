"""Workers, their processes, and the tasks that they run or hold."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.queue.task import LiveTask
from sitegenctl.domain.queue.worker import WorkerDetails
from sitegenctl.tui.service import ViewData
from sitegenctl.tui.views.view import View
from sitegenctl.tui.widgets.live_table import Cell, Column
from sitegenctl.tui.widgets.look import file_size, order_name, progress_bar

if TYPE_CHECKING:
    from sitegenctl.operations.live_state import LiveSnapshot


@dataclass(frozen=True, kw_only=True)
class WorkerRow:
    """A worker; or one of its processes; or a task that it holds without a process."""

    worker: WorkerDetails
    state: str
    pid: int | None = None
    task: LiveTask | None = None

    @property
    def order_id(self) -> int | None:
        return self.task.order_id if self.task is not None else None


class WorkersView(View[WorkerRow]):
    """A row per worker, followed by its processes and tasks."""

    NAME = "workers"
    EMPTY = "no worker responds"
    WORKER_DETAILS = True
    COLUMNS = (
        Column(heading="worker"),
        Column(heading="process", width=8, number=True, from_width=60),
        Column(heading="state", width=11),
        Column(heading="order", width=8, number=True),
        Column(heading="for", width=8, number=True, from_width=46),
        Column(heading="memory", width=8, number=True, from_width=70),
        Column(heading="business", from_width=90),
    )

    @classmethod
    def count(cls, live: LiveSnapshot) -> str:
        workers = live.snapshot.workers
        return "?" if live.is_stale or workers is None else str(len(workers.workers) + workers.silent)

    def watch_data(self, data: ViewData) -> None:
        roster = data.live.roster
        self.table.rows = (
            [row for worker in roster.workers for row in worker_rows(worker)] if roster is not None else []
        )

    def key(self, row: WorkerRow) -> Hashable:
        return row.worker.name, row.pid, row.task.task_id if row.task is not None and row.pid is None else None

    def cells(self, row: WorkerRow) -> Sequence[Cell]:
        return self._worker_cells(row) if row.pid is None and row.task is None else self._process_cells(row)

    def _worker_cells(self, row: WorkerRow) -> Sequence[Cell]:
        worker, queue = row.worker, self.view_context.settings.queue
        is_lost = queue not in worker.queues
        severity = Severity.FAULT if is_lost else Severity.OK
        facts = [f"does not consume {queue}"] if is_lost else []
        facts += [f"up {describe_age(worker.uptime)}"] if worker.uptime is not None else []
        facts += [f"{worker.processed} done"] if worker.processed is not None else []
        memory = worker.memory.get(worker.pid or -1)
        return (
            Cell(text=worker.name, severity=severity),
            Cell(text=str(worker.pid or "-"), dim=True),
            Cell(text="wrong queue" if is_lost else row.state, severity=severity),
            Cell(text=""),
            Cell(text=""),
            Cell(text=file_size(memory if memory is not None else worker.peak_memory), dim=True),
            Cell(text=", ".join(facts), dim=True),
        )

    def _process_cells(self, row: WorkerRow) -> Sequence[Cell]:
        task = row.task
        snapshot = self.data.live.snapshot if self.data is not None else Snapshot(taken_at=self.now)
        order = snapshot.orders.get(row.order_id) if row.order_id is not None else None
        now, duration = self.now + snapshot.clock_offset, ""
        if task is not None and task.started_at is not None:
            duration = describe_age(now - task.started_at)
        elif task is not None and task.eta is not None:
            duration = f"+{describe_age(task.eta - now)}"
        name = order_name(order) if order is not None else ""
        if task is not None and task.order_id is None:
            name = task.name
        bar = progress_bar(order) if row.state == "running" else ""
        return (
            Cell(text="  └", dim=True),
            Cell(text=str(row.pid or "-"), dim=True),
            Cell(text=row.state, dim=task is None),
            Cell(text="" if row.order_id is None else str(row.order_id)),
            Cell(text=duration),
            Cell(text=file_size(row.worker.memory.get(row.pid or -1)), dim=True),
            Cell(text=f"{name} {bar}".strip()),
        )


def worker_rows(worker: WorkerDetails) -> Iterator[WorkerRow]:
    """A worker, its processes, and the tasks that it holds without a process."""
    yield WorkerRow(worker=worker, state=f"{len(worker.active)} of {worker.concurrency or '?'}")
    running = {task.pid: task for task in worker.active if task.pid is not None}
    for pid in dict.fromkeys((*worker.processes, *running)):
        task = running.get(pid)
        yield WorkerRow(worker=worker, state="running" if task else "idle", pid=pid, task=task)
    without_process = [task for task in worker.active if task.pid is None]
    for state, tasks in (
        ("running", without_process),
        ("reserved", worker.reserved),
        ("scheduled", worker.scheduled),
    ):
        for task in tasks:
            yield WorkerRow(worker=worker, state=state, task=task)
