"""Optional dependencies, and how to add one to the environment in which sitegenctl runs."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

#: The extra that brings a module.
_EXTRAS = {
    "filelock": "demo",
    "prometheus_client": "metrics",
    "psutil": "demo",
    "textual_serve": "web",
}


def missing_extra(exc: Exception) -> str | None:
    """The extra whose absence raised this error; None for any other error."""
    return _EXTRAS.get((exc.name or "").partition(".")[0]) if isinstance(exc, ModuleNotFoundError) else None


def install_hint(extra: str) -> str:
    """The command that installs the extra here. pipx keeps its pip elsewhere, and uv's environments have none."""
    prefix, package = Path(sys.prefix), f"'sitegenctl[{extra}]'"
    if (prefix / "pipx_metadata.json").exists():
        return f"pipx runpip {prefix.name} install {package}"
    if find_spec("pip") is None:
        return f"uv pip install --python {shlex.quote(str(prefix))} {package}"
    return f"{shlex.quote(sys.executable)} -m pip install {package}"
