"""One ``up`` or ``down`` at a time in one folder.

How a file is locked is in ``locks``.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sitegenctl.demo.servers.file_lock import try_lock
from sitegenctl.demo.servers.processes import POLL
from sitegenctl.errors import SitegenError


@contextlib.contextmanager
def taking_turns(
    root: Path, patience: float, progress: Callable[[str], None], *, leave: bool = False
) -> Iterator[None]:
    """Hold the folder's lock, made with the folder if missing; with ``leave`` remove both in the end, if empty.

    Raises:
        SitegenError: another one still holds it after ``patience`` seconds.
    """
    descriptor = _take(root, patience, progress)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
        if leave:
            # Under the lock: whoever waits for it sees that its file is gone, and begins anew.
            (root / "lock").unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                root.rmdir()
    finally:
        os.close(descriptor)


def _take(root: Path, patience: float, progress: Callable[[str], None]) -> int:
    path = root / "lock"
    deadline = time.monotonic() + patience
    told = False
    while True:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = try_lock(path)
            if descriptor is not None:
                return descriptor
            holder = path.read_text(errors="replace").strip() or "unknown"
        except FileNotFoundError:
            continue  # another one has just removed the folder
        if time.monotonic() > deadline:
            raise SitegenError(
                f"another demo up or down (pid {holder}) is at work in {root}",
                hint="wait for it, or end that process",
            )
        if not told:
            progress(f"Waiting for another demo up or down (pid {holder})")
            told = True
        time.sleep(POLL)


@contextlib.contextmanager
def only_tour(folder: Path) -> Iterator[None]:
    """Be the only tour of the stacks below this folder; nothing is left of the lock afterwards.

    Raises:
        SitegenError: another tour is under way.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "tour.lock"
    descriptor = try_lock(path)
    if descriptor is None:
        raise SitegenError("another tour of the demo is under way", hint="wait until it has ended")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
