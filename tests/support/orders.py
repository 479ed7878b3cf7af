"""Orders, tasks and snapshots of them, in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Onboarding, Order, OrderStatus
from sitegenctl.domain.orders.run_reader import read_history
from sitegenctl.domain.orders.site import SiteFiles
from sitegenctl.domain.queue.task import LiveTask, TaskState

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
