"""Joining the broker's tasks with the workers' answers."""

from __future__ import annotations

from sitegenctl.domain.snapshot import attribute
from sitegenctl.domain.task import LiveTask, TaskState
from sitegenctl.domain.worker import Worker, WorkerSurvey


def task(task_id: str, state: TaskState, **facts: object) -> LiveTask:
    return LiveTask(task_id=task_id, name="generate", order_id=1, state=state, **facts)  # type: ignore[arg-type]


def survey(*claims: LiveTask, silent: int = 0) -> WorkerSurvey:
    return WorkerSurvey(workers=(Worker(name="w1", tasks=claims),), silent=silent)


def states(tasks: tuple[LiveTask, ...]) -> dict[str, TaskState]:
    return {task.task_id: task.state for task in tasks}


def test_a_delivered_task_gets_the_worker_that_claims_it() -> None:
    joined = attribute(
        [task("a", TaskState.UNACKED, attempt=2), task("b", TaskState.UNACKED)],
        survey(task("a", TaskState.RUNNING, worker="w1"), task("b", TaskState.RESERVED, worker="w1")),
    )
    assert states(joined) == {"a": TaskState.RUNNING, "b": TaskState.RESERVED}
    assert {t.worker for t in joined} == {"w1"}
    assert next(t for t in joined if t.task_id == "a").attempt == 2  # the broker knows it, the worker doesn't


def test_nobody_claims_it_and_everybody_answered_is_orphaned() -> None:
    assert states(attribute([task("a", TaskState.UNACKED)], survey())) == {"a": TaskState.ORPHANED}
    no_worker_at_all = WorkerSurvey()
    assert states(attribute([task("a", TaskState.UNACKED)], no_worker_at_all)) == {"a": TaskState.ORPHANED}


def test_a_silent_worker_may_have_it() -> None:
    assert states(attribute([task("a", TaskState.UNACKED)], survey(silent=1))) == {"a": TaskState.UNACKED}
    assert states(attribute([task("a", TaskState.UNACKED)], None)) == {"a": TaskState.UNACKED}


def test_what_waits_in_the_queue_needs_no_worker() -> None:
    assert states(attribute([task("a", TaskState.QUEUED)], survey(silent=3))) == {"a": TaskState.QUEUED}


def test_a_scheduled_task_that_was_tried_before_is_a_retry() -> None:
    held = survey(task("a", TaskState.SCHEDULED), task("b", TaskState.SCHEDULED))
    joined = attribute([task("a", TaskState.UNACKED), task("b", TaskState.UNACKED, attempt=2)], held)
    assert states(joined) == {"a": TaskState.SCHEDULED, "b": TaskState.RETRYING}


def test_a_task_that_only_a_worker_knows_is_live_too() -> None:
    assert states(attribute([], survey(task("a", TaskState.RUNNING)))) == {"a": TaskState.RUNNING}


def test_the_same_task_in_queue_and_worker_counts_once() -> None:
    joined = attribute(
        [task("a", TaskState.QUEUED, position=0), task("a", TaskState.UNACKED)],
        survey(task("a", TaskState.RUNNING, worker="w1")),
    )
    assert states(joined) == {"a": TaskState.RUNNING}


def test_the_running_one_comes_first_then_the_order_of_delivery() -> None:
    joined = attribute(
        [task("late", TaskState.QUEUED, position=7), task("soon", TaskState.QUEUED, position=0)],
        survey(task("now", TaskState.RUNNING)),
    )
    assert [t.task_id for t in joined] == ["now", "soon", "late"]
