"""What happened: runs and operations of all orders, in the order in which they ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from sitegenctl.domain.orders.operation import EntryOutcome, Operation, OperationKind
from sitegenctl.domain.orders.run import RunOutcome
from sitegenctl.domain.orders.run_reader import LoggedRun
from sitegenctl.domain.statistics.statistics import LogWindow


class ActivityKind(StrEnum):
    """Kinds of activity."""

    RUN = "run"
    OPERATOR = "operator"
    MAINTENANCE = "maintenance"


class ActivityOutcome(StrEnum):
    """How a run or an operation ended."""

    GENERATED = "generated"
    FAILED = "failed"  # of an operation: some of its orders were rolled back
    SKIPPED = "skipped"
    CUT_SHORT = "cut-short"  # no outcome, and a later run began
    UNFINISHED = "unfinished"  # no outcome yet
    DONE = "done"  # an operation


_OUTCOMES = {
    RunOutcome.SUCCESS: ActivityOutcome.GENERATED,
    RunOutcome.ERROR: ActivityOutcome.FAILED,
    RunOutcome.SKIP: ActivityOutcome.SKIPPED,
}


@dataclass(frozen=True, kw_only=True)
class RunActivity:
    """One run of one order; ``seconds`` is None where its beginning or end is unknown."""

    log_id: int  # of its last row
    at: datetime | None  # of its outcome, or else of its last row; by the log's clock, naive
    order_id: int
    customer: str | None
    outcome: ActivityOutcome
    seconds: float | None = None
    reason: str | None = None  # of a failure

    kind = ActivityKind.RUN


@dataclass(frozen=True, kw_only=True)
class OperationActivity:
    """One operation."""

    operation: Operation

    @property
    def log_id(self) -> int:
        """The id of its first row."""
        return self.operation.log_id

    @property
    def at(self) -> datetime | None:
        """The time of its first row, by the log's clock, naive."""
        return self.operation.at

    @property
    def kind(self) -> ActivityKind:
        """Who began it."""
        is_maintenance = self.operation.kind is OperationKind.MAINTENANCE
        return ActivityKind.MAINTENANCE if is_maintenance else ActivityKind.OPERATOR

    @property
    def rolled_back(self) -> int:
        """The number of orders for which it failed."""
        return sum(entry.outcome is EntryOutcome.ROLLED_BACK for entry in self.operation.entries)

    @property
    def outcome(self) -> ActivityOutcome:
        """Whether it failed for any order."""
        return ActivityOutcome.FAILED if self.rolled_back else ActivityOutcome.DONE


Activity: TypeAlias = RunActivity | OperationActivity


def run_activity(run: LoggedRun, customer: str | None = None) -> RunActivity:
    """The run as it is listed."""
    unended = ActivityOutcome.UNFINISHED if run.is_newest else ActivityOutcome.CUT_SHORT
    return RunActivity(
        log_id=run.last_id,
        at=run.ended_at or run.last_at,
        order_id=run.order_id,
        customer=customer,
        outcome=unended if run.outcome is None else _OUTCOMES[run.outcome],
        seconds=run.duration,
        reason=run.error,
    )


@dataclass(frozen=True, kw_only=True)
class Past:
    """What happened within a window; ``left_out`` is the number of the oldest, which are not listed."""

    window: LogWindow
    activity: Sequence[Activity]
    left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class ActivityFilter:
    """Which activity is listed; what is empty restricts nothing."""

    orders: frozenset[int] = frozenset()
    outcomes: frozenset[ActivityOutcome] = frozenset()
    kinds: frozenset[ActivityKind] = frozenset()
    by: str | None = None  # the operator, as user or user@host
    search: str | None = None  # a part of a customer, reason, command or operator, in any case

    @property
    def wants_runs(self) -> bool:
        """Whether runs may be listed."""
        return self.by is None and (not self.kinds or ActivityKind.RUN in self.kinds)

    @property
    def wants_operations(self) -> bool:
        """Whether operations may be listed."""
        return not self.kinds or bool(self.kinds - {ActivityKind.RUN})

    def includes(self, activity: Activity, customers: Mapping[int, str]) -> bool:
        """Whether the activity is listed; ``customers`` has the names to search, by order."""
        if self.kinds and activity.kind not in self.kinds:
            return False
        if self.outcomes and activity.outcome not in self.outcomes:
            return False
        if isinstance(activity, RunActivity):
            orders: Collection[int] = (activity.order_id,)
            texts = [activity.reason]
        else:
            operation = activity.operation
            orders = {entry.order_id for entry in operation.entries}
            if self.by is not None and self.by not in (operation.actor, f"{operation.actor}@{operation.host}"):
                return False
            texts = [operation.command, f"{operation.actor}@{operation.host}", operation.operation_id]
            texts += [entry.rollback.message for entry in operation.entries if entry.rollback is not None]
        if self.by is not None and isinstance(activity, RunActivity):
            return False
        if self.orders and self.orders.isdisjoint(orders):
            return False
        if self.search is None:
            return True
        wanted = self.search.casefold()
        return any(wanted in (text or "").casefold() for text in (*texts, *(customers.get(each) for each in orders)))
