"""Judging due dates, with and without a forecast."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sitegenctl.domain.diagnosis.describe import describe_due
from sitegenctl.domain.diagnosis.forecast import Forecast, Obstacle, Range
from sitegenctl.domain.orders.promise import Promise, PromiseCounts
from tests.support.values import order, snapshot

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("due_in", "ends_in", "promise", "text"),
    [
        (None, None, None, ""),
        (None, 1, None, ""),
        (-2, None, Promise.LATE, "late 2h"),
        (-2, 1, Promise.LATE, "late 2h"),
        (0, None, Promise.DUE_SOON, "in 0s"),
        (2, None, Promise.DUE_SOON, "in 2h"),
        (2, 1, Promise.DUE_SOON, "in 2h"),
        (2, 2, Promise.DUE_SOON, "in 2h"),
        (2, 3, Promise.WILL_BE_LATE, "in 2h, will be late"),
        (24, None, None, "in 1d"),
        (48, 72, Promise.WILL_BE_LATE, "in 2d, will be late"),
    ],
)
def test_promise_of_an_order(due_in: int | None, ends_in: int | None, promise: Promise | None, text: str) -> None:
    due = due_in * HOUR if due_in is not None else None
    ends = {42: Range(low=ends_in * HOUR, middle=90 * HOUR, high=99 * HOUR)} if ends_in is not None else {}
    observed = snapshot(order(due_in=due), forecast=Forecast(order_ends=ends))
    assert observed.promise_of(observed.orders[42]) is promise
    assert describe_due(due, promise) == text
    expected = int(promise is Promise.WILL_BE_LATE)
    assert observed.with_expected(PromiseCounts(late=1, due_soon=2)) == PromiseCounts(
        late=1, due_soon=2, will_be_late=expected
    )


@pytest.mark.parametrize("forecast", [None, Forecast(obstacle=Obstacle.NO_CONSUMER)])
def test_nothing_is_expected_without_a_forecast(forecast: Forecast | None) -> None:
    counts = PromiseCounts(late=1, due_soon=2)
    assert snapshot(order(due_in=HOUR), forecast=forecast).with_expected(counts) == counts
    assert snapshot(forecast=forecast).with_expected(None) is None
