"""What the reference worker needs from outside for one generation; ``adapters/`` provides it.

Every method may raise ``sitegenctl.errors.SourceError`` when the database can't be reached, and no exception of
any driver.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from sitegenctl.domain.orders.generation_input import Brief
from sitegenctl.domain.orders.order import OrderStatus


class GenerationRecords(Protocol):
    """What the reference worker reads and writes while it generates one order.

    Whatever writes raises ``SourceError`` once the order's lock is lost.
    """

    async def status(self, order_id: int) -> OrderStatus | None:
        """The order's status. Raises ``GenerationError`` when there is no such order."""
        ...

    async def brief(self, order_id: int, site_url: str) -> Brief:
        """Everything the generator needs; ``site_url`` is where the site will be.

        Raises ``GenerationError`` without a complete onboarding.
        """
        ...

    async def log(self, order_id: int, step: str, message: str, status: str = "info", **details: Any) -> None:
        """Write one generation log row, visible at once."""
        ...

    async def has_briefing(self, order_id: int) -> bool:
        """Whether the BRIEFING deliverable is there already."""
        ...

    async def save_briefing(self, order_id: int, title: str, content: str) -> None:
        """Write the BRIEFING deliverable, or write it anew: there is never a second."""
        ...

    async def finish(self, order_id: int, site_url: str, message: str, **details: Any) -> bool:
        """Move the order to REVIEW and log SUCCESS, as one; neither, and False, when it is not being generated."""
        ...


class GenerationStore(Protocol):
    """Where the reference worker gets its records."""

    def lock(self, order_id: int) -> AbstractAsyncContextManager[GenerationRecords | None]:
        """Hold the order's generation lock; None when another generation holds it."""
        ...

    async def record_failure(self, order_id: int, message: str, note: str, **details: Any) -> None:
        """Log an ERROR and put the note into ``admin_notes`` as the system does, both as one.

        Neither while another run holds the order's lock, whose end the row would seem to be.
        """
        ...
