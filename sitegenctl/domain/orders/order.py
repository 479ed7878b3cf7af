"""An order as it is in the database."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sitegenctl.domain.orders.run import (
    CLOCK_TOLERANCE,
    OPERATOR_CANCEL,
    OPERATOR_FAILED_SUFFIX,
    History,
    Run,
    RunOutcome,
    backoff,
)
from sitegenctl.domain.queue.task import TaskResult
from sitegenctl.slotted import slotted


class OrderStatus(StrEnum):
    """The labels of the ``siteorderstatus`` enum, in the order of an order's life."""

    PENDING_PAYMENT = "PENDING_PAYMENT"
    PAID = "PAID"
    ONBOARDING_PENDING = "ONBOARDING_PENDING"
    BUILDING = "BUILDING"  # onboarding done, generation not requested
    GENERATING = "GENERATING"  # generation requested; a failed one stays in it
    REVIEW = "REVIEW"  # site generated
    DELIVERED = "DELIVERED"
    CANCELLED = "CANCELLED"

    @property
    def is_finished(self) -> bool:
        """Whether the generator skips such an order."""
        return self in (OrderStatus.REVIEW, OrderStatus.DELIVERED)

    @property
    def precedes_building(self) -> bool:
        """Whether the order still waits for the customer."""
        return self in (OrderStatus.PENDING_PAYMENT, OrderStatus.PAID, OrderStatus.ONBOARDING_PENDING)


#: Statuses of orders that were paid and not delivered. A site in REVIEW is not with the customer yet.
PROMISED_STATUSES = frozenset(OrderStatus) - {
    OrderStatus.PENDING_PAYMENT,
    OrderStatus.DELIVERED,
    OrderStatus.CANCELLED,
}

#: Statuses in which an order may need attention: every such order is read and diagnosed.
OPEN_STATUSES = frozenset({OrderStatus.BUILDING, OrderStatus.GENERATING})


class Onboarding(StrEnum):
    """How far the customer's onboarding is."""

    MISSING = "missing"  # no row: a generation can never succeed
    PARTIAL = "partial"  # a generation can succeed: only the system's beat waits for the rest
    COMPLETE = "complete"


@slotted
class JournalEntry:
    """One journal row (``OPERATOR_*``) of ``site_generation_logs``."""

    step: str
    task_id: str | None = None  # the task that it announces
    actor: str | None = None
    resume: bool = True
    age: timedelta | None = None  # by the database's clock, None when its time is unusable
    after: str | None = None  # the status that it set, None when it left the status unchanged


@slotted
class Order:
    """One order with everything in the database that its condition depends on."""

    order_id: int
    status: OrderStatus | None  # None where it is NULL or unknown to this release
    customer_name: str
    customer_email: str = ""
    business_name: str | None = None
    onboarding: Onboarding = Onboarding.MISSING
    onboarding_completed_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    site_url: str | None = None
    admin_notes: str | None = None
    idle: timedelta | None = None  # since the last change, each column by its own clock
    changed_at: datetime | None = None  # the same as a time in UTC by the database's clock, naive
    due_at: datetime | None = None  # naive UTC; None where nothing was promised, and once the site was delivered
    due_in: timedelta | None = None  # until then by the database's clock, negative once it has passed
    status_label: str | None = None  # a status that is unknown to this release
    last_log_id: int = 0  # of its newest log row, 0 without any
    history: History = field(default_factory=History)
    journal: JournalEntry | None = None
    last_error: str | None = None
    run_lock_held: bool | None = None  # a run holds its lock in PostgreSQL; read after the order, None on a standby

    @property
    def label(self) -> str | None:
        """The status as the database has it, known or not."""
        return self.status or self.status_label

    @property
    def status_problem(self) -> str | None:
        """Why the order cannot be diagnosed or changed; None where its status is known."""
        if self.status is not None:
            return None
        if self.status_label is None:
            return "its status is NULL"
        return f"status {self.status_label} is not known to this release"

    @property
    def is_open(self) -> bool:
        """Whether the order may need attention."""
        return self.status in OPEN_STATUSES

    @property
    def is_held(self) -> bool:
        """Whether an operator cancelled it, and its status is still the one that the cancel set."""
        if self.history.last_journal != OPERATOR_CANCEL or self.status is None:
            return False
        if self.status is OrderStatus.GENERATING or self.status.is_finished:
            return False  # no cancel sets these; the undo of a later operation may
        return self.status is OrderStatus.BUILDING or (self.journal is not None and self.journal.after == self.status)

    @property
    def is_ready_for_beat(self) -> bool:
        """Whether the system's beat starts the order as soon as it is BUILDING."""
        return self.onboarding is Onboarding.COMPLETE and self.onboarding_completed_at is not None

    def wait_for_attempt(self, grace: timedelta) -> timedelta | None:
        """How long until a failed order may be retried; None if it may be now."""
        delay = max(backoff(self.history.attempts), grace)
        return delay - self.idle if self.idle is not None and self.idle < delay else None

    @property
    def lacks_outcome(self) -> bool:
        """Whether its log does not show how its last run ended; the result of its task may."""
        run = self.history.last_run
        if self.status is not OrderStatus.GENERATING or self.is_held or self.run_lock_held:
            return False
        return run is None or run.outcome is None

    @property
    def last_task_id(self) -> str | None:
        """The id of its last task, if the log has it."""
        run, journal = self.history.last_run, self.journal
        if run is not None and run.task_id is not None:
            return run.task_id
        return journal.task_id if journal and not journal.step.endswith(OPERATOR_FAILED_SUFFIX) else None

    def with_result(self, task_id: str, result: TaskResult, now: datetime, *, is_last: bool = True) -> Order:
        """The order whose last run failed, if this result of its task shows that; ``now`` is aware.

        Where the task is not known to be its last one (``is_last``), a result from before the last change of the order
        shows nothing.
        """
        failure, history, run = result.failure, self.history, self.history.last_run
        if failure is None:
            return self
        if not is_last:
            # As times, not as ages, which were not read at the same moment.
            changed_at = self.changed_at.replace(tzinfo=UTC) if self.changed_at is not None else None
            if result.date_done is None or changed_at is None or result.date_done < changed_at:
                return self
        age = max(now - result.date_done, timedelta(0)) if result.date_done is not None else None
        # Another task, which the journal does not know, may have begun this run after the result.
        is_later = run is not None and (age is None or run.began is None or age > run.began + CLOCK_TOLERANCE)
        if is_later and run is not None and run.task_id != task_id:
            return self
        attempts = history.attempts if run is not None else history.attempts + history.unlogged
        failed = replace(
            run or Run(outcome=None, last_step=""), outcome=RunOutcome.ERROR, failed_ago=age or timedelta(0)
        )
        return replace(self, history=replace(history, last_run=failed, attempts=attempts), last_error=failure)


@dataclass(frozen=True, kw_only=True)
class LogRow:
    """One row of ``site_generation_logs``."""

    log_id: int
    order_id: int
    step: str
    message: str
    status: str
    created_at: datetime | None  # naive, in the time zone of the database session
    age: timedelta | None = None  # when it was read, by the database's clock
    details: Any = None  # any JSON
