"""The system on RQ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rq_world import RqWorld


@pytest.fixture
def rq(database_url: str, redis_url: str, sites_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RqWorld]:
    """The whole system, empty, with an RQ queue."""
    made = RqWorld(database_url=database_url, redis_url=redis_url, sites_dir=sites_dir)
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    yield made
    (sites_dir.parent / "gate").touch()
    made.close()
