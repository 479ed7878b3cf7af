from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sitegenctl.domain.plans.guards import waits
from sitegenctl.domain.queue.task import LiveTask, TaskState

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "facts", "expected"),
    [
        (TaskState.QUEUED, {"position": 3}, True),
        (TaskState.SCHEDULED, {"position": 3, "eta": NOW}, True),  # Celery's, in the queue and at no worker yet
        (TaskState.SCHEDULED, {"eta": NOW}, True),  # RQ's
        (TaskState.RETRYING, {"eta": NOW}, True),
        (TaskState.SCHEDULED, {}, False),  # it waits for something else than a time
        (TaskState.SCHEDULED, {"eta": NOW, "worker": "celery@a"}, False),
        (TaskState.RUNNING, {"worker": "celery@a"}, False),
        (TaskState.RESERVED, {"worker": "celery@a"}, False),
        (TaskState.UNACKED, {}, False),
        (TaskState.ORPHANED, {}, False),
    ],
)
def test_only_tasks_that_no_worker_holds_wait(state: TaskState, facts: dict[str, object], expected: bool) -> None:
    assert waits(LiveTask(task_id="T", name="generate", order_id=1, state=state, **facts)) is expected
