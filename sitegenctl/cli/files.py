"""Files that a command writes because it was told to."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from sitegenctl.errors import UsageProblem


def write_whole(path: Path, text: str) -> None:
    """Write a file for everybody to read, all of it or nothing: whoever reads meanwhile gets the old one.

    Raises ``UsageProblem`` where it can't be written; what was there is still there then.
    """
    # In the same folder, so that renaming it is all that is left to do.
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "it is a directory")
        # What a umask takes away is taken away here, too.
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            # A rename may reach the disk before what it is the name of.
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as exc:
        partial.unlink(missing_ok=True)
        raise UsageProblem(f"{path} can't be written: {exc.strerror}") from exc
