"""What maintenance has reported and posted, kept between runs in one file of the state directory."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sitegenctl.config.atomic_write import PRIVATE, write_private
from sitegenctl.domain.health.news import Known
from sitegenctl.errors import UsageProblem


class ReportFile:
    """``ReportMemory`` in a file for each system; ``system`` identifies it and is hashed.

    Without a writable ``folder`` nothing is remembered, and every run reports all faults.
    """

    def __init__(self, folder: Path | None, system: str) -> None:
        self._path = folder / f"maintain-{_hashed(system)}.json" if folder is not None else None

    def load(self) -> Mapping[int, str]:
        """Reports of earlier runs; empty if the file can't be read."""
        # One that is not a number is the state of notifications.
        return {int(name): key for name, key in self._read().items() if isinstance(key, str) and name.isdecimal()}

    def save(self, reported: Mapping[int, str]) -> None:
        """Replace the reports, if the file can be written."""
        if reported != self.load():
            kept = {name: value for name, value in self._read().items() if not name.isdecimal()}
            self._write({**{str(order_id): key for order_id, key in reported.items()}, **kept})

    def load_known(self, receiver: str) -> Known:
        """What the receiver with this URL knows; nothing if the file can't be read."""
        return Known.from_json(self._read().get(_receiver(receiver)))

    def save_known(self, receiver: str, known: Known) -> None:
        """Replace what the receiver with this URL knows. Raises ``UsageProblem`` if the file can't be written."""
        if known == self.load_known(receiver):
            return
        if self._path is None:
            raise UsageProblem("there is no state directory; set SITEGENCTL_STATE_DIR")
        write_private(self._path, json.dumps({**self._read(), _receiver(receiver): known.to_json()}))

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold the lock of the file; False if another process holds it.

        Where there can be no lock, because the directory can't be written or has none, it counts as held.
        """
        with contextlib.ExitStack() as stack:
            is_free = True
            try:
                if self._path is not None:
                    self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    descriptor = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, PRIVATE)
                    stack.callback(os.close, descriptor)
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                is_free = False
            except OSError:
                pass
            yield is_free

    def _read(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def _write(self, content: Mapping[str, Any]) -> None:
        if self._path is not None:
            with contextlib.suppress(UsageProblem):
                write_private(self._path, json.dumps(content))


def _receiver(url: str) -> str:
    # The URL may contain a token.
    return f"notified-{_hashed(url)}"


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
