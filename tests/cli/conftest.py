from __future__ import annotations

import pytest

from tests.support.commands import Console
from tests.support.doctor_stage import _shown, on_stage, stage  # noqa: F401
from tests.support.world import World


@pytest.fixture
def console(world: World, capsys: pytest.CaptureFixture[str]) -> Console:
    """Commands about this world."""
    return Console(capsys)
