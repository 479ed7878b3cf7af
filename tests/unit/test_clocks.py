from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sitegenctl.domain.health.postgres import clock_problem

NOW = datetime(2026, 1, 31, 8, tzinfo=UTC)


@pytest.mark.parametrize("seconds", [0, 60, -60])
def test_small_difference_is_no_problem(seconds: int) -> None:
    assert clock_problem(NOW + timedelta(seconds=seconds), NOW) is None


@pytest.mark.parametrize(
    ("seconds", "difference"),
    [(61, "1m 1s ahead of"), (-61, "1m 1s behind"), (8 * 86400, "8d ahead of"), (-3600, "1h behind")],
)
def test_large_difference_is_named(seconds: int, difference: str) -> None:
    problem = clock_problem(NOW + timedelta(seconds=seconds), NOW)
    assert problem == f"this machine's clock is {difference} the database's: ages of files are uncertain"
