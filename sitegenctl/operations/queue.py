"""The queue in running order, the workers, and one task: as the broker and the workers tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.liveness import Liveness, StaleClaim, separate_claims
from sitegenctl.domain.diagnosis.remedy import RUN_DOCTOR
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Order
from sitegenctl.domain.ports import Consumers, OrdersStore, QueueBackend, WorkerSource
from sitegenctl.domain.queue.task import DEFAULT_HARD_LIMIT, BrokerReading, LiveTask, TaskDetails, TaskPlace, TaskState
from sitegenctl.domain.queue.worker import WorkerRoster, WorkerSurvey, describe_silence, survey_of
from sitegenctl.errors import Refused, SourceError
from sitegenctl.operations.observe import SECOND_LOOK, observe_live, utc_now


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """One task, and its order as far as there is one and the database answers.

    ``workers`` are the answers to who has it; None where nobody had to be asked.
    """

    task: TaskDetails
    order: Order | None
    workers: WorkerSurvey | None = None

    @property
    def unanswered(self) -> Mapping[Source, str]:
        """What is missing in it: workers that are alive and silent."""
        silence = describe_silence(self.workers) if self.workers else None
        return {Source.WORKERS: silence} if silence else {}


async def inspect_queue(orders: OrdersStore, queue: QueueBackend) -> Snapshot:
    """Everything live, with the orders that the tasks are for. Raises ``SourceError`` without the broker."""
    snapshot = await observe_live(orders, queue)
    if Source.BROKER in snapshot.errors:
        raise SourceError(snapshot.errors[Source.BROKER], hint=RUN_DOCTOR, source=Source.BROKER)
    return snapshot


async def would_consume(workers: WorkerSource) -> Consumers:
    """Who would be told to consume the queue, or not to: every living worker; one may refuse all the same."""
    seen = await workers.survey()
    return Consumers(acknowledged=[worker.name for worker in seen.workers], rejected={}, unresponsive=seen.silent)


async def inspect_workers(
    workers: WorkerSource, queue: Callable[[], QueueBackend], *, task_name: str
) -> tuple[WorkerRoster, Sequence[StaleClaim]]:
    """The workers, and the tasks that they list although these have ended. Raises ``SourceError`` without the broker.

    The ``queue`` is made only where a worker says that it runs something, or where none responds.
    """
    roster = await workers.worker_details()
    survey = survey_of(roster, task_name=task_name)
    running = {task.task_id for worker in roster.workers for task in worker.active}
    if not roster.workers and not roster.silent:
        # Only what is in the queue shows then whether anything may be running.
        delivered = (task.state is TaskState.UNACKED for task in (await queue().read()).tasks)
        return replace(roster, may_run=any(delivered)), ()
    if not running:
        return roster, ()
    finished = await queue().finished(running)
    _, stale = separate_claims(survey, (), finished)
    if not stale:
        return roster, ()
    # A task that has a message still may be about to be acknowledged.
    messages = {task.task_id for task in (await queue().read()).tasks}
    return roster, separate_claims(survey, messages, finished)[1]


async def inspect_task(
    orders: OrdersStore | None, queue: QueueBackend, task_id: str, *, hard_limit: timedelta = DEFAULT_HARD_LIMIT
) -> TaskView:
    """One task. Raises ``Refused`` when it is nowhere, ``SourceError`` without the broker, or who might have it.

    Without ``orders`` its customer is left out. ``hard_limit`` is after what time a run is over, where no worker names
    another limit.
    """
    task, workers = await _find(queue, task_id)
    silence = describe_silence(workers) if workers else None
    if task is None and silence:
        raise SourceError(
            f"task {task_id} is not in the queue and has no result, and {silence}",
            hint="a silent worker may have it: look again, or with a longer --timeout",
            source=Source.WORKERS,
        )
    if task is None:
        raise Refused(
            f"there is no task {task_id}: not in the queue, at no worker, and no result",
            hint="results are kept for a day",
        )
    order = None
    if task.order_id is not None and orders is not None:
        try:
            order = (await orders.read_orders([task.order_id])).get(task.order_id)
        except SourceError:
            # What the broker tells is what was asked for; the customer's name is a courtesy.
            order = None
    if task.state is TaskState.UNACKED and workers is not None:
        task = _decided(task, order, workers, hard_limit)
    return TaskView(task=task, order=order, workers=workers)


def _decided(task: TaskDetails, order: Order | None, survey: WorkerSurvey, fallback: timedelta) -> TaskDetails:
    """A delivered task that no worker claims: unaccounted, or orphaned where that is proven."""
    place = LiveTask(
        task_id=task.task_id,
        name=task.name or "",
        order_id=task.order_id,
        state=TaskState.UNACCOUNTED,
        delivered_at=task.delivered_at,
    )
    liveness = Liveness(reading=BrokerReading(hard_limit=fallback), survey=survey, now=utc_now())
    (settled,) = liveness.decide([place], {order.order_id: order} if order is not None else {})
    return replace(task, state=settled.state, until=settled.until)


async def _find(queue: QueueBackend, task_id: str) -> tuple[TaskDetails | None, WorkerSurvey | None]:
    """The task, and what the workers replied; one that is in no worker's reply is looked for twice."""
    task = await queue.task_details(task_id, survey=WorkerSurvey())
    if task is not None and task.place is TaskPlace.QUEUE:
        return task, None
    survey = await queue.survey()
    task = await queue.task_details(task_id, survey=survey)
    if task is None or task.state is not TaskState.UNACKED:
        return task, survey
    await asyncio.sleep(SECOND_LOOK)
    survey = await queue.survey()
    return await queue.task_details(task_id, survey=survey), survey
