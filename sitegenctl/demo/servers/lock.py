"""File locks of the demo: one ``up`` or ``down`` at a time per folder, one tour at a time.

The kernel releases a lock when its holder dies. filelock is slow to import, and not needed by ``demo status``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from sitegenctl.errors import SitegenError


@contextlib.contextmanager
def exclusive(root: Path, timeout: float, progress: Callable[[str], None], *, remove: bool = False) -> Iterator[None]:
    """Hold the lock of the folder ``root``, which is created if missing.

    With ``remove``, the lock file and the folder, if empty, are removed at the end.

    Raises ``SitegenError`` if another process holds the lock for more than ``timeout`` seconds.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(root / "lock", mode=0o600)
    wait = 0.0
    while not lock.is_locked:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=wait)
        except FileNotFoundError:
            continue  # another process has just removed the folder
        except Timeout:
            if wait:
                message = f"another demo up or demo down is still running in {root}"
                raise SitegenError(message, hint="wait until it ends") from None
            progress("Waiting for another demo up or demo down")
            wait = timeout
    try:
        yield
        if remove:
            # While the lock is held: a waiting process then creates a new file.
            Path(lock.lock_file).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                root.rmdir()
    finally:
        lock.release()


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
