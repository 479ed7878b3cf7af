"""Limits of the system: of a generation in seconds, and of numbers. The reference worker and ``doctor`` use them."""

from __future__ import annotations

from typing import Final

#: A generation is interrupted at the soft limit, and killed at the hard limit.
SOFT_LIMIT: Final = 540
HARD_LIMIT: Final = 600

#: Retries of a task that raised an exception.
RETRIES: Final = 3

#: Expiry of a result.
RESULTS_KEPT: Final = 24 * 3600

#: Largest value of PostgreSQL's ``bigint``, the widest type that ``site_orders.id`` may have.
MAX_ORDER_ID: Final = 2**63 - 1
