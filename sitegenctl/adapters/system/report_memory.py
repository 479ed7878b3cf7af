"""The faults that maintenance has reported, kept between runs in the state directory."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from sitegenctl.config.atomic_write import write_private
from sitegenctl.errors import UsageProblem


class ReportFile:
    """``ReportMemory`` in a file for each system; ``system`` identifies it and is hashed.

    Without a writable ``folder`` nothing is remembered, and every run reports all faults.
    """

    def __init__(self, folder: Path | None, system: str) -> None:
        self._path = folder / f"maintain-{_hashed(system)}.json" if folder is not None else None

    def load(self) -> Mapping[int, str]:
        """Reports of earlier runs; empty if the file can't be read."""
        if self._path is None:
            return {}
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            return {int(order_id): key for order_id, key in content.items() if isinstance(key, str)}
        except (OSError, ValueError, AttributeError, RecursionError):
            return {}

    def save(self, reported: Mapping[int, str]) -> None:
        """Replace the reports, if the file can be written."""
        if self._path is None or reported == self.load():
            return
        try:
            write_private(self._path, json.dumps({str(order_id): key for order_id, key in reported.items()}))
        except UsageProblem:
            return


def new_warnings(folder: Path | None, system: str, warnings: tuple[str, ...]) -> tuple[str, ...]:
    """Those that the last run did not have. They are remembered, if ``folder`` can be written."""
    if folder is None:
        return warnings
    path = folder / f"warnings-{_hashed(system)}.json"
    try:
        known = tuple(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        known = ()
    if known != warnings:
        with contextlib.suppress(UsageProblem):
            write_private(path, json.dumps(warnings))
    return tuple(warning for warning in warnings if warning not in known)


def _hashed(system: str) -> str:
    return hashlib.sha256(system.encode(errors="surrogatepass")).hexdigest()[:16]
