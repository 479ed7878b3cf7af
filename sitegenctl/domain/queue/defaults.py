"""What the system allows a generation: how long it may take, how often it is tried again. Times are in seconds.

The reference worker keeps to them, what is published carries them, and ``doctor`` holds other workers to them.
"""

from __future__ import annotations

from typing import Final

#: A generation is told of the first, and ended at the second.
SOFT_LIMIT: Final = 540
HARD_LIMIT: Final = 600

#: How often a task is tried again that raised something.
RETRIES: Final = 3

#: For so long its result is kept.
RESULTS_KEPT: Final = 24 * 3600
