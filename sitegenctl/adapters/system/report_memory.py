"""What maintenance has reported, kept between runs in a file of the user's state directory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from sitegenctl.config.atomic_write import write_private
from sitegenctl.errors import UsageProblem


class ReportFile:
    """``ReportMemory`` in one file for each system; ``system`` is any text that names it, and is only hashed.

    Without a ``folder``, or where it can't be written, nothing is remembered: faults are then reported at each run.
    """

    def __init__(self, folder: Path | None, system: str) -> None:
        name = hashlib.sha256(system.encode(errors="surrogatepass")).hexdigest()[:16]
        self._path = folder / f"maintain-{name}.json" if folder is not None else None

    def load(self) -> Mapping[int, str]:
        """What earlier runs have reported; nothing where that can't be read."""
        if self._path is None:
            return {}
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            return {int(order_id): key for order_id, key in content.items() if isinstance(key, str)}
        except (OSError, ValueError, AttributeError, RecursionError):
            return {}

    def save(self, reported: Mapping[int, str]) -> None:
        """Remember this instead, as far as it can be written."""
        if self._path is None or reported == self.load():
            return
        try:
            write_private(self._path, json.dumps({str(order_id): key for order_id, key in reported.items()}))
        except UsageProblem:
            return
