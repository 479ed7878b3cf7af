"""Runs of the generator, read from the steps of an order's generation log.

A run begins at START or RESUME, or at the first row after an enqueue; its outcome is its last SUCCESS, SKIP
or ERROR. A run without outcome was cut short, or is still going: the log alone can't tell which.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from sitegenctl.domain.light import light

OPERATOR_ENQUEUE = "OPERATOR_ENQUEUE"
OPERATOR_RESET = "OPERATOR_RESET"
OPERATOR_CANCEL = "OPERATOR_CANCEL"
OPERATOR_REPAIR = "OPERATOR_REPAIR"
OPERATOR_MOVE = "OPERATOR_MOVE"

#: What the step of an action that was taken back ends with, as in ``OPERATOR_ENQUEUE_FAILED``.
OPERATOR_FAILED_SUFFIX = "_FAILED"

#: What every journal row's step begins with; the generator writes none of these.
OPERATOR_PREFIX = "OPERATOR_"

#: Attempts that ``retry-failed`` makes of an order unless told otherwise, the first one included.
MAX_ATTEMPTS = 3

#: Commands that reset orders without being told which: what they do over and over must come to an end.
_AUTOMATIC = frozenset({"maintain", "reset-empty"})

_STARTS = frozenset({"START", "RESUME"})
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
    return not in_run or (step in _STARTS and not (in_preamble and step == "START"))


def is_preamble(step: str) -> bool:
    """Whether a START behind this row would still belong to the same run."""
    return step in _PREAMBLE


@light
class Run:
    """One run: its outcome (None when cut short or still going) and the last step it wrote."""

    outcome: RunOutcome | None
    last_step: str


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


def read_history(steps: Iterable[str], commands: Iterable[str | None] = ()) -> History:
    """Read a log's steps, oldest first, into runs; ``commands`` are those that wrote its operator rows, in their order.

    A reset by ``maintain`` and its like gives an order no new attempts: one that kills its worker each time would be
    begun again for ever. A reset of which nobody knows who made it is taken for a person's.
    """
    written_by = iter(commands)
    last_run: Run | None = None
    # What held before the newest enqueue or reset, for the case that it was taken back.
    before: tuple[Run | None, int] | None = None
    attempts = 0
    last_journal: str | None = None
    in_preamble = False
    for step in steps:
        if step.startswith(OPERATOR_PREFIX):
            last_journal, command = step, next(written_by, None)
            if step in ENQUEUES:
                before = (last_run, attempts)
                last_run, in_preamble = None, False
            elif step in TAKEN_BACK and before is not None and last_run is None:
                # No worker had seen it: what held before it holds again.
                last_run, attempts = before
            if step == OPERATOR_RESET and command not in _AUTOMATIC:
                attempts = 0
            continue
        if begins_run(step, in_run=last_run is not None, in_preamble=in_preamble):
            attempts += 1
            in_preamble = is_preamble(step)
            last_run = Run(outcome=None, last_step=step)
        assert last_run is not None  # noqa: S101 - for the type checker: a run has begun by here
        in_preamble = in_preamble and is_preamble(step)
        outcome = RunOutcome(step) if step in OUTCOME_STEPS else last_run.outcome
        last_run = Run(outcome=outcome, last_step=step)
        if outcome is RunOutcome.SUCCESS:
            attempts = 0
    return History(last_run=last_run, attempts=attempts, last_journal=last_journal)
