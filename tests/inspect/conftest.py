from __future__ import annotations

import pytest

from tests.inspect.console import Console
from tests.world import World


@pytest.fixture
def console(world: World, capsys: pytest.CaptureFixture[str]) -> Console:
    """Commands about this world."""
    return Console(capsys)
