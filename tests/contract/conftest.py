"""The same system with either queue: what holds for one must hold for the other."""

from __future__ import annotations

import pytest

from tests.support.world import World


@pytest.fixture(params=["celery", "rq"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def system(world: World) -> World:
    """The whole system, empty, with the queue that the test's name ends with."""
    return world
