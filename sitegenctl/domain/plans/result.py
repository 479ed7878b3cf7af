"""The result of an operation: an outcome per order, and the versioned JSON envelope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sitegenctl.domain.diagnosis.remedy import Hint
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.slotted import slotted

#: Version of the JSON envelope. It changes when a field changes its meaning or goes, not when one is added.
SCHEMA = "sitegenctl/1"


class OutcomeKind(StrEnum):
    """The kinds of outcome."""

    DONE = "done"
    SKIPPED = "skipped"  # nothing to do, or the order changed meanwhile
    REFUSED = "refused"  # must not be done, or no such order
    FAILED = "failed"  # attempted


class Obstacle(StrEnum):
    """What prevents a fix until it is removed; stays the same from run to run."""

    RUNNING = "running"  # the task to remove runs, and may be stopped only on request
    NOT_REMOVABLE = "not-removable"  # the task is part of a chain or group, or no worker answers for it
    UNDATED = "undated"  # nothing says when the task was delivered or made
    ATTEMPTS_EXHAUSTED = "attempts-exhausted"
    ONBOARDING = "onboarding"  # the customer has to complete it
    STATUS = "status"  # the order's status is NULL or not known
    UNATTRIBUTED = "unattributed"  # a message of our task that cannot be read may be of this order
    FILES = "files"  # the order's files could not be counted

    @property
    def is_for_operators(self) -> bool:
        """Whether an operator's command removes it; the others need the customer or a change of the system."""
        return self in (Obstacle.RUNNING, Obstacle.NOT_REMOVABLE, Obstacle.UNDATED, Obstacle.ATTEMPTS_EXHAUSTED)


@slotted
class Outcome:
    """The outcome for one order.

    ``obstacle`` is what must be removed before a fault can be fixed; None where nothing must, or waiting is enough.
    ``before`` and ``after`` are the order's status, None where unknown. ``log_id`` is the newest row of the order's log
    at that time: later rows are about what happened afterwards.
    """

    order_id: int
    outcome: OutcomeKind
    reason: str
    task_id: str | None = None
    before: OrderStatus | None = None
    after: OrderStatus | None = None
    hint: Hint | None = None
    log_id: int = 0
    obstacle: Obstacle | None = None


@dataclass(frozen=True, kw_only=True)
class OperationResult:
    """The outcomes of one operation, the same type dry or not.

    ``beyond`` is the number of orders beyond the limit, ``omitted`` that of completed orders whose outcomes were not
    kept. ``named`` is whether the orders were named by number: only then is a refusal an error.
    """

    command: str
    dry_run: bool
    outcomes: Sequence[Outcome]
    interrupted: bool = False
    beyond: int = 0
    notes: tuple[Hint, ...] = ()
    omitted: int = 0
    named: bool = True

    @property
    def exit_code(self) -> int:
        """130 when interrupted, 1 when an order failed, 4 when a named one was refused and none failed, else 0."""
        if self.interrupted:
            return 130
        kinds = {outcome.outcome for outcome in self.outcomes}
        if OutcomeKind.FAILED in kinds:
            return 1
        return 4 if self.named and OutcomeKind.REFUSED in kinds else 0


def envelope(
    command: str, *, exit_code: int, data: Any, errors: Sequence[dict[str, str | None]] = ()
) -> dict[str, Any]:
    """Wrap a command's data as every ``-o json`` output is wrapped, failures too."""
    return {
        "schema": SCHEMA,
        "command": command,
        "ok": exit_code == 0,
        "exit_code": exit_code,
        "data": data,
        "errors": list(errors),
    }
