"""The ports of the reference worker, implemented in ``adapters/``.

Every method may raise ``sitegenctl.errors.SourceError`` when the database can't be reached, and no exception of a
driver.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from sitegenctl.domain.orders.generation_input import Brief
from sitegenctl.domain.orders.order import OrderStatus


class GenerationRecords(Protocol):
    """The records of one order that the reference worker reads and writes while it generates it.

    Writing raises ``SourceError`` once the order's lock is lost.
    """

    async def status(self, order_id: int) -> OrderStatus | None:
        """Read the order's status. Raises ``GenerationError`` when there is no such order."""
        ...

    async def brief(self, order_id: int, site_url: str) -> Brief:
        """Read the generator's input; ``site_url`` is the address of the site.

        Raises ``GenerationError`` without a complete onboarding.
        """
        ...

    async def log(self, order_id: int, step: str, message: str, status: str = "info", **details: Any) -> None:
        """Write one generation log row, visible at once."""
        ...

    async def has_briefing(self, order_id: int) -> bool:
        """Whether the BRIEFING deliverable exists."""
        ...

    async def save_briefing(self, order_id: int, title: str, content: str) -> None:
        """Write or replace the BRIEFING deliverable."""
        ...

    async def finish(self, order_id: int, site_url: str, message: str, **details: Any) -> bool:
        """Set REVIEW and log SUCCESS in one transaction; False, and neither, when the order is not GENERATING."""
        ...


class GenerationStore(Protocol):
    """The database of the reference worker."""

    def lock(self, order_id: int) -> AbstractAsyncContextManager[GenerationRecords | None]:
        """Hold the order's run lock; None when another generation holds it."""
        ...

    async def record_failure(self, order_id: int, message: str, note: str, **details: Any) -> None:
        """Log an ERROR and set ``admin_notes`` as the system does, in one transaction.

        Neither while another run holds the order's lock: the row would look like the end of that run.
        """
        ...
