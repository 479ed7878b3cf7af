"""Stream the events of tasks and workers with their orders, across lost connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sitegenctl.domain.ports import EventSource, QueueBackend
from sitegenctl.domain.queue.event import Event, EventFilter, NoEvent, OrderMemory, SilentWorkers
from sitegenctl.domain.queue.worker import describe_no_worker
from sitegenctl.errors import SourceError
from sitegenctl.operations.follow import REGAINED, Notice, back_off


async def stream(
    source: EventSource, queue: QueueBackend, wanted: EventFilter, *, task_name: str
) -> AsyncIterator[Event | Notice]:
    """Yield the selected events without end, each with its order where it is known."""
    memory = OrderMemory(task_name)
    adviser = _Adviser(queue, source.enabling)
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
                    advice = await adviser.advice(event)
                    if advice is not None:
                        yield advice
                    if isinstance(event, Event) and wanted.matches(known := memory.attribute(event)):
                        yield known
        except SourceError as exc:
            if not begun:
                raise
            if delays is None:
                delays = back_off()
                yield Notice(message=exc.message)
            await asyncio.sleep(next(delays))


class _Adviser:
    """Gives advice on what arrives, each once."""

    def __init__(self, queue: QueueBackend, enabling: str) -> None:
        self._queue = queue
        self._enabling = enabling
        self._silent = SilentWorkers()
        self._got_event = self._warned_silence = self._warned_malformed = False

    async def advice(self, event: Event | NoEvent) -> Notice | None:
        """The advice on an event or its absence, if any."""
        if isinstance(event, Event):
            self._got_event = True
            worker = self._silent.note(event)
            if worker is None:
                return None
            return Notice(message=f"{worker} runs tasks and sends no events about them: {self._enabling}")
        if event is NoEvent.MALFORMED:
            warned, self._warned_malformed = self._warned_malformed, True
            return None if warned else Notice(message="skipped a message that is not an event in JSON")
        warned, self._warned_silence = self._warned_silence or self._got_event, True
        return None if warned else await self._why_nothing()

    async def _why_nothing(self) -> Notice:
        survey = await self._queue.survey()
        living = len(survey.workers) + survey.silent
        if not living:
            if survey.consumers == 0:
                return Notice(message="no worker is alive: no events until one is")
            reason = describe_no_worker(survey)
            return Notice(message=f"{reason}: it is unknown whether any sends events")
        workers = "the living worker sends" if living == 1 else f"{living} workers are alive, and send"
        return Notice(message=f"{workers} no events: {self._enabling}")


async def _learn(memory: OrderMemory, queue: QueueBackend) -> None:
    # The next task comes last: what was learned first is forgotten first.
    for task in reversed((await queue.read()).tasks):
        if task.order_id is not None:
            memory.learn(task.task_id, task.order_id)
