"""Planning for many orders a window at a time, so that not all of them have to be in memory at once.

Each window is looked at for itself. What a plan keeps of an order is little; whoever applies it looks again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from sitegenctl.domain.plan import Plan, joined

#: Orders looked at together.
WINDOW = 5000


async def in_windows(order_ids: Sequence[int], plan: Callable[[Sequence[int]], Awaitable[Plan]]) -> Plan:
    """The plan for all these orders, made window by window; at least one, so that sources are asked in any case."""
    starts = range(0, max(len(order_ids), 1), WINDOW)
    return joined([await plan(order_ids[start : start + WINDOW]) for start in starts])
