"""What stands in the rows of the live view's tables: cells made of orders, tasks and workers, in words and ages.

Pure: a row and the time now go in, cells come out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sitegenctl.domain.diagnosis.condition import Condition, Severity
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.diagnosis.listing import ListedOrder, SortBy
from sitegenctl.domain.diagnosis.queue_order import running_order
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.health.check import Check, CheckStatus
from sitegenctl.domain.orders.order import Order
from sitegenctl.domain.orders.stage import stage_of
from sitegenctl.domain.queue.event import Event
from sitegenctl.domain.queue.task import ForeignMessage, LiveTask, TaskState
from sitegenctl.domain.queue.worker import HeldTask, WorkerDetails, WorkerRoster
from sitegenctl.operations.events import Advice
from sitegenctl.operations.follow import Lost, Regained
from sitegenctl.render.command import hint_text
from sitegenctl.render.event import event_detail, event_severity
from sitegenctl.tui.widgets.live_table import Cell, Column

if TYPE_CHECKING:
    from sitegenctl.operations.live_state import LiveSnapshot

_BAR = 6

ORDER_COLUMNS = (
    Column(heading="order", width=7, number=True, sort=SortBy.ID),
    Column(heading="condition", width=12, sort=SortBy.FAULT),
    Column(heading="status", width=12, from_width=96, sort=SortBy.STATUS),
    Column(heading="age", width=7, number=True, from_width=46, sort=SortBy.UPDATED),
    Column(heading="business", share=2, sort=SortBy.NAME),
    Column(heading="why", share=3, from_width=72),
)

QUEUE_COLUMNS = (
    Column(heading="place", width=7, number=True, from_width=54),
    Column(heading="state", width=10),
    Column(heading="order", width=8, number=True),
    Column(heading="business"),
    Column(heading="age", width=7, number=True, from_width=46),
    Column(heading="try", width=3, number=True, from_width=60),
    Column(heading="due in", width=7, number=True, from_width=72),
    Column(heading="worker", share=1, from_width=88),
    Column(heading="task", width=36, from_width=140),
)

WORKER_COLUMNS = (
    Column(heading="worker"),
    Column(heading="process", width=8, number=True, from_width=60),
    Column(heading="does", width=10),
    Column(heading="order", width=8, number=True),
    Column(heading="since", width=8, number=True, from_width=46),
    Column(heading="memory", width=8, number=True, from_width=70),
    Column(heading="business", from_width=90),
)

EVENT_COLUMNS = (
    Column(heading="time UTC", width=8, from_width=46),
    Column(heading="event", width=15),
    Column(heading="order", width=8, number=True),
    Column(heading="what", share=2),
    Column(heading="worker", share=1, from_width=90),
)

DOCTOR_COLUMNS = (
    Column(heading="", width=1),
    Column(heading="check", width=20),
    Column(heading="evidence", share=3),
    Column(heading="what mends it", share=2, from_width=100),
)


def counts(picture: LiveSnapshot) -> dict[str, str]:
    """How many rows a view has, whatever they are: what is held and what is lost is not finished either."""
    if picture.is_kept:
        return {"queue": "?", "workers": "?"}
    workers = picture.snapshot.workers
    return {
        "queue": str(len(picture.snapshot.tasks) + len(picture.snapshot.foreign)),
        "workers": str(len(workers.workers) + workers.silent) if workers is not None else "?",
    }


# --- orders -----------------------------------------------------------------------------------------------


def order_cells(listed: ListedOrder, now: datetime, taken_at: datetime) -> Sequence[Cell]:
    """An order in a list, as of now: it has got older since the picture was taken."""
    order, verdict = listed.order, listed.verdict
    is_bad = verdict.severity is not Severity.OK
    age = aged(order.idle, now, taken_at) if order is not None else "-"
    return (
        Cell(text=str(listed.order_id)),
        Cell(text=verdict.condition.value, severity=verdict.severity),
        Cell(text=(order.label or "NULL") if order is not None else "-", dim=True),
        Cell(text=age, dim=not is_bad),
        Cell(text=name_of(order)),
        Cell(text=why(listed), dim=True),
    )


def why(listed: ListedOrder) -> str:
    """How far its run is, or what its condition is told from."""
    if listed.verdict.condition is Condition.RUNNING and (bar := progress(listed.order)):
        return bar
    order = listed.order
    if listed.verdict.condition is Condition.FAILED and order is not None and order.last_error:
        return order.last_error
    first, *others = listed.verdict.evidence
    # Which status it is in, and for how long, stands in columns of their own.
    return others[0] if others and first.startswith("GENERATING for") else first


def progress(order: Order | None) -> str:
    """A bar as far as the run is, with the stage's name; empty where no step tells it."""
    run = order.history.last_run if order is not None else None
    stage = stage_of(run.last_step) if run is not None else None
    if stage is None:
        return ""
    full = round(stage.share * _BAR)
    return f"{'━' * full}{'╌' * (_BAR - full)} {stage.share:4.0%} {stage.name}"


def name_of(order: Order | None) -> str:
    """What people call the order: its business, else its customer."""
    return (order.business_name or order.customer_name) if order is not None else "-"


def aged(age: timedelta | None, now: datetime, taken_at: datetime) -> str:
    """An age as of ``taken_at``, as it is now."""
    return describe_age(age + max(now - taken_at, timedelta(0))) if age is not None else "-"


# --- the queue --------------------------------------------------------------------------------------------


QueueItem = LiveTask | ForeignMessage


def queue_rows(snapshot: Snapshot) -> list[QueueItem]:
    """Everything unfinished, in the order in which it will run."""
    return list(running_order(snapshot))


def queue_key(item: QueueItem) -> str:
    """A task's id; of a message without one, where it is."""
    return item.task_id or f"{item.state} {item.position}"


def queue_cells(item: QueueItem, snapshot: Snapshot, now: datetime) -> Sequence[Cell]:
    """A task, or a message that isn't ours."""
    place = "-" if item.position is None else str(item.position + 1)
    if isinstance(item, ForeignMessage):
        texts = (place, str(item.state), "-", f"{item.name}: {item.reason}", "-", "-", "-", "-", item.task_id or "-")
        return tuple(Cell(text=text, dim=True) for text in texts)
    order = snapshot.orders.get(item.order_id) if item.order_id is not None else None
    bad = Severity.FAULT if item.state is TaskState.ORPHANED else Severity.OK
    return (
        Cell(text=place, dim=True),
        Cell(text=str(item.state), severity=bad),
        Cell(text="-" if item.order_id is None else str(item.order_id)),
        Cell(text=name_of(order)),
        Cell(text=describe_age(now - item.enqueued_at) if item.enqueued_at else "-"),
        Cell(text=str(item.attempt)),
        Cell(text=describe_age(item.eta - now) if item.eta and item.eta > now else "-", dim=True),
        Cell(text=item.worker or "-", dim=True),
        Cell(text=item.task_id, dim=True),
    )


# --- workers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process of a worker, with what it does; the worker itself where ``pid`` is None."""

    worker: WorkerDetails
    pid: int | None
    task: HeldTask | None = None
    does: str = "idle"

    @property
    def key(self) -> str:
        """What it is known by."""
        return f"{self.worker.name} {self.pid} {self.task.task_id if self.task and self.pid is None else ''}"


def processes(roster: WorkerRoster) -> list[Process]:
    """Each worker, below it its processes, and what it holds for them."""
    return [process for worker in roster.workers for process in _processes_of(worker)]


def _processes_of(worker: WorkerDetails) -> Iterator[Process]:
    busy = f"{len(worker.active)} of {worker.concurrency or '?'}"
    yield Process(worker=worker, pid=None, does=busy)
    running = {task.pid: task for task in worker.active if task.pid is not None}
    for pid in (*worker.processes, *(pid for pid in running if pid not in worker.processes)):
        task = running.get(pid)
        yield Process(worker=worker, pid=pid, task=task, does="runs" if task else "idle")
    for task in worker.active:
        if task.pid is None:
            yield Process(worker=worker, pid=None, task=task, does="runs")
    for word, tasks in (("reserved", worker.reserved), ("held", worker.scheduled)):
        for task in tasks:
            yield Process(worker=worker, pid=None, task=task, does=word)


def worker_cells(process: Process, snapshot: Snapshot, queue: str, now: datetime) -> Sequence[Cell]:
    """A worker, one of its processes, or a task that waits there."""
    worker, task = process.worker, process.task
    if process.pid is None and task is None:
        lost = queue not in worker.queues
        facts = [f"does not consume {queue}"] if lost else []
        facts += [f"up {describe_age(worker.uptime)}"] if worker.uptime is not None else []
        facts += [f"{worker.processed} done"] if worker.processed is not None else []
        memory = worker.memory.get(worker.pid or -1)
        return (
            Cell(text=worker.name, severity=Severity.FAULT if lost else Severity.OK),
            Cell(text=str(worker.pid or "-"), dim=True),
            Cell(text="elsewhere", severity=Severity.FAULT) if lost else Cell(text=process.does),
            Cell(text=""),
            Cell(text=""),
            Cell(text=size(memory if memory is not None else worker.peak_memory), dim=True),
            Cell(text=", ".join(facts), dim=True),
        )
    order_id = task.order_id if task is not None else None
    order = snapshot.orders.get(order_id) if order_id is not None else None
    since = ""
    if task is not None and task.started_at is not None:
        since = describe_age(now - task.started_at)
    elif task is not None and task.eta is not None:
        since = f"+{describe_age(task.eta - now)}"
    what = name_of(order) if order is not None else (task.name if task is not None and order_id is None else "")
    return (
        Cell(text="  └", dim=True),
        Cell(text=str(process.pid or "-"), dim=True),
        Cell(text=process.does, dim=task is None),
        Cell(text=str(order_id) if order_id is not None else ""),
        Cell(text=since),
        Cell(text=size(worker.memory.get(process.pid or -1)), dim=True),
        Cell(text=" ".join(filter(None, (what, progress(order) if process.does == "runs" else "")))),
    )


def size(number: int | None) -> str:
    """Bytes in a unit that people read; "-" for what isn't known."""
    if number is None:
        return "-"
    amount = float(number)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


# --- events -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Heard:
    """An event, or what is said of the events, with its number, and when it was heard."""

    number: int
    at: datetime
    what: Event | Advice | Lost | Regained


def event_cells(heard: Heard) -> Sequence[Cell]:
    """One event."""
    what = heard.what
    if not isinstance(what, Event):
        bad = Severity.UNKNOWN if not isinstance(what, Regained) else Severity.OK
        at = Cell(text=f"{heard.at:%H:%M:%S}", dim=True)
        return (at, Cell(text="note", severity=bad), Cell(text=""), Cell(text=what.message), Cell(text=""))
    return (
        Cell(text=f"{what.at:%H:%M:%S}" if what.at else "--:--:--", dim=True),
        Cell(text=what.type, severity=event_severity(what)),
        Cell(text="" if what.order_id is None else str(what.order_id)),
        Cell(text=event_detail(what)),
        Cell(text=what.worker or "", dim=True),
    )


# --- the doctor -------------------------------------------------------------------------------------------

_MARKS = {
    CheckStatus.OK: ("✓", Severity.OK),
    CheckStatus.WARNING: ("!", Severity.UNKNOWN),
    CheckStatus.FAILED: ("✗", Severity.FAULT),
    CheckStatus.UNCHECKED: ("?", Severity.UNKNOWN),
}


def check_cells(check: Check, selector: str | None) -> Sequence[Cell]:
    """One check with its remedy."""
    mark, severity = _MARKS[check.status]
    return (
        Cell(text=mark, severity=severity),
        Cell(text=check.name, severity=severity),
        Cell(text="; ".join(check.evidence), dim=check.status is CheckStatus.OK),
        Cell(text=hint_text(check.remedy, selector) or "", dim=True),
    )
