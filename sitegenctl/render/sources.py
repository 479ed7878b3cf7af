"""The sources that did not answer, as the envelope has them."""

from __future__ import annotations

from sitegenctl.domain.snapshot import Snapshot


def source_errors(snapshot: Snapshot) -> list[dict[str, str | None]]:
    """An error for each source that did not answer."""
    return [{"message": message, "hint": None, "source": source} for source, message in snapshot.errors.items()]
