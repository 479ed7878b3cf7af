"""The result of a maintenance run: its steps in order, and the faults that are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from sitegenctl.domain.diagnosis.condition import Condition, Source
from sitegenctl.domain.diagnosis.remedy import Hint
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.plans.plan import Obstacle, OperationResult, Outcome, OutcomeKind, Plan


class MaintenanceStep(StrEnum):
    """The steps, in their order."""

    REPAIR = "repair"
    START_STUCK = "start-stuck"
    RETRY_FAILED = "retry-failed"
    RESET_EMPTY = "reset-empty"
    PRUNE_TRASH = "prune-trash"
    PRUNE_REPLIES = "prune-replies"


#: The sources that each step can't do without.
NEEDS = {
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
    """A fault that maintenance could not fix; ``is_new`` if no earlier run has reported it."""

    condition: Condition
    outcome: Outcome
    obstacle: Obstacle
    is_new: bool = True

    @property
    def key(self) -> str:
        """The same from run to run until something changes: without ages and times."""
        return f"{self.condition}: {self.obstacle}"


def leftovers(plan: Plan, snapshot: Snapshot, reported: Mapping[int, str]) -> list[Leftover]:
    """The faults with an obstacle in a plan that fixes all orders; ``reported`` are the keys of earlier runs."""
    left = [
        Leftover(condition=snapshot.diagnose(outcome.order_id).condition, outcome=outcome, obstacle=outcome.obstacle)
        for outcome in plan.left_alone
        if outcome.obstacle is not None
    ]
    return [replace(each, is_new=reported.get(each.outcome.order_id) != each.key) for each in left]


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """The result of one step."""

    step: MaintenanceStep
    result: OperationResult | None = None  # for its orders
    pruned: int = 0  # number of things pruned
    not_pruned: Mapping[str, str] = field(default_factory=dict)  # why something was not, by name
    left_out: str | None = None  # why the step was not completed
    hint: Hint | None = None
    source: str | None = None  # which caused that
    broke: bool = False  # after an unexpected error

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing to report: skipped and refused orders are no news."""
        if self.left_out is not None or self.pruned or self.not_pruned:
            return False
        return self.result is None or not any(
            outcome.outcome in (OutcomeKind.DONE, OutcomeKind.FAILED) for outcome in self.result.outcomes
        )

    @property
    def has_failed(self) -> bool:
        """Whether something that was attempted failed."""
        return self.broke or bool(self.not_pruned) or (self.result is not None and self.result.exit_code == 1)


@dataclass(frozen=True, kw_only=True)
class Maintenance:
    """One run of maintenance; ``left`` are the faults that it could not fix."""

    steps: Sequence[StepReport]
    dry_run: bool
    interrupted: bool = False
    left: Sequence[Leftover] = ()
    snapshot: Snapshot | None = None  # after all steps; None where a source did not respond
    unreachable: Mapping[Source, str] = field(default_factory=dict)  # why a source did not respond

    @property
    def operation(self) -> str | None:
        """The id in the journal; None where nothing was attempted."""
        results = (step.result for step in self.steps if step.result is not None)
        return next((result.operation for result in results if result.operation is not None), None)

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
        """130 when interrupted, 3 when a source was missing for a step, 1 when something failed, else 0."""
        if self.interrupted:
            return 130
        if any(step.left_out is not None and not step.broke for step in self.steps):
            return 3
        if any(step.has_failed for step in self.steps):
            return 1
        return 4 if any(left.obstacle.is_for_operators for left in self.news) else 0
