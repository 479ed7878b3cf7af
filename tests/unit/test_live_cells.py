"""What stands in the rows of the live view's tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from sitegenctl.domain.diagnosis.condition import Condition, Diagnosis, Severity, Source
from sitegenctl.domain.diagnosis.listing import ListedOrder
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.health.check import Check, CheckName, CheckStatus
from sitegenctl.domain.orders.order import Order, OrderStatus
from sitegenctl.domain.orders.run import read_history
from sitegenctl.domain.queue.event import Event
from sitegenctl.domain.queue.task import ForeignMessage, LiveTask, TaskState
from sitegenctl.domain.queue.worker import HeldTask, WorkerDetails, WorkerRoster
from sitegenctl.operations.events import Advice
from sitegenctl.operations.follow import Lost, Regained
from sitegenctl.tui.views import rows as views
from sitegenctl.tui.widgets.live_table import Cell, Column

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def order(**facts: object) -> Order:
    known: dict[str, object] = {
        "order_id": 42,
        "status": OrderStatus.GENERATING,
        "customer_name": "Ana",
        "business_name": "Padaria",
        "idle": timedelta(minutes=3),
    }
    return Order(**{**known, **facts})  # type: ignore[arg-type]


def listed(condition: Condition, *evidence: str, **facts: object) -> ListedOrder:
    verdict = Diagnosis(condition=condition, evidence=evidence or ("so it is",))
    return ListedOrder(order_id=42, order=order(**facts), verdict=verdict)


def texts(cells: Sequence[Cell]) -> list[str]:
    return [cell.text for cell in cells]


def task(state: TaskState = TaskState.QUEUED, **facts: object) -> LiveTask:
    known: dict[str, object] = {"task_id": "t-1", "name": "generate", "order_id": 42, "state": state}
    return LiveTask(**{**known, **facts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "columns",
    [views.ORDER_COLUMNS, views.QUEUE_COLUMNS, views.WORKER_COLUMNS, views.EVENT_COLUMNS, views.DOCTOR_COLUMNS],
)
def test_every_table_has_a_place_for_what_is_left(columns: Sequence[Column]) -> None:
    assert any(column.width is None and not column.from_width for column in columns)


def test_an_order_has_got_older_since_the_picture() -> None:
    row = listed(Condition.INTERRUPTED, "GENERATING for 3m without a live task", "its log has no row")
    cells = views.order_cells(row, NOW, NOW)
    assert texts(cells) == ["42", "interrupted", "GENERATING", "3m", "Padaria", "its log has no row"]
    assert cells[1].severity is Severity.FAULT
    assert texts(views.order_cells(row, NOW + 2 * MINUTE, NOW))[3] == "5m"
    assert texts(views.order_cells(row, NOW - MINUTE, NOW))[3] == "3m"  # another clock, a moment behind


def test_an_order_that_is_missing() -> None:
    verdict = Diagnosis(condition=Condition.GHOST, evidence=("a live task, and no such order",))
    row = ListedOrder(order_id=99, order=None, verdict=verdict)
    assert texts(views.order_cells(row, NOW, NOW)) == ["99", "ghost", "-", "-", "-", "a live task, and no such order"]


def test_an_order_of_which_little_is_known() -> None:
    row = listed(Condition.UNKNOWN, status=None, status_label=None, idle=None, business_name=None)
    assert texts(views.order_cells(row, NOW, NOW))[2:5] == ["NULL", "-", "Ana"]
    assert views.order_cells(listed(Condition.UNKNOWN, status=None, status_label="PAUSED"), NOW, NOW)[2].text == (
        "PAUSED"
    )


def test_why_is_what_tells_most() -> None:
    assert views.why(listed(Condition.FAILED, "the last run ended in ERROR", last_error="429")) == "429"
    assert views.why(listed(Condition.FAILED, "the last run ended in ERROR")) == "the last run ended in ERROR"
    assert views.why(listed(Condition.EMPTY, "GENERATING for 3m without a live task", "cut short")) == "cut short"
    running = listed(Condition.RUNNING, "task t-1 running", history=read_history(["START", "WRITE_FILES"]))
    assert views.why(running) == "━━━━╌╌  60% writing"
    assert views.why(listed(Condition.RUNNING, "task t-1 running")) == "task t-1 running"


def test_a_bar_as_far_as_the_run_is() -> None:
    assert views.progress(None) == views.progress(order()) == ""
    assert views.progress(order(history=read_history(["START"]))) == "╌╌╌╌╌╌   3% starting"
    assert views.progress(order(history=read_history(["START", "FINALIZE"]))) == "━━━━━━  95% finishing"


def test_a_task_in_the_queue_and_one_that_is_due_later() -> None:
    snapshot = Snapshot(taken_at=NOW, orders={42: order()})
    queued = task(position=0, enqueued_at=NOW - 5 * MINUTE, attempt=2)
    assert texts(views.queue_cells(queued, snapshot, NOW)) == [
        *("1", "queued", "42", "Padaria", "5m", "2", "-", "-", "t-1"),
    ]
    held = task(TaskState.RETRYING, worker="w@host", eta=NOW + MINUTE)
    assert texts(views.queue_cells(held, snapshot, NOW))[0] == "-"
    assert texts(views.queue_cells(held, snapshot, NOW))[6:8] == ["1m", "w@host"]
    assert texts(views.queue_cells(held, snapshot, NOW + 2 * MINUTE))[6] == "-"
    orphaned = views.queue_cells(task(TaskState.ORPHANED, order_id=None), snapshot, NOW)
    assert (orphaned[1].severity, orphaned[2].text, orphaned[3].text) == (Severity.FAULT, "-", "-")


def test_a_message_that_is_not_ours() -> None:
    foreign = ForeignMessage(name="beat.tick", reason="belongs to no order", state=TaskState.QUEUED, position=3)
    cells = views.queue_cells(foreign, Snapshot(taken_at=NOW), NOW)
    assert texts(cells)[:4] == ["4", "queued", "-", "beat.tick: belongs to no order"]
    assert len(cells) == len(views.QUEUE_COLUMNS)
    assert views.queue_key(foreign) == "queued 3"
    assert views.queue_key(task()) == "t-1"


def test_workers_their_processes_and_what_they_hold() -> None:
    held = HeldTask(task_id="t-1", name="generate", order_id=42, started_at=NOW - MINUTE, pid=11)
    odd = HeldTask(task_id="t-2", name="beat.tick", started_at=None)
    later = HeldTask(task_id="t-3", name="generate", order_id=43, eta=NOW + MINUTE)
    worker = WorkerDetails(
        name="w@host",
        pid=10,
        concurrency=2,
        queues=("site_generation",),
        processes=(11, 12),
        processed=7,
        uptime=timedelta(hours=2),
        memory={10: 50_000_000, 11: 120_000_000},
        active=(held, odd),
        reserved=(HeldTask(task_id="t-4", name="generate", order_id=44),),
        scheduled=(later,),
    )
    found = views.processes(WorkerRoster(workers=(worker,)))
    assert [(each.pid, each.does) for each in found] == [
        *((None, "2 of 2"), (11, "runs"), (12, "idle"), (None, "runs"), (None, "reserved"), (None, "held")),
    ]
    assert len({each.key for each in found}) == len(found)
    snapshot = Snapshot(taken_at=NOW, orders={42: order(history=read_history(["START", "WRITE_FILES"]))})
    rows = [texts(views.worker_cells(each, snapshot, "site_generation", NOW)) for each in found]
    assert rows[0] == ["w@host", "10", "2 of 2", "", "", "50 MB", "up 2h, 7 done"]
    assert rows[1] == ["  └", "11", "runs", "42", "1m", "120 MB", "Padaria ━━━━╌╌  60% writing"]
    assert rows[2] == ["  └", "12", "idle", "", "", "-", ""]
    assert rows[3][6] == "beat.tick"
    assert rows[5][3:5] == ["43", "+1m"]


def test_a_worker_of_another_queue_stands_out() -> None:
    (process,) = views.processes(WorkerRoster(workers=(WorkerDetails(name="w@host", queues=("mail",)),)))
    cells = views.worker_cells(process, Snapshot(taken_at=NOW), "site_generation", NOW)
    assert cells[0].severity is Severity.FAULT
    assert cells[6].text == "does not consume site_generation"
    assert cells[2].text == "elsewhere"


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (123_456_789, "123 MB"), (2_500_000_000, "2.5 GB")],
)
def test_sizes(number: int | None, text: str) -> None:
    assert views.size(number) == text


def test_events_and_what_is_said_of_them() -> None:
    event = Event(type="task-started", fields={}, at=NOW, order_id=42, worker="w@host")
    cells = views.event_cells(views.Heard(number=1, at=NOW, what=event))
    assert texts(cells)[:3] == ["12:00:00", "task-started", "42"]
    assert cells[4].text == "w@host"
    undated = views.event_cells(views.Heard(number=2, at=NOW, what=Event(type="worker-online", fields={})))
    assert texts(undated)[:3] == ["--:--:--", "worker-online", ""]
    for note, severity in (
        (Advice(message="no worker"), Severity.UNKNOWN),
        (Lost(message="Redis is away"), Severity.UNKNOWN),
        (Regained(), Severity.OK),
    ):
        cells = views.event_cells(views.Heard(number=3, at=NOW, what=note))
        assert (cells[1].text, cells[1].severity, cells[3].text) == ("note", severity, note.message)
        assert len(cells) == len(views.EVENT_COLUMNS)


@pytest.mark.parametrize(
    ("status", "mark"),
    [(CheckStatus.OK, "✓"), (CheckStatus.WARNING, "!"), (CheckStatus.FAILED, "✗"), (CheckStatus.UNCHECKED, "?")],
)
def test_checks(status: CheckStatus, mark: str) -> None:
    check = Check(
        name=CheckName.REDIS, source=Source.BROKER, status=status, evidence=("full", "of work"), remedy="wait"
    )
    assert texts(views.check_cells(check, None)) == [mark, "redis", "full; of work", "wait"]
