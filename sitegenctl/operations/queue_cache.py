"""A recent reading of the queue. Reading a long queue again for every batch would take most of the time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sitegenctl.domain.orders.order import Order
from sitegenctl.domain.ports import QueueBackend
from sitegenctl.domain.queue.task import BrokerReading, LiveTask

# A reading is valid for this many seconds, or for this many times as long as it took, so that a growing queue is not
# read most of the time. Changes that go through an order's row are detected in any case: before planning by `covers`,
# afterwards under the row's lock. The limit is for publishers that do not touch the row.
_MIN_AGE = 1.0
_AGE_FACTOR = 10

#: Seconds by which the clocks that write an order's times may differ.
_CLOCK_SKEW = 2.0


@dataclass(kw_only=True)
class QueueCache:
    """The tasks of these orders as last read; ``order_ids`` may shrink meanwhile."""

    queue: QueueBackend
    order_ids: Collection[int]
    by_order: Mapping[int, Sequence[LiveTask]] = field(default_factory=dict)
    _reading: BrokerReading = field(default_factory=BrokerReading)
    _began: float = float("-inf")
    _valid_until: float = float("-inf")
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self, *, refresh: bool = False) -> BrokerReading:
        """The tasks of these orders without positions, read again if outdated. Raises ``SourceError``."""
        clock = asyncio.get_running_loop().time
        async with self._lock:
            if refresh or clock() > self._valid_until:
                began = clock()
                self._reading = await self.queue.read(self.order_ids)
                by_order: dict[int, list[LiveTask]] = {}
                for task in self._reading.tasks:
                    if task.order_id is not None:
                        by_order.setdefault(task.order_id, []).append(task)
                self.by_order, self._began = by_order, began
                self._valid_until = clock() + max(_MIN_AGE, _AGE_FACTOR * (clock() - began))
            return self._reading

    def covers(self, orders: Iterable[Order]) -> bool:
        """Whether none of these orders, read just now, changed since the reading: a change may have added a task."""
        age = asyncio.get_running_loop().time() - self._began + _CLOCK_SKEW
        return all(
            order.idle is None or order.idle.total_seconds() > age or order.order_id in self.by_order
            for order in orders
        )
