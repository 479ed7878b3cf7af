"""The same system with either queue: what holds for one must hold for the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.systems import SYSTEMS, System


@pytest.fixture(params=SYSTEMS)
def system(
    request: pytest.FixtureRequest,
    database_url: str,
    redis_url: str,
    sites_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[System]:
    """The whole system, empty, with the queue that the test's name ends with."""
    made = SYSTEMS[request.param](database_url=database_url, redis_url=redis_url, sites_dir=sites_dir)
    made.world.configure(monkeypatch)
    yield made
    made.open_gate()
    made.world.close()
