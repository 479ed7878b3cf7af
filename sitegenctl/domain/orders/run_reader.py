"""Runs with their times, stages and errors, read from the interleaved log rows of many orders.

A SKIP after an outcome, without a START, is a run of its own and does not change that outcome. Only the newest run of
each order is kept in memory, so that a log of any length can be read in pieces.
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
    ROLLED_BACK,
    STARTS,
    RunOutcome,
    begins_run,
    is_preamble,
)
from sitegenctl.domain.orders.stage import stage_of
from sitegenctl.domain.slotted import slotted


@lru_cache(maxsize=1024)
def _stage_name(step: str) -> str | None:
    stage = stage_of(step)
    return stage.name if stage is not None else None


@slotted
class RunRow:
    """A log row; ``at`` is by the log's clock, None for an unusable time; ``message`` is that of an ERROR."""

    log_id: int
    order_id: int
    step: str
    at: datetime | None
    message: str | None = None


@dataclass(frozen=True, kw_only=True)
class LoggedRun:
    """One run of one order.

    ``outcome`` is its last one, None without any; ``outcomes`` has the time of the first of each. ``began_at`` is None
    when its first row was not read or has no time; ``last_at`` is the time of its last row. ``stages`` are the seconds
    spent in each stage until it succeeded or ended. ``last_stage`` is the stage in which it ended, ``error`` the
    message of its last ERROR. ``is_newest`` means that no later run was read: without an outcome it may still be going.
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
        """Seconds from its beginning until ``end``; None where either is unknown."""
        if self.began_at is None or end is None:
            return None
        return max((end - self.began_at).total_seconds(), 0.0)

    @property
    def duration(self) -> float | None:
        """Seconds from its beginning to its outcome; None where either is unknown."""
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

    def add(self, row: RunRow) -> None:
        """Add its next row."""
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
    """The state of one order's log: its newest run, or the one before the newest enqueue."""

    run: _Open | None = None
    before: _Open | None = None
    enqueued: bool = False


class RunStream:
    """Reads rows in the order of their ids into runs; a run is complete when another one begins."""

    def __init__(self) -> None:
        self._readings: dict[int, _Reading] = {}

    def feed(self, row: RunRow) -> LoggedRun | None:
        """Add the next row; returns the run of its order that it completes."""
        reading = self._readings.get(row.order_id)
        if reading is None:
            reading = self._readings[row.order_id] = _Reading()
        if row.step.startswith(OPERATOR_PREFIX):
            return self._journal(row, reading)
        completed = None
        run = reading.run
        if run is None or begins_run(row.step, in_run=True, in_preamble=run.in_preamble) or _is_separate_skip(row, run):
            completed = run or reading.before
            knows_beginning = reading.enqueued or row.step in STARTS
            run = _Open(began_at=row.at if knows_beginning else None, in_preamble=is_preamble(row.step))
            reading.run, reading.before, reading.enqueued = run, None, False
        run.in_preamble = run.in_preamble and is_preamble(row.step)
        run.add(row)
        return _logged(row.order_id, completed, is_newest=False) if completed is not None else None

    def close(self) -> Iterator[LoggedRun]:
        """The newest run of every order."""
        for order_id, reading in self._readings.items():
            if (run := reading.run or reading.before) is not None:
                yield _logged(order_id, run, is_newest=True)
        self._readings.clear()

    def _journal(self, row: RunRow, reading: _Reading) -> LoggedRun | None:
        if row.step in ENQUEUES:
            completed, reading.before, reading.run = reading.before, reading.run, None
            reading.enqueued = True
            return _logged(row.order_id, completed, is_newest=False) if completed is not None else None
        if row.step in ROLLED_BACK and reading.run is None:
            # No worker received the task: the next row continues the run before it.
            reading.run, reading.before, reading.enqueued = reading.before, None, False
        return None


def _is_separate_skip(row: RunRow, run: _Open) -> bool:
    """Whether the row is the only one of a task for an order that was already finished."""
    return row.step == RunOutcome.SKIP and run.outcome is not None


def _logged(order_id: int, run: _Open, *, is_newest: bool) -> LoggedRun:
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
