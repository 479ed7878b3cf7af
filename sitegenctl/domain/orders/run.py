"""Runs of the generator, and the steps of the generation log that they are read from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sitegenctl.domain.orders.stage import Stage
from sitegenctl.slotted import slotted

OPERATOR_ENQUEUE = "OPERATOR_ENQUEUE"
OPERATOR_RESET = "OPERATOR_RESET"
OPERATOR_CANCEL = "OPERATOR_CANCEL"
OPERATOR_REPAIR = "OPERATOR_REPAIR"
OPERATOR_UNDO = "OPERATOR_UNDO"

#: Announces an ``OPERATOR_UNDO`` that removes a task or moves files first. It changes nothing by itself.
OPERATOR_UNDO_BEGIN = "OPERATOR_UNDO_BEGIN"

#: A site was brought back from the trash. It says nothing about tasks: attempts, hold and resume stay as they were.
OPERATOR_RESTORE = "OPERATOR_RESTORE"

#: Suffix of the step of a transition that was rolled back, as in ``OPERATOR_ENQUEUE_FAILED``.
OPERATOR_FAILED_SUFFIX = "_FAILED"

#: Prefix of the steps of journal rows; the generator writes none of these.
OPERATOR_PREFIX = "OPERATOR_"

#: Default number of attempts of an order, including the first one.
MAX_ATTEMPTS = 3

_BACKOFF = timedelta(minutes=2)
_MAX_BACKOFF = timedelta(hours=2)

#: How much the clocks of workers and database may differ.
CLOCK_TOLERANCE = timedelta(minutes=1)

#: The command in the journal with which an operator confirms that the worker of a run is dead.
WORKER_DEAD = "repair --worker-dead"

#: Steps that announce a run.
STARTS = frozenset({"START", "RESUME"})

#: Steps that publish a task, after which the next row begins a run.
ENQUEUES = frozenset({OPERATOR_ENQUEUE, OPERATOR_RESET})


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

    @classmethod
    def of(cls, outcomes: Iterable[RunOutcome]) -> RunCounts:
        """Count runs by their outcomes."""
        counts = Counter(outcomes)
        return cls(
            succeeded=counts[RunOutcome.SUCCESS], failed=counts[RunOutcome.ERROR], skipped=counts[RunOutcome.SKIP]
        )


class RunOutcome(StrEnum):
    """How a run ended; the values are the log's own steps."""

    SUCCESS = "SUCCESS"
    SKIP = "SKIP"  # the order was already finished; nothing was done
    ERROR = "ERROR"


OUTCOME_STEPS = frozenset(RunOutcome)


@slotted
class Run:
    """One run of the generator."""

    outcome: RunOutcome | None  # None when cut short or still going
    last_step: str
    stage: Stage | None = None  # the furthest that it reached
    began: timedelta | None = None  # age of its first row by the database's clock; None: unusable time
    progressed: timedelta | None = None  # age of its last row
    task_id: str | None = None  # from its START or RESUME row
    takes_lock: bool = False  # it holds the order's run lock until it ends; from the same row
    cut_short: bool = False  # an operator cancelled it or confirmed that its worker is dead
    failed_ago: timedelta | None = None  # age of its task's result, if that has its outcome and the log has none


@slotted
class Announcement:
    """The details in the newest START or RESUME row."""

    task_id: str | None = None
    takes_lock: bool = False


@slotted
class History:
    """The runs in an order's log."""

    last_run: Run | None = None  # since the order was last enqueued
    attempts: int = 0  # runs begun since the last SUCCESS or reset by an operator
    unlogged: int = 0  # enqueues since then and since its last run: each task may have failed without a row
    last_journal: str | None = None  # the step of the newest journal row


def backoff(attempts: int) -> timedelta:
    """Delay before the next attempt: 2 minutes after the first, doubled each time, at most 2 hours."""
    doublings = min(max(attempts, 1) - 1, 16)
    return min(_BACKOFF * (1 << doublings), _MAX_BACKOFF)
