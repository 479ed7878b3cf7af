"""Runs of the generator, read from the steps of an order's generation log.

A run begins at START or RESUME, or at the first row after an enqueue; its outcome is its last SUCCESS, SKIP
or ERROR. A run without outcome was cut short, or is still going: the log alone can't tell which.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum

from sitegenctl.domain.slotted import light

OPERATOR_ENQUEUE = "OPERATOR_ENQUEUE"
OPERATOR_RESET = "OPERATOR_RESET"
OPERATOR_CANCEL = "OPERATOR_CANCEL"
OPERATOR_REPAIR = "OPERATOR_REPAIR"

#: What the step of an action that was taken back ends with, as in ``OPERATOR_ENQUEUE_FAILED``.
OPERATOR_FAILED_SUFFIX = "_FAILED"

#: What every journal row's step begins with; the generator writes none of these.
OPERATOR_PREFIX = "OPERATOR_"

#: Attempts that ``retry-failed`` makes of an order unless told otherwise, the first one included.
MAX_ATTEMPTS = 3

#: Commands that reset orders without being told which: what they do over and over must come to an end.
_AUTOMATIC = frozenset({"maintain", "reset-empty"})

#: Command, as the journal records it, by which a person confirms that the worker of a run is dead.
WORKER_DEAD = "repair --worker-dead"

#: Steps with which a generator announces a run.
STARTS = frozenset({"START", "RESUME"})
# A resumed run tells what it decided and cleans up before the START that may follow: still the same run.
_PREAMBLE = frozenset({"RESUME", "RESUME_DECISION", "CLEANUP"})

#: What puts an order into a worker's hands: whatever is written next begins a run; and what takes that back.
ENQUEUES = frozenset({OPERATOR_ENQUEUE, OPERATOR_RESET})
TAKEN_BACK = frozenset(step + OPERATOR_FAILED_SUFFIX for step in ENQUEUES)


class RunOutcome(StrEnum):
    """How a run ended; the values are the log's own steps."""

    SUCCESS = "SUCCESS"
    SKIP = "SKIP"  # the order was finished already; nothing was done
    ERROR = "ERROR"


OUTCOME_STEPS = frozenset(RunOutcome)


def begins_run(step: str, *, in_run: bool, in_preamble: bool) -> bool:
    """Whether a row of the generator begins a run, behind a row of a run or of a run's preamble."""
    return not in_run or (step in STARTS and not (in_preamble and step == "START"))


def is_preamble(step: str) -> bool:
    """Whether a START behind this row would still belong to the same run."""
    return step in _PREAMBLE


@light
class Run:
    """One run: its outcome (None when cut short or still going) and the last step it wrote.

    ``began`` is the age of its first row by the database's clock, None when that row has no usable time. ``task_id``
    and ``takes_lock`` come from its START or RESUME row: ``takes_lock`` means that the run holds the order's run lock
    for as long as it lives. ``cut_short`` is set when a person has confirmed that its worker is dead.
    """

    outcome: RunOutcome | None
    last_step: str
    began: timedelta | None = None
    task_id: str | None = None
    takes_lock: bool = False
    cut_short: bool = False


@light
class Announcement:
    """What the newest START or RESUME row says of its run."""

    task_id: str | None = None
    takes_lock: bool = False


@light
class History:
    """What an order's log says of its generations.

    ``last_run`` is the newest run since the order was last enqueued, None when there is no row of one;
    ``attempts`` counts the runs begun since the last SUCCESS, or since a person reset the order, ended or cut short;
    ``last_journal`` is the step of the newest operator row.
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
    """Read a log's steps, oldest first, into runs; ``commands`` are those that wrote its operator rows, in their order.

    ``ages`` are those of the steps' rows, ``announcement`` is from the newest START or RESUME among them.

    A reset by ``maintain`` and its like gives an order no new attempts: one that kills its worker each time would be
    begun again for ever. A reset of which nobody knows who made it is taken for a person's.
    """
    written_by = iter(commands)
    last_run: _Reading | None = None
    # What held before the newest enqueue or reset, for the case that it was taken back.
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
            elif step in TAKEN_BACK and before is not None and last_run is None:
                # No worker had seen it: what held before it holds again.
                last_run, attempts = before
            elif step == OPERATOR_CANCEL and last_run is not None:
                # Whatever ran or waited was removed, or the cancel is rolled back in the next row.
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


@light
class _Reading:
    """A run while the rows behind it are still being read; ``first`` is the index of its first row."""

    first: int
    last_step: str
    outcome: RunOutcome | None = None
    is_announced: bool = False
    cut_short: bool = False

    def run(self, ages: Sequence[timedelta | None], announcement: Announcement | None) -> Run:
        # The newest START or RESUME of the log is this run's, if the run has one: any other would have begun a run.
        announced = announcement if self.is_announced and announcement is not None else Announcement()
        return Run(
            outcome=self.outcome,
            last_step=self.last_step,
            began=ages[self.first] if self.first < len(ages) else None,
            task_id=announced.task_id,
            takes_lock=announced.takes_lock,
            cut_short=self.cut_short,
        )
