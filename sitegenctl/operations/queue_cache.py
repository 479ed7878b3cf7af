"""What the queue held a moment ago: reading a long one for every few orders would take most of the time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sitegenctl.domain.orders.order import Order
from sitegenctl.domain.ports import QueueBackend
from sitegenctl.domain.queue.task import BrokerReading, LiveTask

# Seconds for which a reading of the queue is believed, and how many times as long as it took: a queue that grows under
# us must not be read for most of the time. Whoever else moves an order through its row is found out: before the plan
# is made by ``covers``, afterwards under the row's lock. This is about publishers that don't touch the row.
_FRESH = 1.0
_FRESH_TIMES = 10

# Seconds by which the clocks differ that an order's times are written by.
_CLOCKS_DIFFER = 2.0


@dataclass(kw_only=True)
class QueueCache:
    """The queue as it is believed to be, as far as it concerns these orders; they may become fewer."""

    queue: QueueBackend
    order_ids: Collection[int]
    _reading: BrokerReading = field(default_factory=BrokerReading)
    _by_order: dict[int, list[LiveTask]] = field(default_factory=dict)
    _began: float = float("-inf")
    _until: float = float("-inf")
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def reading(self) -> BrokerReading:
        """The tasks of these orders, without their positions. Raises ``SourceError``."""
        async with self._turn:
            if self._clock() > self._until:
                await self._read()
            return self._reading

    async def anew(self) -> BrokerReading:
        """The same, read now. Raises ``SourceError``."""
        async with self._turn:
            await self._read()
            return self._reading

    def covers(self, orders: Iterable[Order]) -> bool:
        """Whether no order of these, read just now, moved after the queue was read: it may have got a task by that."""
        age = self._clock() - self._began + _CLOCKS_DIFFER
        return all(
            order.idle is None or order.idle.total_seconds() > age or order.order_id in self._by_order
            for order in orders
        )

    async def tasks(self) -> Mapping[int, Sequence[LiveTask]]:
        """The same by order. Raises ``SourceError``."""
        await self.reading()
        return self._by_order

    async def _read(self) -> None:
        began = self._clock()
        self._reading = await self.queue.read(self.order_ids)
        self._by_order = {}
        for task in self._reading.tasks:
            if task.order_id is not None:
                self._by_order.setdefault(task.order_id, []).append(task)
        self._began, ended = began, self._clock()
        self._until = ended + max(_FRESH, _FRESH_TIMES * (ended - began))

    @staticmethod
    def _clock() -> float:
        return asyncio.get_running_loop().time()
