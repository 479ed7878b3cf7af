"""File locks of the demo: one ``up`` or ``down`` at a time per folder, one tour at a time.

The kernel releases a lock when its holder dies.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sitegenctl.errors import SitegenError

if TYPE_CHECKING:
    from filelock import FileLock


@contextlib.contextmanager
def exclusive(root: Path, timeout: float, progress: Callable[[str], None], *, remove: bool = False) -> Iterator[None]:
    """Hold the lock of the folder ``root``, which is created if missing.

    With ``remove``, the lock file and the folder, if empty, are removed at the end.

    Raises ``SitegenError`` if another process holds the lock for more than ``timeout`` seconds.
    """
    lock = _acquire(root, timeout, progress)
    try:
        yield
        if remove:
            # While the lock is held: a waiting process then creates a new file.
            Path(lock.lock_file).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                root.rmdir()
    finally:
        lock.release()


def _acquire(root: Path, timeout: float, progress: Callable[[str], None]) -> FileLock:
    # Slow to import, and not needed by `demo status`.
    from filelock import FileLock, Timeout

    lock = FileLock(root / "lock", mode=0o600)
    deadline = time.monotonic() + timeout
    is_first = True
    while True:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0 if is_first else max(0, deadline - time.monotonic()))
            return lock
        except FileNotFoundError:
            continue  # another process has just removed the folder
        except Timeout:
            if not is_first:
                raise SitegenError(
                    f"another demo up or demo down is still running in {root}", hint="wait until it ends"
                ) from None
        progress("Waiting for another demo up or demo down")
        is_first = False


@contextlib.contextmanager
def only_tour(folder: Path) -> Iterator[None]:
    """Hold the lock for tours of the demo below ``folder``; its file is removed at the end.

    Raises ``SitegenError`` if another tour is running.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(folder / "tour.lock", mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise SitegenError("another tour of the demo is running", hint="wait until it ends") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
