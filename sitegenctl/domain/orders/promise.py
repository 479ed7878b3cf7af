"""Promises to customers: when an order is due. Facts beside the condition, which they never change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

DEFAULT_DUE_SOON = timedelta(days=1)


class Promise(StrEnum):
    """What is wrong, or soon may be, with the due date of an undelivered order."""

    LATE = "late"
    WILL_BE_LATE = "will be late"  # by the forecast of its task
    DUE_SOON = "due soon"


@dataclass(frozen=True, kw_only=True)
class PromiseCounts:
    """Numbers of undelivered orders. Those that ``will_be_late`` may be due soon, too; None without a forecast."""

    late: int
    due_soon: int
    will_be_late: int | None = None


def judge_promise(
    due_in: timedelta | None, *, due_soon: timedelta, ready_in: timedelta | None = None
) -> Promise | None:
    """Judge a due date by the time left, which is negative once it has passed.

    ``ready_in`` is when its task ends at the earliest.
    """
    if due_in is None:
        return None
    if due_in < timedelta(0):
        return Promise.LATE
    if ready_in is not None and ready_in > due_in:
        return Promise.WILL_BE_LATE
    return Promise.DUE_SOON if due_in < due_soon else None
