from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from sitegenctl.config.settings import Settings
from sitegenctl.domain.diagnosis.condition import Condition, Diagnosis, Severity, Source
from sitegenctl.domain.diagnosis.listing import ListedOrder, OrderQuery
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.health.check import Check, CheckStatus
from sitegenctl.domain.orders.order import Order
from sitegenctl.domain.orders.run_reader import read_history
from sitegenctl.domain.queue.event import Event
from sitegenctl.domain.queue.task import ForeignMessage, LiveTask, TaskState
from sitegenctl.domain.queue.worker import WorkerDetails
from sitegenctl.operations.follow import REGAINED, Notice
from sitegenctl.operations.live_state import LiveSnapshot
from sitegenctl.tui.preferences import DEFAULT_KEYS
from sitegenctl.tui.service import LiveService, ViewData
from sitegenctl.tui.views import VIEWS
from sitegenctl.tui.views.doctor import DoctorView
from sitegenctl.tui.views.events import EventsView
from sitegenctl.tui.views.orders import OrdersView
from sitegenctl.tui.views.queue import QueueView
from sitegenctl.tui.views.view import LogEntry, View, ViewContext
from sitegenctl.tui.views.workers import WorkersView, worker_rows
from sitegenctl.tui.widgets.live_table import Cell
from sitegenctl.tui.widgets.look import file_size, progress_bar
from tests.support.values import order, task

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def listed(condition: Condition, *evidence: str, **facts: object) -> ListedOrder:
    verdict = Diagnosis(condition=condition, evidence=evidence or ("so it is",))
    return ListedOrder(order_id=42, order=order(**{"idle": 3 * MINUTE, **facts}), verdict=verdict)


def texts(cells: Sequence[Cell]) -> list[str]:
    return [cell.text for cell in cells]


V = TypeVar("V", bound=View[Any])


def view_of(kind: type[V], *, orders: Sequence[Order] = (), taken_at: datetime = NOW, now: datetime = NOW) -> V:
    """A view, outside of an app, that shows a snapshot with these orders."""
    settings, query = Settings(queue="site_generation"), OrderQuery()
    service = LiveService(settings, lambda _: None, query, interval=1.0)
    view = kind(ViewContext(settings=settings, service=service, keys=DEFAULT_KEYS, may_act=True))
    snapshot = Snapshot(taken_at=taken_at, orders={each.order_id: each for each in orders})
    view.set_reactive(View.data, ViewData(live=LiveSnapshot(snapshot=snapshot), query=query))
    view.set_reactive(View.now, now)
    return view


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.NAME)
def test_every_table_has_a_flexible_column(view: type[View[Any]]) -> None:
    assert any(column.width is None and not column.from_width for column in view.COLUMNS)


def test_order_age_grows_after_the_poll() -> None:
    row = listed(Condition.INTERRUPTED, "GENERATING for 3m without a live task", "its log has no row")
    cells = view_of(OrdersView).cells(row)
    assert texts(cells) == ["42", "interrupted", "GENERATING", "3m", "", "Padaria", "its log has no row"]
    assert cells[1].severity is Severity.FAULT
    assert texts(view_of(OrdersView, now=NOW + 2 * MINUTE).cells(row))[3] == "5m"
    # A clock that is behind.
    assert texts(view_of(OrdersView, now=NOW - MINUTE).cells(row))[3] == "3m"


def test_due_date_comes_closer_after_the_poll() -> None:
    row = listed(Condition.QUEUED, due_in=MINUTE)
    due = [view_of(OrdersView, now=NOW + later).cells(row)[4] for later in (timedelta(0), 2 * MINUTE)]
    assert [(cell.text, cell.severity) for cell in due] == [("in 1m", Severity.UNKNOWN), ("late 1m", Severity.FAULT)]
    (far,) = [view_of(OrdersView).cells(listed(Condition.QUEUED, due_in=timedelta(days=3)))[4]]
    assert (far.text, far.severity) == ("in 3d", Severity.OK)


def test_cells_of_a_missing_order() -> None:
    verdict = Diagnosis(condition=Condition.GHOST, evidence=("a live task, and no such order",))
    row = ListedOrder(order_id=99, order=None, verdict=verdict)
    assert texts(view_of(OrdersView).cells(row)) == ["99", "ghost", "-", "-", "", "-", "a live task, and no such order"]


def test_cells_of_an_order_with_unknown_facts() -> None:
    view = view_of(OrdersView)
    row = listed(Condition.UNKNOWN, status=None, status_label=None, idle=None, business_name=None)
    assert texts(view.cells(row))[2:6] == ["NULL", "-", "", "Ana"]
    assert view.cells(listed(Condition.UNKNOWN, status=None, status_label="PAUSED"))[2].text == "PAUSED"


FAILED = "the last run ended in ERROR"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (listed(Condition.FAILED, FAILED, last_error="429"), "429"),
        (listed(Condition.FAILED, FAILED), FAILED),
        (listed(Condition.EMPTY, "GENERATING for 3m without a live task", "cut short"), "cut short"),
        (
            listed(Condition.RUNNING, "task t-1 running", history=read_history(["START", "WRITE_FILES"])),
            "━━━━╌╌  60% writing",
        ),
        (listed(Condition.RUNNING, "task t-1 running"), "task t-1 running"),
    ],
    ids=["error", "no error text", "empty", "running", "no progress"],
)
def test_reason_of_an_order(row: ListedOrder, reason: str) -> None:
    assert texts(view_of(OrdersView).cells(row))[6] == reason


def test_progress_bar() -> None:
    assert progress_bar(None) == progress_bar(order()) == ""
    assert progress_bar(order(history=read_history(["START"]))) == "╌╌╌╌╌╌   3% starting"
    assert progress_bar(order(history=read_history(["START", "FINALIZE"]))) == "━━━━━━  95% finishing"
    # A warning about an earlier stage and a new step change nothing.
    writing = ["START", "WRITE_FILES", "CLEANUP_WARNING", "AI_CONTENT_ERROR", "SOMETHING_NEW"]
    assert progress_bar(order(history=read_history(writing))) == "━━━━╌╌  60% writing"
    assert progress_bar(order(history=read_history([*writing, "SUCCESS", "DNS_SKIP"]))) == "━━━━━━ 100% done"
    assert progress_bar(order(history=read_history([*writing, "ERROR"]))) == ""
    assert progress_bar(order(history=read_history([*writing, "START"]))) == "╌╌╌╌╌╌   3% starting"


def test_queued_and_scheduled_tasks() -> None:
    view = view_of(QueueView, orders=[order()])
    queued = task(position=0, enqueued_at=NOW - 5 * MINUTE, attempt=2)
    assert texts(view.cells(queued)) == ["1", "queued", "42", "Padaria", "5m", "2", "-", "-", "-", "t1"]
    scheduled = task(TaskState.RETRYING, worker="w@host", eta=NOW + MINUTE)
    assert texts(view.cells(scheduled))[0] == "-"
    assert texts(view.cells(scheduled))[6:9] == ["1m", "-", "w@host"]
    assert texts(view_of(QueueView, now=NOW + 2 * MINUTE).cells(scheduled))[6] == "-"
    orphaned = view.cells(task(TaskState.ORPHANED, order_id=None))
    assert (orphaned[1].severity, orphaned[2].text, orphaned[3].text) == (Severity.FAULT, "-", "-")


def test_foreign_message() -> None:
    view = view_of(QueueView)
    foreign = ForeignMessage(name="beat.tick", reason="belongs to no order", state=TaskState.QUEUED, position=3)
    cells = view.cells(foreign)
    assert texts(cells)[:4] == ["4", "queued", "-", "beat.tick: belongs to no order"]
    assert len(cells) == len(view.COLUMNS)
    assert view.key(foreign) == "queued 3"
    assert view.key(task()) == "t1"


def test_workers_with_their_processes_and_tasks() -> None:
    running = LiveTask(
        task_id="t-1", state=TaskState.RUNNING, name="generate", order_id=42, started_at=NOW - MINUTE, pid=11
    )
    other = LiveTask(task_id="t-2", state=TaskState.RUNNING, name="beat.tick", order_id=None)
    scheduled = LiveTask(task_id="t-3", state=TaskState.SCHEDULED, name="generate", order_id=43, eta=NOW + MINUTE)
    worker = WorkerDetails(
        name="w@host",
        pid=10,
        concurrency=2,
        queues=("site_generation",),
        processes=(11, 12),
        processed=7,
        uptime=timedelta(hours=2),
        memory={10: 50_000_000, 11: 120_000_000},
        active=(running, other),
        reserved=(LiveTask(task_id="t-4", state=TaskState.RESERVED, name="generate", order_id=44),),
        scheduled=(scheduled,),
    )
    rows = [*worker_rows(worker)]
    states = ["2 of 2", "running", "idle", "running", "reserved", "scheduled"]
    assert [row.state for row in rows] == states
    assert [row.pid for row in rows] == [None, 11, 12, None, None, None]
    view = view_of(WorkersView, orders=[order(history=read_history(["START", "WRITE_FILES"]))])
    assert len({view.key(row) for row in rows}) == len(rows)
    cells = [texts(view.cells(row)) for row in rows]
    assert cells[0] == ["w@host", "10", "2 of 2", "", "", "50 MB", "up 2h, 7 done"]
    assert cells[1] == ["  └", "11", "running", "42", "1m", "120 MB", "Padaria ━━━━╌╌  60% writing"]
    assert cells[2] == ["  └", "12", "idle", "", "", "-", ""]
    assert cells[3][6] == "beat.tick"
    assert cells[5][3:5] == ["43", "+1m"]


def test_worker_of_another_queue_is_a_fault() -> None:
    (row,) = worker_rows(WorkerDetails(name="w@host", queues=("mail",)))
    cells = view_of(WorkersView).cells(row)
    assert cells[0].severity is Severity.FAULT
    assert cells[6].text == "does not consume site_generation"
    assert cells[2].text == "wrong queue"


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (123_456_789, "123 MB"), (2_500_000_000, "2.5 GB")],
)
def test_file_sizes(number: int | None, text: str) -> None:
    assert file_size(number) == text


def test_events_and_notes() -> None:
    view = view_of(EventsView)
    event = Event(type="task-started", fields={}, at=NOW, order_id=42, worker="w@host")
    cells = view.cells(LogEntry(number=1, at=NOW, item=event))
    assert texts(cells)[:3] == ["12:00:00", "task-started", "42"]
    assert cells[4].text == "w@host"
    undated = view.cells(LogEntry(number=2, at=NOW, item=Event(type="worker-online", fields={})))
    assert texts(undated)[:3] == ["--:--:--", "worker-online", ""]
    for note, severity in (
        (Notice(message="no worker"), Severity.UNKNOWN),
        (Notice(message="Redis is unreachable"), Severity.UNKNOWN),
        (REGAINED, Severity.OK),
    ):
        cells = view.cells(LogEntry(number=3, at=NOW, item=note))
        assert (cells[1].text, cells[1].severity, cells[3].text) == ("note", severity, note.message)
        assert len(cells) == len(view.COLUMNS)


@pytest.mark.parametrize(
    ("status", "mark"),
    [(CheckStatus.OK, "✓"), (CheckStatus.WARNING, "!"), (CheckStatus.FAILED, "✗"), (CheckStatus.UNCHECKED, "?")],
)
def test_checks(status: CheckStatus, mark: str) -> None:
    check = Check(name="redis", source=Source.BROKER, status=status, evidence=("full", "of work"), remedy="wait")
    assert texts(view_of(DoctorView).cells(check)) == [mark, "redis", "full; of work", "wait"]
