"""What one maintenance run did: its steps, in the order in which they were taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from sitegenctl.domain.diagnosis.condition import Condition, Source
from sitegenctl.domain.diagnosis.remedy import Hint
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.plans.plan import Plan
from sitegenctl.domain.plans.result import Obstacle, OperationResult, Outcome, OutcomeKind


class MaintenanceStep(StrEnum):
    """The steps, in their order."""

    REPAIR = "repair"
    START_STUCK = "start-stuck"
    RETRY_FAILED = "retry-failed"
    RESET_EMPTY = "reset-empty"
    PRUNE_TRASH = "prune-trash"
    PRUNE_REPLIES = "prune-replies"

    @property
    def needs(self) -> tuple[Source, ...]:
        """The sources without which the step is left out."""
        return _NEEDS[self]


_NEEDS = {
    MaintenanceStep.REPAIR: (Source.DATABASE, Source.BROKER, Source.WORKERS),
    MaintenanceStep.START_STUCK: (Source.DATABASE, Source.BROKER),
    MaintenanceStep.RETRY_FAILED: (Source.DATABASE, Source.BROKER),
    MaintenanceStep.RESET_EMPTY: (Source.DATABASE, Source.BROKER, Source.FILES),
    # The age of the trash is judged by the database's clock.
    MaintenanceStep.PRUNE_TRASH: (Source.DATABASE, Source.FILES),
    MaintenanceStep.PRUNE_REPLIES: (Source.BROKER,),
}


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A fault that maintenance saw and could not fix; ``is_new`` where no earlier run has reported it."""

    condition: Condition
    outcome: Outcome
    obstacle: Obstacle
    is_new: bool = True

    @property
    def key(self) -> str:
        """What stays the same from run to run until something changes; no ages and no times."""
        return f"{self.condition}: {self.obstacle}"


def leftovers(plan: Plan, snapshot: Snapshot, reported: Mapping[int, str]) -> list[Leftover]:
    """The faults of which something has to be decided, out of the fix of all orders; ``reported`` are earlier keys."""
    found = [
        Leftover(condition=snapshot.diagnose(outcome.order_id).condition, outcome=outcome, obstacle=outcome.obstacle)
        for outcome in plan.left_alone
        if outcome.obstacle is not None
    ]
    return [replace(left, is_new=reported.get(left.outcome.order_id) != left.key) for left in found]


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What became of one step: the ``result`` for its orders, or how many things were ``pruned``.

    ``not_pruned`` says why others could not be, by name. ``left_out`` says why the step was not taken, ``hint``
    what to do about it, and ``source`` which source that was for. ``broke`` is set where it ended in an error that
    nobody expected.
    """

    step: MaintenanceStep
    result: OperationResult | None = None
    pruned: int = 0
    not_pruned: Mapping[str, str] = field(default_factory=dict)
    left_out: str | None = None
    hint: Hint | None = None
    source: str | None = None
    broke: bool = False

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing to tell: orders that rest where they are (skipped, refused) are no news."""
        if self.left_out is not None or self.pruned or self.not_pruned:
            return False
        return self.result is None or not any(
            outcome.outcome in (OutcomeKind.DONE, OutcomeKind.FAILED) for outcome in self.result.outcomes
        )

    @property
    def has_failed(self) -> bool:
        """Whether something that was tried failed."""
        return self.broke or bool(self.not_pruned) or (self.result is not None and self.result.exit_code == 1)


@dataclass(frozen=True, kw_only=True)
class Maintenance:
    """One run of maintenance; ``left`` are the faults that it could not fix."""

    steps: Sequence[StepReport]
    dry_run: bool
    interrupted: bool = False
    left: Sequence[Leftover] = ()

    @property
    def news(self) -> Sequence[Leftover]:
        """The faults that no earlier run has reported."""
        return [left for left in self.left if left.is_new]

    @property
    def is_quiet(self) -> bool:
        """Whether there was nothing to do, and nothing new to report."""
        return not self.interrupted and not self.news and all(step.is_quiet for step in self.steps)

    @property
    def exit_code(self) -> int:
        """130 when interrupted, 3 when a source was missing for a step, 1 when something failed, else 0.

        4 where all went well, but a fault is new that an operator can resolve. What waits for the customer, or was
        reported before, is no failure.
        """
        if self.interrupted:
            return 130
        if any(step.left_out is not None and not step.broke for step in self.steps):
            return 3
        if any(step.has_failed for step in self.steps):
            return 1
        return 4 if any(left.obstacle.is_for_operators for left in self.news) else 0
