"""Joining the broker's tasks with the workers' answers."""

from __future__ import annotations

import pytest

from sitegenctl.domain.snapshot import attribute, confirmed, doubtful, unconfirmed
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


def test_a_task_that_runs_while_a_copy_of_it_waits_is_there_twice() -> None:
    joined = attribute([task("a", TaskState.QUEUED, position=0)], survey(task("a", TaskState.RUNNING, worker="w1")))
    assert [(t.state, t.worker, t.position) for t in joined] == [
        (TaskState.RUNNING, "w1", None),
        (TaskState.QUEUED, None, 0),
    ]
    assert doubtful(joined) == {"a"}


@pytest.mark.parametrize("state", [TaskState.RESERVED, TaskState.SCHEDULED])
def test_a_task_that_waits_at_a_worker_counts_once(state: TaskState) -> None:
    joined = attribute([task("a", TaskState.QUEUED, position=0)], survey(task("a", state, worker="w1")))
    assert states(joined) == {"a": state}
    assert len(joined) == 1


def test_what_runs_somewhere_is_not_hidden_by_who_holds_it_elsewhere() -> None:
    workers = (
        Worker(name="w1", tasks=(task("a", TaskState.RUNNING, worker="w1"),)),
        Worker(name="w2", tasks=(task("a", TaskState.RESERVED, worker="w2"),)),
    )
    (joined,) = attribute([task("a", TaskState.UNACKED)], WorkerSurvey(workers=workers))
    assert (joined.state, joined.worker) == (TaskState.RUNNING, "w1")


TWICE = (task("a", TaskState.RUNNING), task("a", TaskState.QUEUED, position=0))
ORPHAN = (task("a", TaskState.ORPHANED),)


@pytest.mark.parametrize(
    ("first", "second", "believed"),
    [
        (TWICE, TWICE, [TaskState.RUNNING, TaskState.QUEUED]),
        (TWICE, TWICE[:1], [TaskState.RUNNING]),  # a retry was on its way
        (TWICE, TWICE[1:], [TaskState.QUEUED]),  # and that one was over
        (TWICE, ORPHAN, [TaskState.UNACKED]),
        (TWICE, (), []),
        (ORPHAN, ORPHAN, [TaskState.ORPHANED]),
        (ORPHAN, TWICE, [TaskState.RUNNING]),
        (ORPHAN, (), []),
    ],
)
def test_what_is_doubtful_is_believed_when_two_looks_agree(
    first: tuple[LiveTask, ...], second: tuple[LiveTask, ...], believed: list[TaskState]
) -> None:
    other = task("b", TaskState.SCHEDULED)
    looked = confirmed((*first, other), (*second, task("c", TaskState.ORPHANED)))
    assert [t.state for t in looked if t.task_id == "a"] == believed
    assert other in looked
    assert all(t.task_id != "c" for t in looked)  # seen once


def test_without_a_second_look_each_task_counts_once_and_none_is_orphaned() -> None:
    assert [t.state for t in unconfirmed(TWICE)] == [TaskState.RUNNING]
    assert [t.state for t in unconfirmed(ORPHAN)] == [TaskState.UNACKED]


def test_the_running_one_comes_first_then_the_order_of_delivery() -> None:
    joined = attribute(
        [task("late", TaskState.QUEUED, position=7), task("soon", TaskState.QUEUED, position=0)],
        survey(task("now", TaskState.RUNNING)),
    )
    assert [t.task_id for t in joined] == ["now", "soon", "late"]
