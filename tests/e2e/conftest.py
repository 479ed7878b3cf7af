"""A system of its own for each test, and its figures for the report of tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.living_system import System, living_system


@pytest.fixture
def persistence() -> bool:
    """Whether Redis still has everything after a restart; tests that say otherwise are parametrised."""
    return True


@pytest.fixture
def living(database_url: str, persistence: bool, request: pytest.FixtureRequest) -> Iterator[System]:
    """A system without workers; what they generated goes into the report, for ``tests.support.living_table``."""
    with (
        tempfile.TemporaryDirectory(prefix="sitegenctl-tests-") as folder,
        living_system(Path(folder), database_url, persistence=persistence) as system,
    ):
        yield system
        recovery = "" if system.recovery is None else f"{system.recovery:.1f}"
        figures = {"runs": len(system.runs.all()), "overlaps": len(system.runs.overlaps()), "recovery": recovery}
        request.node.user_properties.extend(figures.items())
