"""Hearing what tasks and workers do, live: with the orders that tasks are for, through lost connections.

Owns the reconnecting, and the telling of why nothing may be heard. What an event is, whose it is and who keeps
silent is ``domain/event.py``'s; where events come from, the adapter's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sitegenctl.domain.ports import EventSource, QueueBackend
from sitegenctl.domain.queue.event import Event, EventFilter, NoEvent, OrderMemory, SilentWorkers
from sitegenctl.domain.queue.worker import describe_no_worker
from sitegenctl.errors import SourceError
from sitegenctl.operations.follow import Lost, Regained, back_off


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Why nothing, or not everything, is heard."""

    message: str


async def stream(
    source: EventSource, queue: QueueBackend, wanted: EventFilter, *, task_name: str
) -> AsyncIterator[Event | Advice | Lost | Regained]:
    """Yield the events that are wanted, without end, each with its order where that is known.

    Raises ``SourceError`` only when Redis can't be reached at the beginning; a connection that is lost later
    is made again, and what was sent meanwhile is gone: Redis keeps no events.
    """
    memory = OrderMemory(task_name)
    hearing = _Hearing(queue, source.enabling)
    delays = None
    begun = False
    while True:
        try:
            # The tasks on the way already: their first events, which name the order, have been sent. SnapshotReady up
            # before, for those that end while the listening begins, and again for those taken up meanwhile.
            await _learn(memory, queue)
            async with source.listen() as events:
                await _learn(memory, queue)
                if begun and delays is not None:
                    yield Regained()
                begun, delays = True, None
                async for event in events:
                    advice = await hearing.advice(event)
                    if advice is not None:
                        yield advice
                    if isinstance(event, Event) and wanted.matches(known := memory.attribute(event)):
                        yield known
        except SourceError as exc:
            if not begun:
                raise
            if delays is None:
                delays = back_off()
                yield Lost(message=exc.message)
            await asyncio.sleep(next(delays))


class _Hearing:
    """What there is to say of what is heard, each thing once."""

    def __init__(self, queue: QueueBackend, enabling: str) -> None:
        self._queue = queue
        self._enabling = enabling
        self._silence = SilentWorkers()
        self._told_of_silence = self._told_of_garbage = self._heard = False

    async def advice(self, event: Event | NoEvent) -> Advice | None:
        """Take what was heard into account, and say what it is a sign of."""
        if isinstance(event, Event):
            self._heard = True
            worker = self._silence.note(event)
            if worker is None:
                return None
            return Advice(message=f"{worker} works, and sends no events of its tasks: {self._enabling}")
        if event is NoEvent.MALFORMED:
            told, self._told_of_garbage = self._told_of_garbage, True
            return None if told else Advice(message="something was sent that is no event in JSON; it is left out")
        told, self._told_of_silence = self._told_of_silence or self._heard, True
        return None if told else await self._why_nothing()

    async def _why_nothing(self) -> Advice:
        survey = await self._queue.survey()
        living = len(survey.workers) + survey.silent
        if not living:
            if survey.consumers == 0:
                return Advice(message="no worker is alive: no events until one is")
            why = describe_no_worker(survey)
            return Advice(message=f"{why}: whether any sends events is not known")
        workers = "the living worker sends" if living == 1 else f"{living} workers live, and none sends"
        return Advice(message=f"{workers} no events: {self._enabling}")


async def _learn(memory: OrderMemory, queue: QueueBackend) -> None:
    # The next to be delivered last: what was learned first is forgotten first.
    for task in reversed((await queue.read()).tasks):
        if task.order_id is not None:
            memory.learn(task.task_id, task.order_id)
