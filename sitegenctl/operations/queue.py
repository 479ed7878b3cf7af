"""The queue in running order, the workers, and one task: as the broker and the workers tell."""

from __future__ import annotations

from dataclasses import dataclass

from sitegenctl.domain.condition import Source
from sitegenctl.domain.order import Order
from sitegenctl.domain.ports import Consumers, OrdersStore, QueueBackend, WorkerSource
from sitegenctl.domain.snapshot import Snapshot
from sitegenctl.domain.task import TaskDetails
from sitegenctl.errors import Refused, SourceError
from sitegenctl.operations.observe import observe_live


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """One task, and its order as far as there is one and the database answers."""

    task: TaskDetails
    order: Order | None


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
    """One task. Raises ``Refused`` when it is nowhere, ``SourceError`` without the broker.

    Without ``orders`` its customer is left out.
    """
    task = await queue.task_details(task_id)
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
    return TaskView(task=task, order=order)
