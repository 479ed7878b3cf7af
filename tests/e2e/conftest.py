"""A system with a Redis and workers of its own for each test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.living_system import System, living_system


@pytest.fixture
def persistence() -> bool:
    """Whether Redis keeps its data over a restart; parametrise a test to change it."""
    return True


@pytest.fixture
def living(database_url: str, persistence: bool) -> Iterator[System]:
    """A system without workers."""
    with (
        tempfile.TemporaryDirectory(prefix="sitegenctl-tests-") as folder,
        living_system(Path(folder), database_url, persistence=persistence) as system,
    ):
        yield system
