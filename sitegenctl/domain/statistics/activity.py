"""What happened: runs and operations of all orders, in the order in which they ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

from sitegenctl.domain.diagnosis.listing import order_number, parse_age, with_prefix
from sitegenctl.domain.orders.operation import EntryOutcome, Operation, OperationKind
from sitegenctl.domain.orders.run import RunOutcome
from sitegenctl.domain.orders.run_reader import LoggedRun
from sitegenctl.domain.statistics.failure_reasons import essence
from sitegenctl.domain.statistics.log_window import LogWindow


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
    CUT_SHORT = "cut-short"  # no outcome, and it was cancelled or a later run began
    UNFINISHED = "unfinished"  # no outcome yet
    DONE = "done"  # an operation


# A shorter text is the beginning of too many kinds and outcomes.
_MIN_WORD = 3

_OUTCOMES = {
    RunOutcome.SUCCESS: ActivityOutcome.GENERATED,
    RunOutcome.ERROR: ActivityOutcome.FAILED,
    RunOutcome.SKIP: ActivityOutcome.SKIPPED,
}


@dataclass(frozen=True, kw_only=True)
class RunActivity:
    """One run of one order; ``seconds`` is None where its beginning or end is unknown."""

    log_id: int  # of its last row
    began_id: int  # of its first row
    at: datetime | None  # of its outcome, or else of its last row; by the log's clock, naive
    order_id: int
    customer: str | None
    outcome: ActivityOutcome
    seconds: float | None = None
    reason: str | None = None  # of a failure
    late: timedelta | None = None  # it generated the site this long after the due date

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


def with_lateness(run: RunActivity, due_at: datetime | None) -> RunActivity:
    """The run, with how long after the due date it generated the site."""
    if run.outcome is not ActivityOutcome.GENERATED or run.at is None or due_at is None or run.at <= due_at:
        return run
    return replace(run, late=run.at - due_at)


def run_activity(run: LoggedRun, customer: str | None = None) -> RunActivity:
    """The run as it is listed."""
    is_over = run.is_cancelled or run.is_dead or not run.is_newest
    unended = ActivityOutcome.CUT_SHORT if is_over else ActivityOutcome.UNFINISHED
    return RunActivity(
        log_id=run.last_id,
        began_id=run.first_id,
        at=run.ended_at or run.last_at,
        order_id=run.order_id,
        customer=customer,
        outcome=unended if run.outcome is None else _OUTCOMES[run.outcome],
        # Only its end is known where its outcome is the first row that was read.
        seconds=run.duration if run.first_id != run.last_id else None,
        reason=essence(run.error) if run.error else None,
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
    search: str | None = None  # a part of a customer, reason, command or operator, or the beginning of kind or outcome

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
        if len(wanted) >= _MIN_WORD and any(str(each).startswith(wanted) for each in (activity.kind, activity.outcome)):
            return True
        return any(wanted in (text or "").casefold() for text in (*texts, *(customers.get(each) for each in orders)))


@dataclass(frozen=True, kw_only=True)
class ActivityText:
    """A parsed filter, the age of the oldest activity if it has one, and the first problem in it."""

    only: ActivityFilter = ActivityFilter()
    since: timedelta | None = None
    problem: str | None = None


def parse_activity_filter(text: str) -> ActivityText:
    """Parse ``kind:run outcome:failed by:ana order:42 age<2h``; other words are searched for together."""
    words: list[str] = []
    outcomes: set[ActivityOutcome] = set()
    kinds: set[ActivityKind] = set()
    orders: set[int] = set()
    by: str | None = None
    since: timedelta | None = None
    problems: list[str] = []
    for word in text.split():
        name, colon, value = word.partition(":")
        name = name.lower() if colon else ""
        found: Collection[object] = (value,)
        if word.lower().startswith("age<"):
            age = parse_age(word)
            since = age if age is not None else since
            problems += ["age needs a time, as in age<2h"] if age is None else []
        elif name == "by":
            by = value or None
        elif name in ("outcome", "o"):
            outcomes |= (found := with_prefix(ActivityOutcome, value))
        elif name in ("kind", "k"):
            kinds |= (found := with_prefix(ActivityKind, value))
        elif name == "order":
            number = order_number(value)
            found = {number} - {None}
            orders |= {number} if number is not None else set()
        else:
            words.append(word)
        problems += [] if found else [f"no {name} is {value!r}"]
    only = ActivityFilter(
        orders=frozenset(orders),
        outcomes=frozenset(outcomes),
        kinds=frozenset(kinds),
        by=by,
        search=" ".join(words) or None,
    )
    return ActivityText(only=only, since=since, problem=problems[0] if problems else None)
