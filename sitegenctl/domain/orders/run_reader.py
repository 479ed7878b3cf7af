"""Runs told one after another, from the rows of many orders' logs as they were written.

What begins and ends a run is ``run.py``'s; here is when it did, how long each of its stages took and why it failed.
A SKIP behind an outcome, which has no beginning, is told as a run of its own: it doesn't undo that outcome.
Of an order no more is kept than its newest run, so that a log of any length can be read in pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from sitegenctl.domain.orders.run import (
    ENQUEUES,
    OPERATOR_PREFIX,
    OUTCOME_STEPS,
    TAKEN_BACK,
    RunOutcome,
    begins_run,
    is_preamble,
)
from sitegenctl.domain.orders.stage import stage_of
from sitegenctl.domain.slotted import light

# A run that is read from one of these, or from the first row after an enqueue, is known from its beginning.
_BEGINNINGS = frozenset({"START", "RESUME"})


# The same few steps over and over, row by row.
@lru_cache(maxsize=1024)
def _stage_name(step: str) -> str | None:
    stage = stage_of(step)
    return stage.name if stage is not None else None


@light
class RunRow:
    """A row of the log, as far as runs are told from it.

    ``at`` is on the log's own clock, None for a time that makes no sense; ``message`` is an ERROR's, None of others.
    """

    log_id: int
    order_id: int
    step: str
    at: datetime | None
    message: str | None = None


@dataclass(frozen=True, kw_only=True)
class LoggedRun:
    """One run of one order.

    ``outcome`` is the last that it wrote, None when it wrote none; ``outcomes`` has the time of the first of each.
    ``began_at`` is None when its beginning was not read, or has no time; ``last_at`` is its last row's time. ``stages``
    are the seconds spent in each stage, by its name, until it succeeded or wrote its last row. ``last_stage`` is the
    one in which it ended, and ``error`` the message of its last ERROR. ``is_newest`` says that nothing was read behind
    it: without an outcome it may still be going.
    """

    order_id: int
    outcome: RunOutcome | None
    outcomes: Mapping[RunOutcome, datetime | None]
    began_at: datetime | None
    ended_at: datetime | None
    last_at: datetime | None
    stages: Mapping[str, float]
    last_stage: str | None
    error: str | None
    is_newest: bool

    def duration_to(self, end: datetime | None) -> float | None:
        """Seconds from its beginning until then; None where either isn't known."""
        if self.began_at is None or end is None:
            return None
        return max((end - self.began_at).total_seconds(), 0.0)

    @property
    def duration(self) -> float | None:
        """Seconds from its beginning to its outcome; None where either isn't known."""
        return self.duration_to(self.ended_at)


@dataclass(slots=True)
class _Open:
    """A run that is being read."""

    began_at: datetime | None
    in_preamble: bool
    outcome: RunOutcome | None = None
    outcomes: dict[RunOutcome, datetime | None] = field(default_factory=dict)
    ended_at: datetime | None = None
    last_at: datetime | None = None
    stages: dict[str, float] = field(default_factory=dict)
    stage: str | None = None
    error: str | None = None

    def take(self, row: RunRow) -> None:
        """Take its next row into account."""
        if self.stage is not None and row.at is not None and RunOutcome.SUCCESS not in self.outcomes:
            passed = (row.at - (self.last_at or row.at)).total_seconds()
            self.stages[self.stage] = self.stages.get(self.stage, 0.0) + max(passed, 0.0)
        self.last_at = row.at or self.last_at
        if row.step in OUTCOME_STEPS:
            outcome = self.outcome = RunOutcome(row.step)
            self.ended_at = row.at
            self.outcomes.setdefault(outcome, row.at)
            if outcome is RunOutcome.ERROR:
                self.error = row.message
        elif (stage := _stage_name(row.step)) is not None:
            self.stage = stage


@dataclass(slots=True)
class _Reading:
    """Where the reading of one order's log is: its newest run, or the one that was before the newest enqueue."""

    run: _Open | None = None
    before: _Open | None = None
    enqueued: bool = False


class RunStream:
    """Takes rows in the order of their ids, and gives each run when nothing of it can come any more."""

    def __init__(self) -> None:
        self._readings: dict[int, _Reading] = {}

    def feed(self, row: RunRow) -> LoggedRun | None:
        """Take the next row; returns the run of its order that is over with it."""
        reading = self._readings.get(row.order_id)
        if reading is None:
            reading = self._readings[row.order_id] = _Reading()
        if row.step.startswith(OPERATOR_PREFIX):
            return self._journal(row, reading)
        over = None
        run = reading.run
        if (
            run is None
            or begins_run(row.step, in_run=True, in_preamble=run.in_preamble)
            or _is_skip_of_its_own(row, run)
        ):
            over = run or reading.before
            knows_beginning = reading.enqueued or row.step in _BEGINNINGS
            run = _Open(began_at=row.at if knows_beginning else None, in_preamble=is_preamble(row.step))
            reading.run, reading.before, reading.enqueued = run, None, False
        run.in_preamble = run.in_preamble and is_preamble(row.step)
        run.take(row)
        return _told(row.order_id, over, is_newest=False) if over is not None else None

    def close(self) -> Iterator[LoggedRun]:
        """The newest run of every order, as far as it was read."""
        for order_id, reading in self._readings.items():
            if (run := reading.run or reading.before) is not None:
                yield _told(order_id, run, is_newest=True)
        self._readings.clear()

    def _journal(self, row: RunRow, reading: _Reading) -> LoggedRun | None:
        if row.step in ENQUEUES:
            over, reading.before, reading.run = reading.before, reading.run, None
            reading.enqueued = True
            return _told(row.order_id, over, is_newest=False) if over is not None else None
        if row.step in TAKEN_BACK and reading.run is None:
            # No worker had seen it: what is written next goes on with what was before.
            reading.run, reading.before, reading.enqueued = reading.before, None, False
        return None


def _is_skip_of_its_own(row: RunRow, run: _Open) -> bool:
    """Whether a task came when the order was finished already: it writes a SKIP and nothing else."""
    return row.step == RunOutcome.SKIP and run.outcome is not None


def _told(order_id: int, run: _Open, *, is_newest: bool) -> LoggedRun:
    return LoggedRun(
        order_id=order_id,
        outcome=run.outcome,
        outcomes=run.outcomes,
        began_at=run.began_at,
        ended_at=run.ended_at,
        last_at=run.last_at,
        stages=run.stages,
        last_stage=run.stage,
        error=run.error,
        is_newest=is_newest,
    )
