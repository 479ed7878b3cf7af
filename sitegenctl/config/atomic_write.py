"""Writing files completely or not at all.

Only regular files are replaced. A symbolic link keeps pointing to its target; a device or pipe is written to.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from sitegenctl.errors import UsageProblem

#: File mode: readable by the owner only.
PRIVATE: Final = 0o600

# File types that open() cannot write to.
_UNWRITABLE: Final = {stat.S_IFDIR: "it is a directory", stat.S_IFSOCK: "it is a socket"}


def output_file(option: str, text: str) -> Path:
    """Check an option that names an output file, before any work is done.

    Raises ``UsageProblem`` for an empty name and for a file that can't be written.
    """
    if not text:
        raise UsageProblem(f"{option}: the file name is empty")
    if text.endswith(os.sep) or Path(text).name in ("", ".", ".."):
        raise UsageProblem(f"{text} can't be written: it is a directory")
    path = Path(text)
    try:
        _mode_of(path)
        if not Path(os.path.realpath(path)).parent.is_dir():
            raise FileNotFoundError(2, "its directory does not exist")
    except OSError as exc:
        raise UsageProblem(f"{path} can't be written: {exc.strerror}") from exc
    return path


def write_whole(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace a file atomically; readers see the old content until the new content is complete.

    ``mode`` is the mode of a new file before the umask. Raises ``UsageProblem`` and keeps the old file if it can't be
    written.
    """
    try:
        existing = _mode_of(path)
        target = Path(os.path.realpath(path))
        # /dev/stdout and the like may lead to a file that has no path.
        has_path = existing is None or (target.exists() and target.samefile(path))
        if has_path and (existing is None or stat.S_ISREG(existing)):
            _replace(target, text, mode)
        else:
            with open(os.open(path, os.O_WRONLY | os.O_TRUNC), "w", encoding="utf-8") as file:
                file.write(text)
    except OSError as exc:
        raise UsageProblem(f"{path} can't be written: {exc.strerror}") from exc


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, creating its directories. Raises ``UsageProblem``."""
    try:
        Path(os.path.realpath(path)).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise UsageProblem(f"{path} can't be written: {exc.strerror}") from exc
    write_whole(path, text, mode=PRIVATE)


def _mode_of(path: Path) -> int | None:
    """File type and mode, None if there is no file. Raises ``OSError`` for types that can't be written."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if (reason := _UNWRITABLE.get(stat.S_IFMT(mode))) is not None:
        raise OSError(22, reason)
    return mode


def _replace(target: Path, text: str, mode: int) -> None:
    # In the same directory, because a rename is atomic only within one file system.
    partial = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            # Without this, the rename may reach the disk before the content.
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
