"""The system's limits for a generation, in seconds: the reference worker, publishing and ``doctor`` use them."""

from __future__ import annotations

from typing import Final

#: A generation is interrupted at the soft limit, and killed at the hard limit.
SOFT_LIMIT: Final = 540
HARD_LIMIT: Final = 600

#: Retries of a task that raised an exception.
RETRIES: Final = 3

#: Expiry of a result.
RESULTS_KEPT: Final = 24 * 3600
