"""What the queue held a moment ago: reading a long one for every few orders would take most of the time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sitegenctl.domain.ports import QueueBackend
from sitegenctl.domain.task import BrokerReading, LiveTask

# Seconds for which a reading of the queue is believed, and how many times as long as it took: a queue that grows under
# us must not be read for most of the time. Whoever else moves an order through its row is found out under the row's
# lock; this is about publishers that don't touch the row.
_FRESH = 1.0
_FRESH_TIMES = 10


@dataclass(kw_only=True)
class Belief:
    """The queue as it is believed to be, as far as it concerns these orders; they may become fewer."""

    queue: QueueBackend
    order_ids: Collection[int]
    _reading: BrokerReading = field(default_factory=BrokerReading)
    _by_order: dict[int, list[LiveTask]] = field(default_factory=dict)
    _until: float = float("-inf")
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def reading(self) -> BrokerReading:
        """The tasks of these orders, without their positions. Raises ``SourceError``."""
        clock = asyncio.get_running_loop().time
        async with self._turn:
            began = clock()
            if began > self._until:
                self._reading = await self.queue.read(self.order_ids)
                self._by_order = {}
                for task in self._reading.tasks:
                    if task.order_id is not None:
                        self._by_order.setdefault(task.order_id, []).append(task)
                self._until = clock() + max(_FRESH, _FRESH_TIMES * (clock() - began))
            return self._reading

    async def tasks(self) -> Mapping[int, Sequence[LiveTask]]:
        """The same by order. Raises ``SourceError``."""
        await self.reading()
        return self._by_order
