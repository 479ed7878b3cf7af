"""How tasks leave a Celery queue for another, and get into it from there; see ``queue_moving``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sitegenctl.adapters.broker.moving import Departure
from sitegenctl.adapters.celery.codec import (
    encode,
    headers_of,
    installed_celery,
    resume_in,
)
from sitegenctl.adapters.celery.messages import QueuedMessage, RawMessages
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.redis.client import Command
from sitegenctl.adapters.redis.connection import Link
from sitegenctl.domain.queue.task import LiveTask, Publication


class CeleryMoving:
    """``Leaving`` and ``Arriving`` of a Celery queue."""

    def __init__(self, options: QueueOptions) -> None:
        self._options = options

    async def departures(self, link: Link, tasks: Sequence[LiveTask]) -> Mapping[str, Departure]:
        """How each of these tasks that is still in the queue's lists leaves them."""
        found: dict[str, list[QueuedMessage]] = {}
        for waiting in await RawMessages(link, self._options).waiting({task.task_id for task in tasks}):
            found.setdefault(waiting.task_id, []).append(waiting)
        return {task_id: _departure(*messages) for task_id, messages in found.items()}

    def arrival(self, publication: Publication) -> Sequence[Command]:
        """What publishes the task, with its ETA and the number of its attempt."""
        message = encode(
            task_name=self._options.task,
            queue=self._options.queue,
            task_id=publication.task_id,
            args=[publication.order_id],
            kwargs={"resume": publication.resume},
            headers=headers_of(publication),
            celery=installed_celery(),
            eta=publication.eta,
            retries=publication.attempt - 1,
        )
        return [("LPUSH", self._options.lists[0], message)]


def _departure(message: QueuedMessage, *copies: QueuedMessage) -> Departure:
    """How a message leaves; copies of it, which would be the same task once more, go with it."""
    return Departure(
        resume=resume_in(message.raw),
        taking=("LREM", message.key, -1, message.raw),
        # It was next, or behind others that were to go before it.
        undoing=("RPUSH", message.key, message.raw),
        clearing=[("LREM", copy.key, -1, copy.raw) for copy in copies],
    )
