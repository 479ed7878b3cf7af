from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sitegenctl.adapters.broker.json_values import moment, span

NO_TIMES = [1e30, -1e30, 10**40, float("nan"), float("inf"), float("-inf"), "1", None, True, [1]]


@pytest.mark.parametrize("value", NO_TIMES)
def test_invalid_times_are_none(value: object) -> None:
    assert (moment(value), span(value)) == (None, None)


def test_valid_times_are_read() -> None:
    assert (moment(86400.5), moment(0)) == (datetime(1970, 1, 2, 0, 0, 0, 500000, tzinfo=UTC), None)
    assert (span(90), span(0), span(-1.5)) == (timedelta(seconds=90), timedelta(0), timedelta(seconds=-1.5))
