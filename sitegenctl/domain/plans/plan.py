"""What is to be done with orders: the steps of a plan, whoever made it (``planners/``) and carries it out.

A step says everything that changes for one order. Whoever applies it takes the parts in one order, always:
claim (lock, re-check, set the status, journal), withdraw tasks, move files to the trash, publish or put back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.orders.run import (
    OPERATOR_CANCEL,
    OPERATOR_ENQUEUE,
    OPERATOR_FAILED_SUFFIX,
    OPERATOR_REPAIR,
    OPERATOR_RESET,
)
from sitegenctl.domain.plans.result import Obstacle, Outcome, OutcomeKind
from sitegenctl.domain.queue.task import LiveTask
from sitegenctl.domain.slotted import light

#: More finished orders than this are reset only after their number was typed.
MAX_FINISHED_RESETS = 5


class Action(StrEnum):
    """What an operator does to an order; the values are the journal's steps."""

    ENQUEUE = OPERATOR_ENQUEUE
    RESET = OPERATOR_RESET
    CANCEL = OPERATOR_CANCEL
    REPAIR = OPERATOR_REPAIR

    @property
    def rollback_step(self) -> str:
        """The journal's step for having taken it back."""
        return f"{self.value}{OPERATOR_FAILED_SUFFIX}"


@light
class Step:
    """What is to be done with one order, provided that it is still as the plan saw it.

    ``before`` and ``last_log_id`` are what the plan saw. ``before`` is None for an order that doesn't exist: only
    its tasks can be taken away. ``last_log_id`` is None where the log may grow meanwhile, because a task runs.
    ``after`` is the status to set, None to leave it.

    ``revoke`` are tasks to remove, those that run only with ``terminate``; ``keep`` is a task that must still be
    there, ``leave`` others that may not be touched; ``requeue`` one to return to the queue, which a person has
    confirmed to be on no living worker where ``worker_dead``. ``publish`` is the id of a new task, chosen now so that
    the journal can name it before the task exists. ``verb`` is what is done to the order, in a word that follows
    "would be …" and stands alone once it is done; ``details`` say more.
    """

    order_id: int
    action: Action
    before: OrderStatus | None
    verb: str
    details: tuple[str, ...] = ()
    after: OrderStatus | None = None
    last_log_id: int | None = None
    revoke: tuple[LiveTask, ...] = ()
    terminate: bool = False
    keep: LiveTask | None = None
    leave: tuple[LiveTask, ...] = ()
    trash: bool = False
    publish: str | None = None
    resume: bool = True
    requeue: LiveTask | None = None
    worker_dead: bool = False

    @property
    def description(self) -> str:
        """What the step does, in words."""
        return "; ".join((self.verb, *self.details))

    @property
    def resets_finished(self) -> bool:
        """Whether the step discards a site that is finished."""
        return self.action is Action.RESET and self.before is not None and self.before.is_finished

    @property
    def task_id(self) -> str | None:
        """The task that the order has when the step is done."""
        if self.publish is not None:
            return self.publish
        task = self.requeue or self.keep
        return task.task_id if task else None

    @property
    def planned_tasks(self) -> tuple[LiveTask, ...]:
        """Every place of a task that the plan saw and that the order may still have when the step is taken."""
        named = (*self.revoke, *self.leave, self.keep, self.requeue)
        return tuple(task for task in named if task is not None)

    @property
    def staying(self) -> tuple[LiveTask, ...]:
        """The tasks that are left where they are, or returned to the queue."""
        return tuple(task for task in (self.keep, self.requeue, *self.leave) if task is not None)

    @property
    def expected_tasks(self) -> frozenset[str]:
        """The ids of these tasks."""
        return frozenset(task.task_id for task in self.planned_tasks)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps to take, and the orders left alone with the reason.

    ``order_ids`` are all of them in the order in which they are reported; ``beyond`` is how many more would have
    been taken but for a limit. ``notes`` are for whoever decides on the plan. ``named`` is whether a person named the
    orders: one that is refused is an error then.
    """

    command: str
    order_ids: Sequence[int]
    steps: Sequence[Step]
    left_alone: Sequence[Outcome]
    beyond: int = 0
    notes: tuple[Hint, ...] = ()
    named: bool = True

    @classmethod
    def of(cls, command: str, decisions: Sequence[Step | Outcome], *, named: bool = True) -> Plan:
        """The plan of what was decided, order by order."""
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
        """How many finished orders the plan resets, where that number must be typed; None where it need not be."""
        count = sum(step.resets_finished for step in self.steps)
        return count if count > MAX_FINISHED_RESETS else None

    def limited(self, limit: int | None) -> Plan:
        """The same plan with so many steps at most."""
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

    def only(self, order_ids: Collection[int]) -> Plan:
        """The same plan for these orders alone."""
        meant = frozenset(order_ids)
        return self.without({order_id for order_id in self.order_ids if order_id not in meant})

    def naming(self, order_ids: Sequence[int], existing: Collection[int]) -> Plan:
        """The same plan, which says what becomes of each of these orders, as they stand; ``existing`` are there."""
        known = set(self.order_ids)
        others = [self._not_taken(order_id, existing) for order_id in order_ids if order_id not in known]
        return replace(self, order_ids=list(order_ids), left_alone=[*self.left_alone, *others], named=True)

    def _not_taken(self, order_id: int, existing: Collection[int]) -> Outcome:
        if order_id not in existing:
            return refuse(order_id, "no such order")
        return skip(
            order_id,
            f"it is none of those that {self.command} takes",
            hint=Remedy.run(Command.INSPECT, order_id, advice="for its condition and its fix"),
        )


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


def refuse(
    order_id: int,
    reason: str,
    *,
    before: OrderStatus | None = None,
    hint: Hint | None = None,
    obstacle: Obstacle | None = None,
) -> Outcome:
    """An order that must not be touched, and why."""
    return Outcome(
        order_id=order_id,
        outcome=OutcomeKind.REFUSED,
        reason=reason,
        before=before,
        after=before,
        hint=hint,
        obstacle=obstacle,
    )


def skip(
    order_id: int,
    reason: str,
    *,
    before: OrderStatus | None = None,
    hint: Hint | None = None,
    task_id: str | None = None,
    log_id: int = 0,
    obstacle: Obstacle | None = None,
) -> Outcome:
    """An order for which there is nothing to do, and why."""
    return Outcome(
        order_id=order_id,
        outcome=OutcomeKind.SKIPPED,
        reason=reason,
        before=before,
        after=before,
        hint=hint,
        task_id=task_id,
        log_id=log_id,
        obstacle=obstacle,
    )
