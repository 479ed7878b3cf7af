"""The hint of a missing extra is a command that installs it into this environment."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sitegenctl import extras


@pytest.mark.parametrize(
    ("marker", "has_pip", "command"),
    [
        ("pipx_metadata.json", True, "pipx runpip crm-1 install 'sitegenctl[web]'"),
        ("uv-receipt.toml", False, "uv pip install --python '{prefix}' 'sitegenctl[web]'"),
        ("pyvenv.cfg", True, "'{prefix}/bin/python' -m pip install 'sitegenctl[web]'"),
    ],
    ids=["pipx", "uv", "venv"],
)
def test_hint_fits_the_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marker: str, has_pip: bool, command: str
) -> None:
    prefix = tmp_path / "my tools" / "crm-1"
    prefix.mkdir(parents=True)
    (prefix / marker).touch()
    monkeypatch.setattr(sys, "prefix", str(prefix))
    monkeypatch.setattr(sys, "executable", f"{prefix}/bin/python")
    monkeypatch.setattr(extras, "find_spec", lambda name: object() if has_pip else None)
    assert extras.install_hint("web") == command.format(prefix=prefix)
