"""Runs of the generator, and the steps of the generation log that they are read from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

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


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a run; ``share`` of its work, from 0 to 1, is done when the stage begins."""

    name: str
    share: float


# By prefix; the first match decides. Shares follow the steps of a run, not their durations, which depend on the
# generator.
_STAGES: Sequence[tuple[str, Stage]] = (
    ("SUCCESS", Stage(name="done", share=1.0)),
    ("SKIP", Stage(name="skipped", share=1.0)),
    ("FINALIZE", Stage(name="finishing", share=0.95)),
    ("DNS_", Stage(name="publishing", share=0.9)),
    ("PAGES_", Stage(name="publishing", share=0.87)),
    ("R2_", Stage(name="publishing", share=0.84)),
    ("GITHUB_", Stage(name="publishing", share=0.8)),
    ("INTEGRATIONS_", Stage(name="publishing", share=0.78)),
    ("WRITE_COMPLETE", Stage(name="writing", share=0.75)),
    ("WRITE_PROGRESS", Stage(name="writing", share=0.68)),
    ("WRITE_", Stage(name="writing", share=0.6)),
    ("SECURITY_WARNING", Stage(name="writing", share=0.6)),  # about a file that is to be written
    ("PARSE_RESULT", Stage(name="building", share=0.55)),
    ("AI_COMPLETE", Stage(name="building", share=0.5)),
    ("AI_GENERATION", Stage(name="building", share=0.4)),
    ("AI_ERROR", Stage(name="building", share=0.4)),
    ("AI_CONTENT_APPLIED", Stage(name="building", share=0.48)),
    ("AI_CONTENT_ERROR", Stage(name="building", share=0.48)),  # not fatal: the template's own texts stay
    ("AI_CONTENT_", Stage(name="building", share=0.44)),
    ("BUILD_PROMPT", Stage(name="building", share=0.35)),
    ("TEMPLATE_CUSTOMIZED", Stage(name="building", share=0.5)),
    ("TEMPLATE_CUSTOMIZE", Stage(name="building", share=0.46)),
    ("TEMPLATE_COPIED", Stage(name="building", share=0.42)),
    ("TEMPLATE_", Stage(name="building", share=0.35)),
    ("FETCH_DATA", Stage(name="reading", share=0.3)),
    ("PHASE_1_COMPLETE", Stage(name="briefing", share=0.25)),
    ("PHASE_1_SKIP", Stage(name="briefing", share=0.25)),
    ("PHASE_1_ERROR", Stage(name="briefing", share=0.25)),
    ("AI_STRATEGY", Stage(name="briefing", share=0.15)),
    ("PHASE_1_", Stage(name="briefing", share=0.08)),
    ("START", Stage(name="starting", share=0.03)),
    ("RESUME", Stage(name="starting", share=0.02)),
    ("CLEANUP", Stage(name="starting", share=0.02)),
)

#: The names of the stages that a run passes, in its order; skipped and finished runs are in none of them.
RUN_STAGES = tuple(dict.fromkeys(stage.name for _, stage in reversed(_STAGES) if stage.share < 1))


def stage_of(step: str | None) -> Stage | None:
    """The stage of a run with this last step; None for an unknown step."""
    if step is None:
        return None
    return next((stage for prefix, stage in _STAGES if step.startswith(prefix)), None)
