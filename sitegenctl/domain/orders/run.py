"""Runs of the generator, read from the steps of an order's generation log.

A run begins at START or RESUME, or at the first row after an enqueue. Its outcome is its last SUCCESS, SKIP or ERROR.
Without an outcome it was cut short or is still going; the log alone does not show which.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from sitegenctl.domain.slotted import slotted

OPERATOR_ENQUEUE = "OPERATOR_ENQUEUE"
OPERATOR_RESET = "OPERATOR_RESET"
OPERATOR_CANCEL = "OPERATOR_CANCEL"
OPERATOR_REPAIR = "OPERATOR_REPAIR"

#: Suffix of the step of a transition that was rolled back, as in ``OPERATOR_ENQUEUE_FAILED``.
OPERATOR_FAILED_SUFFIX = "_FAILED"

#: Prefix of the steps of journal rows; the generator writes none of these.
OPERATOR_PREFIX = "OPERATOR_"

#: Default number of attempts of an order, including the first one.
MAX_ATTEMPTS = 3

#: Commands that choose the orders that they reset: their resets give no new attempts, or they would never end.
_AUTOMATIC = frozenset({"maintain", "reset-empty"})

#: The command in the journal with which an operator confirms that the worker of a run is dead.
WORKER_DEAD = "repair --worker-dead"

#: Steps that announce a run.
STARTS = frozenset({"START", "RESUME"})
# A resumed run writes these before its START; they belong to the same run.
_PREAMBLE = frozenset({"RESUME", "RESUME_DECISION", "CLEANUP"})

#: Steps that publish a task, after which the next row begins a run; and the steps that roll them back.
ENQUEUES = frozenset({OPERATOR_ENQUEUE, OPERATOR_RESET})
ROLLED_BACK = frozenset(step + OPERATOR_FAILED_SUFFIX for step in ENQUEUES)


@dataclass(frozen=True, kw_only=True)
class RunCounts:
    """How many runs ended, by outcome."""

    succeeded: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def ended(self) -> int:
        """Runs that tried to generate a site."""
        return self.succeeded + self.failed

    @property
    def success_rate(self) -> float | None:
        """The share of these that succeeded, from 0 to 1; None without any."""
        return self.succeeded / self.ended if self.ended else None

    def __add__(self, other: RunCounts) -> RunCounts:
        return RunCounts(
            succeeded=self.succeeded + other.succeeded,
            failed=self.failed + other.failed,
            skipped=self.skipped + other.skipped,
        )


class RunOutcome(StrEnum):
    """How a run ended; the values are the log's own steps."""

    SUCCESS = "SUCCESS"
    SKIP = "SKIP"  # the order was already finished; nothing was done
    ERROR = "ERROR"


OUTCOME_STEPS = frozenset(RunOutcome)


def begins_run(step: str, *, in_run: bool, in_preamble: bool) -> bool:
    """Whether a row begins a run, given what the row before it belongs to."""
    return not in_run or (step in STARTS and not (in_preamble and step == "START"))


def is_preamble(step: str) -> bool:
    """Whether a START after this row still belongs to the same run."""
    return step in _PREAMBLE


@slotted
class Run:
    """One run: its outcome (None when cut short or still going) and its last step.

    ``began`` is the age of its first row by the database's clock, None when that row has no usable time. ``task_id``
    and ``takes_lock`` come from its START or RESUME row; a run that takes the order's run lock holds it until it ends.
    ``cut_short`` is set when an operator cancelled it or confirmed that its worker is dead.
    """

    outcome: RunOutcome | None
    last_step: str
    began: timedelta | None = None
    task_id: str | None = None
    takes_lock: bool = False
    cut_short: bool = False


@slotted
class Announcement:
    """The details in the newest START or RESUME row."""

    task_id: str | None = None
    takes_lock: bool = False


@slotted
class History:
    """The runs in an order's log.

    ``last_run`` is the newest run since the order was last enqueued, None without one. ``attempts`` counts the runs
    begun since the last SUCCESS, or since an operator reset the order. ``last_journal`` is the step of the newest
    journal row.
    """

    last_run: Run | None = None
    attempts: int = 0
    last_journal: str | None = None


def read_history(
    steps: Iterable[str],
    commands: Iterable[str | None] = (),
    *,
    ages: Sequence[timedelta | None] = (),
    announcement: Announcement | None = None,
) -> History:
    """Read the steps of a log, oldest first, into runs.

    ``commands`` are the commands that wrote its journal rows, in the same order; ``ages`` are those of the steps' rows;
    ``announcement`` is from the newest START or RESUME among them. A reset by an unknown command counts as an
    operator's.
    """
    written_by = iter(commands)
    last_run: _Reading | None = None
    # The state before the newest enqueue or reset, in case it was rolled back.
    before: tuple[_Reading | None, int] | None = None
    cancelled: _Reading | None = None
    attempts = 0
    last_journal: str | None = None
    in_preamble = False
    for index, step in enumerate(steps):
        if step.startswith(OPERATOR_PREFIX):
            last_journal, command = step, next(written_by, None)
            if step in ENQUEUES:
                before = (last_run, attempts)
                last_run, in_preamble = None, False
            elif step in ROLLED_BACK and before is not None and last_run is None:
                # No worker received the task: the state before it holds again.
                last_run, attempts = before
            elif step == OPERATOR_CANCEL and last_run is not None:
                # Its task was removed, unless the next row rolls the cancel back.
                cancelled, last_run = last_run, replace(last_run, cut_short=last_run.outcome is None)
            elif step == OPERATOR_CANCEL + OPERATOR_FAILED_SUFFIX and cancelled is not None:
                last_run, cancelled = cancelled, None
            if step == OPERATOR_RESET and command not in _AUTOMATIC:
                attempts = 0
            if command == WORKER_DEAD and last_run is not None:
                last_run = replace(last_run, cut_short=last_run.outcome is None)
            continue
        if begins_run(step, in_run=last_run is not None, in_preamble=in_preamble):
            attempts += 1
            in_preamble = is_preamble(step)
            last_run = _Reading(first=index, last_step=step)
        assert last_run is not None  # noqa: S101 - for the type checker: a run has begun by here
        in_preamble = in_preamble and is_preamble(step)
        last_run = _Reading(
            first=last_run.first,
            last_step=step,
            outcome=RunOutcome(step) if step in OUTCOME_STEPS else last_run.outcome,
            is_announced=last_run.is_announced or step in STARTS,
        )
        if last_run.outcome is RunOutcome.SUCCESS:
            attempts = 0
    return History(
        last_run=None if last_run is None else last_run.run(ages, announcement),
        attempts=attempts,
        last_journal=last_journal,
    )


@slotted
class _Reading:
    """A run that is being read; ``first`` is the index of its first row."""

    first: int
    last_step: str
    outcome: RunOutcome | None = None
    is_announced: bool = False
    cut_short: bool = False

    def run(self, ages: Sequence[timedelta | None], announcement: Announcement | None) -> Run:
        # A START or RESUME after this run's own would have begun another run.
        announced = announcement if self.is_announced and announcement is not None else Announcement()
        return Run(
            outcome=self.outcome,
            last_step=self.last_step,
            began=ages[self.first] if self.first < len(ages) else None,
            task_id=announced.task_id,
            takes_lock=announced.takes_lock,
            cut_short=self.cut_short,
        )
