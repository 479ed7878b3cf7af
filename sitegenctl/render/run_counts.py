"""Numbers of runs by outcome."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sitegenctl.domain.orders.run import RunCounts


def count_words(counts: RunCounts) -> str:
    """The runs that tried to generate a site."""
    return f"{counts.succeeded} generated, {counts.failed} failed"


def counts_data(counts: RunCounts) -> dict[str, Any]:
    """The runs by outcome for the envelope."""
    return {**asdict(counts), "success_rate": counts.success_rate}
