"""File locks of the demo: one ``up`` or ``down`` at a time per folder, one tour at a time.

The kernel releases a lock when its holder dies. filelock is slow to import, and not needed by ``demo status``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from sitegenctl.errors import SitegenError, UsageProblem


@contextlib.contextmanager
def exclusive(root: Path, timeout: float, progress: Callable[[str], None], *, remove: bool = False) -> Iterator[None]:
    """Hold the lock of the folder ``root``, which is created if missing.

    With ``remove``, the lock file and the folder, if empty, are removed at the end.

    Raises ``SitegenError`` if another process holds the lock for more than ``timeout`` seconds, and ``UsageProblem`` if
    the folder can't be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(root / "lock", mode=0o600)
    wait = 0.0
    while not lock.is_locked:
        _create(root)
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
        except OSError as exc:
            raise _unwritable(root, exc) from exc
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

    Raises ``SitegenError`` if another tour is running, and ``UsageProblem`` if the folder can't be written.
    """
    from filelock import FileLock, Timeout

    _create(folder)
    lock = FileLock(folder / "tour.lock", mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise SitegenError("another tour of the demo is running", hint="wait until it ends") from None
    except OSError as exc:
        raise _unwritable(folder, exc) from exc
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _create(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise _unwritable(folder, exc) from exc


def _unwritable(folder: Path, exc: OSError) -> UsageProblem:
    return UsageProblem(f"{folder} can't be written: {exc.strerror}", hint="set SITEGENCTL_DATA_DIR to another folder")
