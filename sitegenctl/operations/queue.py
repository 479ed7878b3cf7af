"""The queue in running order, the workers, and one task: as the broker and the workers tell."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sitegenctl.domain.condition import Source
from sitegenctl.domain.order import Order
from sitegenctl.domain.ports import Consumers, OrdersStore, QueueBackend, WorkerSource
from sitegenctl.domain.snapshot import Snapshot
from sitegenctl.domain.task import TaskDetails, TaskPlace, TaskState
from sitegenctl.domain.worker import WorkerSurvey, describe_silence
from sitegenctl.errors import Refused, SourceError
from sitegenctl.operations.observe import SECOND_LOOK, observe_live


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
        raise SourceError(
            snapshot.errors[Source.BROKER], hint="sitegenctl doctor tells what mends it", source=Source.BROKER
        )
    return snapshot


async def would_consume(workers: WorkerSource) -> Consumers:
    """Who would be told to consume the queue, or not to: every living worker; one may refuse all the same."""
    seen = await workers.survey()
    return Consumers(obeyed=[worker.name for worker in seen.workers], refused={}, silent=seen.silent)


async def inspect_task(orders: OrdersStore | None, queue: QueueBackend, task_id: str) -> TaskView:
    """One task. Raises ``Refused`` when it is nowhere, ``SourceError`` without the broker, or who might have it.

    Without ``orders`` its customer is left out.
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
    return TaskView(task=task, order=order, workers=workers)


async def _find(queue: QueueBackend, task_id: str) -> tuple[TaskDetails | None, WorkerSurvey | None]:
    """The task, and what the workers answered; two looks, when all have, that nobody has it make it orphaned."""
    task = await queue.task_details(task_id, survey=WorkerSurvey())
    if task is not None and task.place is TaskPlace.QUEUE:
        return task, None
    survey = await queue.survey()
    task = await queue.task_details(task_id, survey=survey)
    if task is None or task.state is not TaskState.UNACKED or survey.silent:
        return task, survey
    await asyncio.sleep(SECOND_LOOK)
    survey = await queue.survey()
    task = await queue.task_details(task_id, survey=survey)
    if task is not None and task.state is TaskState.UNACKED and not survey.silent:
        task = replace(task, state=TaskState.ORPHANED)
    return task, survey
