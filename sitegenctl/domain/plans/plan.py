"""Plans: the steps to execute, one per order, and the orders left alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any

from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.orders.operation import JournalRow
from sitegenctl.domain.orders.order import JournalEntry, Order, OrderStatus
from sitegenctl.domain.orders.run import (
    OPERATOR_CANCEL,
    OPERATOR_ENQUEUE,
    OPERATOR_FAILED_SUFFIX,
    OPERATOR_REPAIR,
    OPERATOR_RESET,
    OPERATOR_RESTORE,
    OPERATOR_UNDO,
    OPERATOR_UNDO_BEGIN,
)
from sitegenctl.domain.queue.task import LiveTask
from sitegenctl.slotted import slotted

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
    """The outcome for one order."""

    order_id: int
    outcome: OutcomeKind
    reason: str
    task_id: str | None = None
    before: OrderStatus | None = None  # None where unknown
    after: OrderStatus | None = None  # None where unknown
    hint: Hint | None = None
    log_id: int = 0  # the newest row of its log then: later rows are about what happened afterwards
    obstacle: Obstacle | None = None  # must be removed before a fault can be fixed


@dataclass(frozen=True, kw_only=True)
class OperationResult:
    """The outcomes of one operation, the same type dry or not."""

    command: str
    dry_run: bool
    outcomes: Sequence[Outcome]
    interrupted: bool = False
    operation: str | None = None  # the id in the journal; None where nothing was attempted
    beyond: int = 0  # orders beyond the limit
    notes: tuple[Hint, ...] = ()
    omitted: int = 0  # completed orders whose outcomes were not kept
    named: bool = True  # the orders were named by number: only then is a refusal an error

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


#: Resetting more finished orders than this requires typing their number.
MAX_FINISHED_RESETS = 5


class Action(StrEnum):
    """Actions on an order; the values are steps of the journal."""

    ENQUEUE = OPERATOR_ENQUEUE
    RESET = OPERATOR_RESET
    CANCEL = OPERATOR_CANCEL
    REPAIR = OPERATOR_REPAIR
    RESTORE = OPERATOR_RESTORE
    UNDO = OPERATOR_UNDO
    UNDO_BEGIN = OPERATOR_UNDO_BEGIN

    @property
    def rollback_step(self) -> str:
        """The journal's step for a rollback."""
        action = Action.UNDO if self is Action.UNDO_BEGIN else self
        return f"{action.value}{OPERATOR_FAILED_SUFFIX}"


@slotted
class Step:
    """The changes to one order, provided that it is still as planned."""

    order_id: int
    action: Action
    before: OrderStatus | None  # as planned; None for a missing order: only its tasks can be removed
    verb: str  # a past participle such as "enqueued"
    details: tuple[str, ...] = ()  # follow the verb
    after: OrderStatus | None = None  # the status to set; None leaves it
    last_log_id: int | None = None  # as planned; None where the log may grow meanwhile, because a task runs
    revoke: tuple[LiveTask, ...] = ()  # tasks to remove, running ones only with `terminate`
    terminate: bool = False
    keep: LiveTask | None = None  # a task that must still exist
    leave: tuple[LiveTask, ...] = ()  # tasks that must not be touched
    trash: bool = False
    files: int = 0  # in the site that goes to the trash, as planned
    undoes: JournalRow | None = None  # the row of an operation that is undone
    untrash: str | None = None  # the name in the trash of the site that comes back
    restores: JournalEntry | None = None  # the journal row that is the newest again once that is undone
    publish: str | None = None  # the id of a new task, named in the journal before it exists
    resume: bool = True
    eta: datetime | None = None  # the new task waits until then
    attempt: int = 1  # of the new task, from 1
    idle: timedelta | None = None  # since the order's last change, as planned
    requeue: LiveTask | None = None  # a task to return to the queue
    worker_dead: bool = False  # an operator has confirmed that no living worker has that task

    @property
    def description(self) -> str:
        """The verb and the details in one line."""
        return "; ".join((self.verb, *self.details))

    @property
    def task_id(self) -> str | None:
        """The id of the order's task once the step is done."""
        if self.publish is not None:
            return self.publish
        task = self.requeue or self.keep
        return task.task_id if task else None

    @property
    def beginning(self) -> Step | None:
        """The intention that is journaled first if an undo removes a task or moves files.

        The status is set once they are as before: until then, the order is as the undone operation left it.
        """
        if self.undoes is None or not (self.revoke or self.untrash):
            return None
        return replace(self, action=Action.UNDO_BEGIN, after=None, publish=None, verb="undoing")

    @property
    def kept_tasks(self) -> tuple[LiveTask, ...]:
        """The tasks that stay where they are or are requeued."""
        return tuple(task for task in (self.keep, self.requeue, *self.leave) if task is not None)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps to execute, and the orders left alone with the reason."""

    command: str
    order_ids: Sequence[int]  # all orders as they are reported
    steps: Sequence[Step]
    left_alone: Sequence[Outcome]
    beyond: int = 0  # steps cut off by a limit
    notes: tuple[Hint, ...] = ()  # help to decide on the plan
    named: bool = True  # the orders were named by number: a refusal is an error then

    @classmethod
    def of(cls, command: str, decisions: Sequence[Step | Outcome], *, named: bool = True) -> Plan:
        """The plan of these decisions, order by order."""
        return cls(
            command=command,
            order_ids=[decision.order_id for decision in decisions],
            steps=[decision for decision in decisions if isinstance(decision, Step)],
            left_alone=[decision for decision in decisions if isinstance(decision, Outcome)],
            named=named,
        )

    @property
    def resets(self) -> bool:
        """Whether any order is reset."""
        return any(step.action is Action.RESET for step in self.steps)

    @property
    def number_to_type(self) -> int | None:
        """The number of finished orders that are reset, if it must be typed to confirm the plan."""
        resets = [step for step in self.steps if step.action is Action.RESET]
        count = sum(step.before is not None and step.before.is_finished for step in resets)
        return count if count > MAX_FINISHED_RESETS else None

    def limited(self, limit: int | None) -> Plan:
        """The same plan with at most this many steps."""
        if limit is None or len(self.steps) <= limit:
            return self
        cut = {step.order_id for step in self.steps[limit:]}
        return replace(self.without(cut), beyond=self.beyond + len(cut))

    def without(self, order_ids: Collection[int]) -> Plan:
        """The same plan without these orders."""
        if not order_ids:
            return self
        return replace(
            self,
            order_ids=[order_id for order_id in self.order_ids if order_id not in order_ids],
            steps=[step for step in self.steps if step.order_id not in order_ids],
            left_alone=[outcome for outcome in self.left_alone if outcome.order_id not in order_ids],
        )

    def naming(self, order_ids: Sequence[int], existing: Collection[int]) -> Plan:
        """The same plan with an outcome for each of these orders; ``existing`` are those of the others that exist."""
        planned = set(self.order_ids)
        others = [
            skip(
                order_id,
                f"{self.command} does not apply to it",
                hint=Remedy.run(Command.INSPECT, order_id, advice="for its condition and its fix"),
            )
            if order_id in existing
            else refuse(order_id, "no such order")
            for order_id in order_ids
            if order_id not in planned
        ]
        return replace(self, order_ids=list(order_ids), left_alone=[*self.left_alone, *others], named=True)


def joined(plans: Sequence[Plan]) -> Plan:
    """One plan from several of the same command, for different orders."""
    first, *others = plans
    if not others:
        return first
    return replace(
        first,
        order_ids=[order_id for plan in plans for order_id in plan.order_ids],
        steps=[step for plan in plans for step in plan.steps],
        left_alone=[outcome for plan in plans for outcome in plan.left_alone],
        notes=tuple(dict.fromkeys(note for plan in plans for note in plan.notes)),
    )


def left_alone(
    kind: OutcomeKind,
    order: Order | int,
    reason: str,
    *,
    hint: Hint | None = None,
    task_id: str | None = None,
    log_id: int = 0,
    obstacle: Obstacle | None = None,
) -> Outcome:
    """The outcome for an order that is not changed; one that was not read is given by number."""
    order_id, status = (order, None) if isinstance(order, int) else (order.order_id, order.status)
    return Outcome(
        order_id=order_id,
        outcome=kind,
        reason=reason,
        before=status,
        after=status,
        hint=hint,
        task_id=task_id,
        log_id=log_id,
        obstacle=obstacle,
    )


#: An order that must not be changed.
refuse = partial(left_alone, OutcomeKind.REFUSED)

#: An order that needs no change, or not yet.
skip = partial(left_alone, OutcomeKind.SKIPPED)
