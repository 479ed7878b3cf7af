"""Everything seen at one moment, and how the four sources are put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property

from sitegenctl.domain.condition import DEFAULT_GRACE, Diagnosis, Evidence, Source, diagnose
from sitegenctl.domain.order import Order
from sitegenctl.domain.site import SiteFiles
from sitegenctl.domain.task import ForeignMessage, LiveTask, TaskState
from sitegenctl.domain.worker import WorkerSurvey, describe_silence


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Orders, tasks, workers and files as they were at ``taken_at`` (UTC, aware).

    ``errors`` names each source that did not answer, with the reason: what depends on it is unknown.
    """

    taken_at: datetime
    orders: Mapping[int, Order] = field(default_factory=dict)
    tasks: Sequence[LiveTask] = ()
    foreign: Sequence[ForeignMessage] = ()
    workers: WorkerSurvey | None = None
    files: Mapping[int, SiteFiles] = field(default_factory=dict)
    errors: Mapping[Source, str] = field(default_factory=dict)
    grace: timedelta = DEFAULT_GRACE
    check_hollow: bool = False

    @property
    def unanswered(self) -> Mapping[Source, str]:
        """What is missing in it, by source: ``errors``, and workers that are alive and silent."""
        silence = describe_silence(self.workers) if self.workers else None
        return {**self.errors, Source.WORKERS: silence} if silence else self.errors

    def tasks_of(self, order_id: int) -> tuple[LiveTask, ...]:
        """The order's live tasks, the one that runs or would run next first."""
        return self._tasks_by_order.get(order_id, ())

    @cached_property
    def _tasks_by_order(self) -> Mapping[int | None, tuple[LiveTask, ...]]:
        by_order: dict[int | None, list[LiveTask]] = {}
        for task in self.tasks:
            by_order.setdefault(task.order_id, []).append(task)
        return {order_id: tuple(tasks) for order_id, tasks in by_order.items()}

    def known_ids(self) -> list[int]:
        """Every order that was read or has a live task, lowest first; a task may name one that is missing."""
        with_task = {task.order_id for task in self.tasks if task.order_id is not None}
        return sorted({*self.orders, *with_task})

    def diagnose(self, order_id: int) -> Diagnosis:
        """The verdict on one order, from everything in this snapshot."""
        if (known := self._verdicts.get(order_id)) is not None:
            return known
        verdict = diagnose(
            Evidence(
                order_id=order_id,
                order=self.orders.get(order_id),
                tasks=self.tasks_of(order_id),
                files=self.files.get(order_id),
                unavailable=frozenset(self.errors),
                workers_alive=self.workers is None or self.workers.anyone_alive,
                grace=self.grace,
                check_hollow=self.check_hollow,
            )
        )
        self._verdicts[order_id] = verdict
        return verdict

    @cached_property
    def _verdicts(self) -> dict[int, Diagnosis]:
        # Lists are sorted and counted by verdict, again and again.
        return {}


_RUNNING_FIRST = sorted(TaskState, key=lambda state: state is not TaskState.RUNNING)


def attribute(tasks: Iterable[LiveTask], survey: WorkerSurvey | None) -> tuple[LiveTask, ...]:
    """Join the broker's tasks with the workers' answers, by task id.

    A delivered task gets the worker that claims it. If nobody claims it, it is orphaned when every living
    worker has answered, and stays ``unacked`` when one is silent or none was asked. A task that only a worker
    knows of (acknowledged early, or on the move while the broker was read) is live too. One that runs while its
    message waits in the queue is there twice: it would run twice. What is ``doubtful`` takes a second look.
    """
    claimed: dict[str, LiveTask] = {}
    for worker in survey.workers if survey else ():
        for task in worker.tasks:
            if task.state is TaskState.RUNNING or task.task_id not in claimed:
                claimed[task.task_id] = task
    everyone_answered = survey is not None and survey.silent == 0
    joined: dict[str, LiveTask] = {}
    copies: list[LiveTask] = []
    for task in tasks:
        claim = claimed.pop(task.task_id, None)
        if claim is not None:
            if claim.state is TaskState.RUNNING and task.state is TaskState.QUEUED:
                copies.append(task)
            # A worker holds retries with the tasks scheduled for later, and doesn't say which is which.
            retrying = claim.state is TaskState.SCHEDULED and task.attempt > 1
            state = TaskState.RETRYING if retrying else claim.state
            task = replace(task, state=state, worker=claim.worker, position=None)
        elif task.state is TaskState.UNACKED and everyone_answered:
            task = replace(task, state=TaskState.ORPHANED)
        joined.setdefault(task.task_id, task)
    for task_id, claim in claimed.items():
        joined.setdefault(task_id, claim)
    return _in_order((*joined.values(), *copies))


def doubtful(tasks: Iterable[LiveTask], before: Iterable[LiveTask] = ()) -> frozenset[str]:
    """The ids of tasks that one look is not enough to believe: orphaned, or there twice.

    It may have met a task that finishes, whose worker had let go of it already, or one that is tried again: that
    is published before its last delivery is acknowledged. What an earlier look found to be so ``before`` isn't doubted.
    """
    known = doubtful(before) if before else frozenset()
    seen: set[str] = set()
    doubted: set[str] = set()
    for task in tasks:
        if task.state is TaskState.ORPHANED or task.task_id in seen:
            doubted.add(task.task_id)
        seen.add(task.task_id)
    return frozenset(doubted - known)


def confirmed(first: Sequence[LiveTask], second: Sequence[LiveTask]) -> tuple[LiveTask, ...]:
    """The tasks of the first look; the doubtful ones are as the second found them, if that is what both saw."""
    doubted = doubtful(first)
    both = {(task.task_id, task.state) for task in first}
    again = [task for task in second if task.task_id in doubted]
    agreed = {task.task_id for task in again if (task.task_id, task.state) in both}
    certain = [task for task in first if task.task_id not in doubted]
    believed = [task for task in again if task.task_id in agreed]
    others = unconfirmed(task for task in again if task.task_id not in agreed)
    return _in_order((*certain, *believed, *others))


def unconfirmed(tasks: Iterable[LiveTask]) -> tuple[LiveTask, ...]:
    """The tasks as far as one look can be believed: each of them once, and none orphaned."""
    once: dict[str, LiveTask] = {}
    for task in tasks:
        orphaned = task.state is TaskState.ORPHANED
        once.setdefault(task.task_id, replace(task, state=TaskState.UNACKED) if orphaned else task)
    return tuple(once.values())


def _in_order(tasks: Iterable[LiveTask]) -> tuple[LiveTask, ...]:
    return tuple(sorted(tasks, key=lambda task: (_RUNNING_FIRST.index(task.state), task.position or 0)))
