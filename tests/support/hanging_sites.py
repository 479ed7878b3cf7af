"""Run sitegenctl with a sites directory on a dead network mount: every access hangs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from sitegenctl.__main__ import main

_NEVER = threading.Event()


def _hanging(call: Callable[..., Any]) -> Callable[..., Any]:
    def hang(path: Any = ".", *arguments: Any, **options: Any) -> Any:
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(os.environ["SITES_BASE_DIR"]):
            os.write(2, b"hanging\n")
            _NEVER.wait()
        return call(path, *arguments, **options)

    return hang


if __name__ == "__main__":
    for name in ("stat", "lstat", "scandir", "access", "statvfs"):
        setattr(os, name, _hanging(getattr(os, name)))
    sys.exit(main())
