"""Files that are written as a whole or not at all; what is no regular file is written through.

Only regular files are replaced. A symbolic link keeps pointing to its target, and a device or a pipe stays what it is.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from sitegenctl.errors import UsageProblem

#: The mode of a file that its owner alone can read.
PRIVATE: Final = 0o600

# What no open() can write to.
_UNWRITABLE: Final = {stat.S_IFDIR: "it is a directory", stat.S_IFSOCK: "it is a socket"}


def output_file(option: str, text: str) -> Path:
    """Read an option that names a file to write, before any work is done for it.

    Raises ``UsageProblem`` for an empty name, and for what can never be written.
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
    """Write a file, all of it or nothing: readers see the old content until the new one is complete.

    ``mode`` is that of the new file, less the umask. What is no regular file, such as a pipe, is written to. Raises
    ``UsageProblem`` where it can't be written; an old file is still there then.
    """
    try:
        existing = _mode_of(path)
        target = Path(os.path.realpath(path))
        # /dev/stdout and the like lead to files by ways that have no path.
        is_found = existing is None or (target.exists() and target.samefile(path))
        if is_found and (existing is None or stat.S_ISREG(existing)):
            _replace(target, text, mode)
        else:
            with open(os.open(path, os.O_WRONLY | os.O_TRUNC), "w", encoding="utf-8") as file:
                file.write(text)
    except OSError as exc:
        raise UsageProblem(f"{path} can't be written: {exc.strerror}") from exc


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone can read, and its folders if need be. Raises ``UsageProblem``."""
    try:
        Path(os.path.realpath(path)).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise UsageProblem(f"{path} can't be written: {exc.strerror}") from exc
    write_whole(path, text, mode=PRIVATE)


def _mode_of(path: Path) -> int | None:
    """The type and mode of what is there, None if nothing is. Raises ``OSError`` for what can't be written."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if (reason := _UNWRITABLE.get(stat.S_IFMT(mode))) is not None:
        raise OSError(22, reason)
    return mode


def _replace(target: Path, text: str, mode: int) -> None:
    # In the same folder, so that renaming it is all that is left to do.
    partial = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            # A rename may reach the disk before what it is the name of.
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
