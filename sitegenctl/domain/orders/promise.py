"""Promises to customers: when an order is due. Facts beside the condition, which they never change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

DEFAULT_DUE_SOON = timedelta(days=1)


class Promise(StrEnum):
    """What is wrong, or soon may be, with the due date of an undelivered order."""

    LATE = "late"
    DUE_SOON = "due soon"


@dataclass(frozen=True, kw_only=True)
class PromiseCounts:
    """Numbers of undelivered orders; an order counts once."""

    late: int
    due_soon: int


def judge_promise(due_in: timedelta | None, *, due_soon: timedelta) -> Promise | None:
    """Judge a due date by the time left, which is negative once it has passed."""
    if due_in is None or due_in >= due_soon:
        return None
    return Promise.LATE if due_in < timedelta(0) else Promise.DUE_SOON
