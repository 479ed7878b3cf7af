"""Read runs from the rows of the generation log, oldest first.

A run begins at START or RESUME, or at the first row after an enqueue. A SKIP after an outcome, without a START, is a
run of its own. The outcome of a run is its last SUCCESS, SKIP or ERROR. Without an outcome it was cut short or is still
going; the log alone does not show which. After a rollback or an undo, everything is as before the operation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain, repeat
from typing import NamedTuple

from sitegenctl.domain.orders.run import (
    CLOCK_TOLERANCE,
    ENQUEUES,
    OPERATOR_CANCEL,
    OPERATOR_FAILED_SUFFIX,
    OPERATOR_PREFIX,
    OPERATOR_RESET,
    OPERATOR_RESTORE,
    OPERATOR_UNDO,
    OPERATOR_UNDO_BEGIN,
    OUTCOME_STEPS,
    STARTS,
    WORKER_DEAD,
    Announcement,
    History,
    Run,
    RunOutcome,
)
from sitegenctl.domain.orders.stage import Stage, stage_of
from sitegenctl.slotted import slotted

# A resumed run writes these before its START; they belong to the same run.
_PREAMBLE = frozenset({"RESUME", "RESUME_DECISION", "CLEANUP", "CLEANUP_WARNING"})

_UNDO_FAILED = OPERATOR_UNDO + OPERATOR_FAILED_SUFFIX

# Commands that choose the orders that they reset: their resets give no new attempts, or they would never end.
_AUTOMATIC = frozenset({"maintain", "reset-empty"})


@slotted
class RunRow:
    """A log row."""

    log_id: int = 0
    order_id: int = 0
    step: str
    at: datetime | None = None  # by the log's clock, None for an unusable time
    is_repeated: bool = False  # that time comes twice: clocks go back an hour at the end of daylight saving time
    message: str | None = None  # of an ERROR
    age: timedelta | None = None  # read only for the history of an order
    command: str | None = None  # of a journal row; read only for the history of an order
    task_id: str | None = None  # of a row that begins a run, or of a journal row; not read for the history of an order


@dataclass(kw_only=True, slots=True)
class LoggedRun:
    """One run of one order. It is filled while its rows are read."""

    order_id: int
    began_at: datetime | None  # None when its first row was not read or has no time
    began_repeated: bool = False  # that time comes twice
    age: timedelta | None = None  # of its first row
    last_age: timedelta | None = None  # of its last row
    outcome: RunOutcome | None = None  # its last one
    outcomes: dict[RunOutcome, datetime | None] = field(default_factory=dict)  # the time of the first of each
    last_at: datetime | None = None  # of its last row
    last_repeated: bool = False  # that time comes twice
    last_step: str = ""
    first_id: int = 0  # of its first row
    last_id: int = 0  # of its last row
    task_id: str | None = None  # in its START or RESUME row
    enqueued_id: str | None = None  # of the task that operators published last before it
    stages: dict[str, float] = field(default_factory=dict)  # seconds spent in each until it succeeded or ended
    stage: Stage | None = None  # the furthest that it reached
    error: str | None = None  # the message of its last ERROR
    is_newest: bool = True  # no later run was read: it may still be running
    is_announced: bool = False
    in_preamble: bool = True
    is_cancelled: bool = False
    is_dead: bool = False

    def duration_to(self, end: datetime | None) -> float | None:
        """Seconds from its beginning until ``end``; None where either is unknown."""
        if self.began_at is None or end is None:
            return None
        return _seconds(self.began_at, end, repeated=self.began_repeated)

    @property
    def ended_at(self) -> datetime | None:
        """The time of its outcome; of the first row, where it wrote several with that outcome."""
        return self.outcomes.get(self.outcome) if self.outcome is not None else None

    @property
    def duration(self) -> float | None:
        """Seconds from its beginning to its outcome; None where either is unknown."""
        return self.duration_to(self.ended_at)

    def ends_before(self, step: str) -> bool:
        """Whether a row with this step belongs to another run."""
        if step in STARTS:
            return not (self.in_preamble and step == "START")
        # The only row of a task for an order that was already finished.
        return step == RunOutcome.SKIP and self.outcome is not None

    def fail(self, error: str | None, at: datetime, *, task_id: str | None = None) -> None:
        """End it by the result of its task, or of a task with this id unless that failed before it began."""
        is_its_own = task_id is None or task_id == self.task_id
        # Another task, which the journal does not know, may have begun it.
        if not is_its_own and (self.began_at is None or at < self.began_at - CLOCK_TOLERANCE):
            return
        self.outcome, self.error = RunOutcome.ERROR, error
        self.outcomes[RunOutcome.ERROR] = at

    def add(self, row: RunRow) -> None:
        """Add its next row."""
        step, at = row.step, row.at
        if at is not None:
            if self.stage is not None and RunOutcome.SUCCESS not in self.outcomes:
                passed = _seconds(self.last_at or at, at, repeated=self.last_repeated)
                self.stages[self.stage.name] = self.stages.get(self.stage.name, 0.0) + passed
            self.last_at, self.last_repeated = at, row.is_repeated
        self.last_step, self.last_age, self.last_id = step, row.age, row.log_id
        if step in STARTS:
            self.is_announced, self.task_id = True, row.task_id or self.task_id
        if self.in_preamble and step not in _PREAMBLE:
            self.in_preamble = False
        # It continues in spite of a cancellation, or its worker is alive after all.
        self.is_cancelled = self.is_dead = False
        if step in OUTCOME_STEPS:
            self.outcome = RunOutcome(step)
            self.outcomes.setdefault(self.outcome, at)
            if self.outcome is RunOutcome.ERROR:
                self.error = row.message
        elif (stage := stage_of(step)) is not None and (self.stage is None or stage.share >= self.stage.share):
            # A warning may be about an earlier stage, and names begin with that of their stage only in most cases.
            self.stage = stage


def _seconds(begin: datetime, end: datetime, *, repeated: bool) -> float:
    """Seconds between times of the log's clock; a ``repeated`` beginning is the first one if the end is earlier."""
    seconds = (end - begin).total_seconds()
    return max(seconds + 3600 if seconds < 0 and repeated else seconds, 0.0)


class Before(NamedTuple):
    """A journal row, and what the reader of its order had read before it."""

    row: RunRow
    run: LoggedRun | None
    previous: LoggedRun | None
    ending: tuple[bool, bool]  # whether that run was cancelled, and whether it was known to be dead
    attempts: int
    last_journal: str | None
    unlogged: int
    is_enqueued: bool
    enqueued_id: str | None


@dataclass(slots=True)
class OrderReader:
    """Reads the log of one order; only its newest run, and the one before the newest enqueue, are kept.

    ``standing`` has the operations since the newest row of a run, oldest first, without those that were rolled back or
    undone: the last one is the one to undo next.
    """

    run: LoggedRun | None = None
    attempts: int = 0
    last_journal: str | None = None
    unlogged: int = 0
    standing: tuple[Before, ...] = ()
    _is_enqueued: bool = False
    _enqueued_id: str | None = None
    # The run before the newest enqueue, until that has a run.
    _previous: LoggedRun | None = None
    # The state after the operation that was just undone, in case the undo is rolled back.
    _undone: tuple[tuple[Before, ...], Before] | None = None

    @property
    def newest(self) -> LoggedRun | None:
        """The newest run, which may be older than the newest enqueue."""
        return self.run or self._previous

    def feed(self, row: RunRow) -> LoggedRun | None:
        """Add the next row; returns the run that it completes."""
        if row.step.startswith(OPERATOR_PREFIX):
            self._feed_journal(row)
            return None
        self.standing, self._undone = (), None
        run, completed = self.run, None
        if run is None or run.ends_before(row.step):
            if (completed := self.newest) is not None:
                completed.is_newest = False
            if run is None or row.step in STARTS:
                # A separate SKIP attempted nothing.
                self.attempts += 1
            knows_beginning = self._is_enqueued or row.step in STARTS
            began_at = row.at if knows_beginning else None
            run = LoggedRun(
                order_id=row.order_id,
                began_at=began_at,
                began_repeated=row.is_repeated,
                age=row.age,
                first_id=row.log_id,
                enqueued_id=self._enqueued_id,
            )
            self.run, self._previous, self._is_enqueued, self.unlogged = run, None, False, 0
        run.add(row)
        if run.outcome is RunOutcome.SUCCESS:
            self.attempts = 0
        return completed

    def _feed_journal(self, row: RunRow) -> None:
        step = row.step
        if step == OPERATOR_UNDO_BEGIN or step.startswith(OPERATOR_RESTORE):
            return
        undone, self._undone = self._undone, None
        if step == OPERATOR_UNDO:
            if self.standing:
                *standing, last = self.standing
                self._undone = self.standing, self._before(row)
                self._restore(last)
                self.standing = tuple(standing)
                # A task that it brings back has another id.
                self._enqueued_id = row.task_id or self._enqueued_id
        elif step == _UNDO_FAILED:
            if undone is not None:
                self.standing, after = undone
                self._restore(after)
        elif not step.endswith(OPERATOR_FAILED_SUFFIX):
            self.standing = (*self.standing, self._before(row))
            self._operate(row)
        else:
            if self.standing and self.standing[-1].row.step == step.removesuffix(OPERATOR_FAILED_SUFFIX):
                # No worker received the task: the next row continues the run before it.
                *standing, last = self.standing
                self._restore(last)
                self.standing = tuple(standing)
            self.last_journal = step
            self._close_dead_run(row)

    def _operate(self, row: RunRow) -> None:
        """Read the row of an operation."""
        self.last_journal = row.step
        self._enqueued_id = row.task_id or self._enqueued_id
        if row.step in ENQUEUES:
            self._previous, self.run, self._is_enqueued = self.newest, None, True
            self.unlogged += 1
            if row.step == OPERATOR_RESET and row.command not in _AUTOMATIC:
                self.attempts, self.unlogged = 0, 1
        elif self.run is not None and row.step == OPERATOR_CANCEL:
            # It removed the task, unless it is rolled back.
            self.run.is_cancelled = True
        self._close_dead_run(row)

    def _close_dead_run(self, row: RunRow) -> None:
        """Believe the operator who confirmed that its worker is dead, whatever became of the repair."""
        if row.command == WORKER_DEAD and self.run is not None:
            self.run.is_dead = True

    def _before(self, row: RunRow) -> Before:
        run = self.run
        ending = (run.is_cancelled, run.is_dead) if run is not None else (False, False)
        state = (self.attempts, self.last_journal, self.unlogged, self._is_enqueued, self._enqueued_id)
        return Before(row, run, self._previous, ending, *state)

    def _restore(self, before: Before) -> None:
        self.run, self._previous = before.run, before.previous
        if self.run is not None:
            self.run.is_cancelled, self.run.is_dead = before.ending
        self.attempts, self.last_journal, self.unlogged = before.attempts, before.last_journal, before.unlogged
        self._is_enqueued, self._enqueued_id = before.is_enqueued, before.enqueued_id


class RunStream:
    """Reads the interleaved rows of many orders into runs; a run is complete when another one of its order begins."""

    def __init__(self) -> None:
        self._readers: defaultdict[int, OrderReader] = defaultdict(OrderReader)

    def feed(self, row: RunRow) -> LoggedRun | None:
        """Add the next row; returns the run of its order that it completes."""
        return self._readers[row.order_id].feed(row)

    def close(self) -> Iterator[LoggedRun]:
        """The newest run of every order."""
        yield from self.newest()
        self._readers.clear()

    def newest(self) -> Iterator[LoggedRun]:
        """The newest run so far of every order."""
        return (run for reader in self._readers.values() if (run := reader.newest) is not None)

    def newest_of(self, order_id: int) -> LoggedRun | None:
        """The newest run so far of this order."""
        return self._readers[order_id].newest

    def forget(self, before: datetime) -> None:
        """Forget the orders whose newest run has no row since then."""
        recent = {run.order_id for run in self.newest() if run.last_at is not None and run.last_at >= before}
        for order_id in self._readers.keys() - recent:
            del self._readers[order_id]


def read_history(
    steps: Iterable[str],
    commands: Iterable[str | None] = (),
    *,
    ages: Sequence[timedelta | None] = (),
    announcement: Announcement = Announcement(),  # noqa: B008 - a value
) -> History:
    """Read the steps of an order's log into its history.

    ``commands`` are the commands that wrote its journal rows, in the same order; ``ages`` are those of the steps' rows;
    ``announcement`` is from the newest START or RESUME among them. A reset by an unknown command counts as an
    operator's.
    """
    written_by = iter(commands)
    reader = OrderReader()
    for step, age in zip(steps, chain(ages, repeat(None)), strict=False):
        command = next(written_by, None) if step.startswith(OPERATOR_PREFIX) else None
        reader.feed(RunRow(step=step, age=age, command=command))
    run, last_run = reader.run, None
    if run is not None:
        announced = announcement if run.is_announced else Announcement()
        last_run = Run(
            outcome=run.outcome,
            last_step=run.last_step,
            stage=run.stage,
            began=run.age,
            progressed=run.last_age,
            task_id=announced.task_id,
            takes_lock=announced.takes_lock,
            cut_short=run.outcome is None and (run.is_cancelled or run.is_dead),
        )
    return History(
        last_run=last_run, attempts=reader.attempts, unlogged=reader.unlogged, last_journal=reader.last_journal
    )
