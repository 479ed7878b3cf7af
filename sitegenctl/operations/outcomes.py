"""The outcome of each step of a plan: done, skipped, failed and rolled back, or unknown."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, replace

from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.plans.plan import Action, Step
from sitegenctl.domain.plans.result import Outcome, OutcomeKind
from sitegenctl.domain.ports import PublishFailure, QueueBackend, TransitionFailure, TransitionResult
from sitegenctl.errors import SourceError, Unconfirmed
from sitegenctl.operations.observe import CONFIRM_DELAY


@dataclass(kw_only=True)
class Failure:
    """Why a step could not be completed; ``certain`` is False when a task may have been published all the same."""

    reason: str
    hint: Hint | None = None
    certain: bool = True


def step_outcome(
    step: Step, applied: TransitionResult, failure: Failure | None, rollback: TransitionResult | SourceError
) -> Outcome:
    """The outcome of a step after its transition was attempted; a failure after that was rolled back."""
    order_id = step.order_id
    if order_id in applied.changed:
        return skipped(step, applied.changed[order_id])
    if (refused := applied.failed.get(order_id)) is not None:
        return failed(step, refused.reason, hint=refused.hint)
    if failure is None:
        return done(step, step.description, task_id=step.task_id, log_id=applied.journal_ids.get(order_id))
    after = step.after or step.before
    if not failure.certain:
        return failed(step, failure.reason, hint=failure.hint, after=after)
    if step.before is None:
        return failed(step, failure.reason, hint=failure.hint)
    if isinstance(rollback, SourceError):
        rollback = TransitionResult(failed={order_id: TransitionFailure(reason=rollback.message)})
    if (stuck := rollback.failed.get(order_id)) is not None:
        advice = f"it is {after} without a task; later"
        enqueue = Remedy.run(Command.ENQUEUE, order_id, advice=advice)
        return failed(
            step,
            f"{failure.reason}; and {step.before} could not be restored: {stuck.reason}",
            hint=enqueue if step.action is Action.ENQUEUE else Remedy.run(Command.REPAIR, advice=advice),
            after=after,
        )
    if order_id in rollback.journal_ids:
        again = f"; {step.before} again" if step.after not in (None, step.before) else ""
        return failed(step, f"{failure.reason}{again}", hint=failure.hint, after=step.before)
    return failed(
        step,
        f"{failure.reason}; but {rollback.changed.get(order_id, 'it changed meanwhile')}",
        hint=Remedy.run(Command.INSPECT, order_id, advice="for its condition"),
    )


def not_applied(step: Step, exc: SourceError) -> Outcome:
    """The outcome of a step whose transition could not be applied, or not be confirmed."""
    hint = exc.hint
    if isinstance(exc, Unconfirmed):
        hint = Remedy.run(
            Command.INSPECT, step.order_id, advice="once the database responds again", note="repair fixes it if needed"
        )
    return failed(step, exc.message, hint=hint)


async def find_published(
    queue: QueueBackend, order_ids: Collection[int], failures: dict[str, PublishFailure]
) -> dict[str, PublishFailure]:
    """Look for tasks whose reply was lost; returns the failures of those that were not published after all.

    A task is missing only if two readings miss it: Redis may execute the publishing call after it answered the first
    one. Where the queue can't be read, the doubt stays.
    """
    try:
        first = {task.task_id for task in (await queue.read(order_ids)).tasks}
        await asyncio.sleep(CONFIRM_DELAY)
        published = first | {task.task_id for task in (await queue.read(order_ids)).tasks}
    except SourceError:
        return failures
    return {
        task_id: replace(failure, certain=True) for task_id, failure in failures.items() if task_id not in published
    }


def done(step: Step, reason: str, *, task_id: str | None = None, log_id: int | None = None) -> Outcome:
    """The outcome of a completed step."""
    return Outcome(
        order_id=step.order_id,
        outcome=OutcomeKind.DONE,
        reason=reason,
        task_id=task_id,
        before=step.before,
        after=step.after or step.before,
        log_id=(step.last_log_id or 0) if log_id is None else log_id,
    )


def skipped(step: Step, reason: str, *, task_id: str | None = None) -> Outcome:
    """The outcome of a step that changed nothing because its order changed meanwhile."""
    return Outcome(
        order_id=step.order_id,
        outcome=OutcomeKind.SKIPPED,
        reason=reason,
        task_id=task_id,
        before=step.before,
        log_id=step.last_log_id or 0,
    )


def failed(step: Step, reason: str, *, hint: Hint | None = None, after: OrderStatus | None = None) -> Outcome:
    """The outcome of a failed step, which changed nothing unless there is a status ``after`` it."""
    return Outcome(
        order_id=step.order_id,
        outcome=OutcomeKind.FAILED,
        reason=reason,
        before=step.before,
        after=after,
        hint=hint,
        log_id=step.last_log_id or 0,
    )
