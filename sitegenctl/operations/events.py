"""Stream the events of tasks and workers with their orders, across lost connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sitegenctl.domain.ports import EventSource, QueueBackend
from sitegenctl.domain.queue.event import Event, EventFilter, NoEvent, OrderMemory
from sitegenctl.domain.queue.worker import describe_no_worker
from sitegenctl.errors import SourceError
from sitegenctl.operations.follow import REGAINED, Notice, back_off


async def stream(
    source: EventSource, queue: QueueBackend, wanted: EventFilter, *, task_name: str
) -> AsyncIterator[Event | Notice]:
    """Yield the selected events without end, each with its order where it is known."""
    memory = OrderMemory(task_name)
    noted: set[NoEvent] = set()
    delays = None
    begun = False
    while True:
        try:
            # The first event of a live task, which names its order, has been sent. The queue is read before listening,
            # for tasks that end while it begins, and again for those that begin meanwhile.
            await _learn(memory, queue)
            async with source.listen() as events:
                await _learn(memory, queue)
                if begun and delays is not None:
                    yield REGAINED
                begun, delays = True, None
                async for event in events:
                    if isinstance(event, Event):
                        noted.add(NoEvent.SILENCE)  # which is a pause from now on
                        if wanted.matches(known := memory.attribute(event)):
                            yield known
                    elif event not in noted:
                        noted.add(event)
                        if event is NoEvent.MALFORMED:
                            yield Notice(message="skipped a message that is not an event in JSON")
                        else:
                            yield await _why_nothing(queue, source.enabling)
        except SourceError as exc:
            if not begun:
                raise
            if delays is None:
                delays = back_off()
                yield Notice(message=exc.message)
            await asyncio.sleep(next(delays))


async def _why_nothing(queue: QueueBackend, enabling: str) -> Notice:
    survey = await queue.survey()
    living = len(survey.workers) + survey.silent
    if living:
        workers = "the living worker sends" if living == 1 else f"{living} workers are alive, and send"
        return Notice(message=f"{workers} no events: {enabling}")
    if survey.consumers == 0:
        return Notice(message="no worker is alive: no events until one is")
    return Notice(message=f"{describe_no_worker(survey)}: it is unknown whether any sends events")


async def _learn(memory: OrderMemory, queue: QueueBackend) -> None:
    # The next task comes last: what was learned first is forgotten first.
    for task in reversed((await queue.read()).tasks):
        if task.order_id is not None:
            memory.learn(task.task_id, task.order_id)
