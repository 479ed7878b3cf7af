"""What one maintenance run did: its steps, in the order in which they were taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from sitegenctl.domain.condition import Source
from sitegenctl.domain.result import OperationResult, OutcomeKind


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
class StepReport:
    """What became of one step: the ``result`` for its orders, or how many things were ``pruned``.

    ``not_pruned`` says why others could not be, by name. ``left_out`` says why the step was not taken, ``hint``
    what to do about it, and ``source`` which source that was for.
    """

    step: MaintenanceStep
    result: OperationResult | None = None
    pruned: int = 0
    not_pruned: Mapping[str, str] = field(default_factory=dict)
    left_out: str | None = None
    hint: str | None = None
    source: str | None = None

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
        return bool(self.not_pruned) or (self.result is not None and self.result.exit_code == 1)


@dataclass(frozen=True, kw_only=True)
class Maintenance:
    """One run of maintenance."""

    steps: Sequence[StepReport]
    dry_run: bool
    interrupted: bool = False

    @property
    def is_quiet(self) -> bool:
        """Whether there was nothing to do."""
        return not self.interrupted and all(step.is_quiet for step in self.steps)

    @property
    def exit_code(self) -> int:
        """130 when interrupted, 3 when a step was left out, 1 when something failed, else 0.

        Orders that are refused rest until a person comes: in cron that is no failure.
        """
        if self.interrupted:
            return 130
        if any(step.left_out is not None for step in self.steps):
            return 3
        return 1 if any(step.has_failed for step in self.steps) else 0
