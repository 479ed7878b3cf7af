"""Commands run in the test's own process, where a process of its own for each would take too long."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from sitegenctl.cli.app import run


@dataclass(frozen=True)
class Console:
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        code = run(arguments)
        return (code, *self.capsys.readouterr())

    def text(self, *arguments: str) -> str:
        """What a command without any complaint shows."""
        code, stdout, stderr = self(*arguments)
        assert (code, stderr) == (0, ""), arguments
        return stdout

    def data(self, *arguments: str) -> Any:
        """Likewise, its data."""
        return json.loads(self.text(*arguments, "-o", "json"))["data"]

    def envelope(self, *arguments: str) -> Any:
        """All of it, whatever came of it."""
        return json.loads(self(*arguments, "-o", "json")[1])
