"""Files that are there as a whole or not at all, whatever dies meanwhile."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from sitegenctl.errors import UsageProblem

#: The mode of a file that its owner alone can read.
PRIVATE: Final = 0o600


def write_whole(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file, all of it or nothing: whoever reads meanwhile gets the old one.

    ``mode`` says who may read it, less what a umask takes away. Raises ``UsageProblem`` where it can't be written; what
    was there is still there then.
    """
    # In the same folder, so that renaming it is all that is left to do.
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "it is a directory")
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            # A rename may reach the disk before what it is the name of.
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as exc:
        partial.unlink(missing_ok=True)
        raise UsageProblem(f"{path} can't be written: {exc.strerror}") from exc


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone can read, and its folders if need be. Raises ``UsageProblem``."""
    # A link stays one: who keeps settings elsewhere has their reasons.
    path = Path(os.path.realpath(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise UsageProblem(f"{path} can't be written: {exc.strerror}") from exc
    write_whole(path, text, mode=PRIVATE)
