"""A command whose extra is not installed names it, and does nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sitegenctl.extras import install_hint
from tests.support.world import World


@pytest.mark.parametrize(
    ("command", "extra", "module"),
    [
        ("live --web", "web", "textual_serve"),
        ("metrics", "metrics", "prometheus_client"),
        ("metrics --listen 0", "metrics", "prometheus_client"),
        ("demo up", "demo", "psutil"),
        ("demo up", "demo", "filelock"),
        ("demo tour", "demo", "psutil"),
        ("demo status", "demo", "psutil"),
        ("demo down", "demo", "psutil"),
    ],
)
def test_missing_extra_is_named(world: World, command: str, extra: str, module: str) -> None:
    # In a process: the module must be hidden before anything imports it.
    hide = f"import sys; sys.modules[{module!r}] = None"
    script = f"{hide}; from sitegenctl.cli.app import run; sys.exit(run({command.split()}))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.splitlines() == [f"error: the extra {extra} is not installed", f"hint: {install_hint(extra)}"]
