"""Domain values for unit tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sitegenctl.domain.diagnosis.condition import Condition, Source
from sitegenctl.domain.diagnosis.overview import Depth, Overview
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.health.access import NEEDED_COLUMNS, ColumnAccess, DatabaseAccess
from sitegenctl.domain.orders.order import Onboarding, Order, OrderStatus
from sitegenctl.domain.orders.promise import PromiseCounts
from sitegenctl.domain.orders.run_reader import RunRow, RunStream, read_history
from sitegenctl.domain.orders.site import SiteFiles
from sitegenctl.domain.queue.task import LiveTask, TaskState
from sitegenctl.domain.statistics.metrics import Measurement, RunTotals

PRIVILEGES = frozenset({"SELECT", "INSERT", "UPDATE"})


def columns() -> dict[str, dict[str, ColumnAccess]]:
    """All columns that are needed, of a type that is understood, with every privilege."""
    made = {
        table: {name: ColumnAccess(type=min(types), privileges=PRIVILEGES) for name, types in needed.items()}
        for table, needed in NEEDED_COLUMNS.items()
    }
    made["site_orders"]["status"] = ColumnAccess(
        type="siteorderstatus", labels=tuple(OrderStatus), privileges=PRIVILEGES
    )
    return made


FULL_ACCESS = DatabaseAccess(role="crm_user", columns=columns())


T0 = datetime.fromisoformat("2026-03-01T12:00")


STEPS = [
    *("START", "RESUME", "RESUME_DECISION", "CLEANUP", "PHASE_1_START", "PHASE_1_ERROR", "FETCH_DATA", "WRITE_FILES"),
    *("SUCCESS", "SKIP", "ERROR", "OPERATOR_ENQUEUE", "OPERATOR_ENQUEUE_FAILED", "OPERATOR_RESET"),
    *("OPERATOR_RESET_FAILED", "OPERATOR_CANCEL", "OPERATOR_REPAIR", "SOMETHING_NEW"),
]


def counted(rows: list[RunRow], since: datetime = T0) -> RunTotals:
    stream, totals = RunStream(), RunTotals(since)
    for row in rows:
        if (run := stream.feed(row)) is not None:
            totals.add(run)
    for run in stream.close():
        totals.add(run)
    return totals


def measured(*, unanswered: dict[Source, str] | None = None, totals: RunTotals | None = None) -> Measurement:
    away = unanswered or {}
    snapshot = Snapshot(
        taken_at=datetime(2026, 3, 1, tzinfo=UTC),
        orders={},
        tasks=(),
        workers=None,
        files={},
        errors=away,
        grace=timedelta(minutes=2),
    )
    has_broker, has_database = Source.BROKER not in away, Source.DATABASE not in away
    seen = Overview(
        snapshot=snapshot,
        depth={TaskState.QUEUED: Depth(count=2, oldest=None)} if has_broker else None,
        foreign=0 if has_broker else None,
        roster=None,
        by_status={None: 1, 'od"d\n\\': 2} if has_database else None,
        by_condition={Condition.FAILED: [1, 2]} if has_database else None,
        promises=PromiseCounts(late=1, due_soon=2, will_be_late=1) if has_database else None,
        last_hour=None,
        last_day=None,
        unanswered=away,
    )
    took = {source: 0.01 for source in Source if source not in away}
    return Measurement(overview=seen, totals=totals, unanswered=away, took=took, seconds=0.1)


NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def order(order_id: int = 42, status: OrderStatus | None = OrderStatus.GENERATING, *steps: str, **fields: Any) -> Order:
    """An order that changed three hours ago, with these steps in its log."""
    known = {
        "customer_name": "Ana",
        "business_name": "Padaria",
        "onboarding": Onboarding.COMPLETE,
        "idle": timedelta(hours=3),
        "last_log_id": 7,
        "history": read_history(steps),
    }
    return Order(order_id=order_id, status=status, **{**known, **fields})


def task(
    state: TaskState = TaskState.QUEUED, task_id: str = "t1", order_id: int | None = 42, **fields: Any
) -> LiveTask:
    """A task that was enqueued an hour ago; one that runs or is reserved is at worker w1."""
    worker = "w1" if state in (TaskState.RUNNING, TaskState.RESERVED) else None
    known = {"name": "generate", "worker": worker, "enqueued_at": NOW - timedelta(hours=1)}
    return LiveTask(task_id=task_id, order_id=order_id, state=state, **{**known, **fields})


def snapshot(*orders: Order, tasks: tuple[LiveTask, ...] = (), files: int | None = 0, **fields: Any) -> Snapshot:
    """A snapshot of these orders, each with ``files`` files (None: not counted)."""
    counted = {} if files is None else {each.order_id: SiteFiles(count=files, size=1) for each in orders}
    return Snapshot(taken_at=NOW, orders={each.order_id: each for each in orders}, tasks=tasks, files=counted, **fields)
