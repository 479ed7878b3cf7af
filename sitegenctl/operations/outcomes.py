"""What became of each step of a plan, in words: done, skipped, failed and taken back, or not known."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.plans.plan import Action, Step
from sitegenctl.domain.plans.result import Outcome, OutcomeKind
from sitegenctl.domain.ports import PublishFailure, QueueBackend, TransitionFailure, TransitionResult
from sitegenctl.domain.queue.task import LiveTask, TaskState
from sitegenctl.errors import SourceError, Unconfirmed
from sitegenctl.operations.observe import SECOND_LOOK


@dataclass(kw_only=True)
class Failure:
    """Why a step could not be completed; ``certain`` is False when a task may have been published all the same."""

    reason: str
    hint: Hint | None = None
    certain: bool = True


def settle(
    step: Step,
    skipped: Outcome | None,
    claim: TransitionResult,
    failure: Failure | None,
    release: TransitionResult | SourceError,
) -> Outcome:
    """What became of a step that was ``skipped``, or was claimed, failed, and was taken back or could not be."""
    order_id = step.order_id
    if skipped is not None:
        return skipped
    if order_id in claim.changed:
        return outcome(step, OutcomeKind.SKIPPED, claim.changed[order_id])
    if (refused := claim.failed.get(order_id)) is not None:
        return outcome(step, OutcomeKind.FAILED, refused.reason, hint=refused.hint)
    if failure is None:
        return outcome(step, OutcomeKind.DONE, step.description, log_id=claim.journal_ids.get(order_id))
    after = step.after or step.before
    if not failure.certain:
        return outcome(step, OutcomeKind.FAILED, failure.reason, hint=failure.hint, after=after)
    if step.before is None:
        return outcome(step, OutcomeKind.FAILED, failure.reason, hint=failure.hint)
    if isinstance(release, SourceError):
        release = TransitionResult(failed={order_id: TransitionFailure(reason=release.message)})
    if (stuck := release.failed.get(order_id)) is not None:
        advice = f"it is {after} without a task; later"
        enqueue = Remedy.run(Command.ENQUEUE, order_id, advice=advice)
        return outcome(
            step,
            OutcomeKind.FAILED,
            f"{failure.reason}; and {step.before} could not be restored: {stuck.reason}",
            hint=enqueue if step.action is Action.ENQUEUE else Remedy.run(Command.REPAIR, advice=advice),
            after=after,
        )
    if order_id in release.journal_ids:
        again = f"; {step.before} again" if step.after not in (None, step.before) else ""
        return outcome(step, OutcomeKind.FAILED, f"{failure.reason}{again}", hint=failure.hint, after=step.before)
    return outcome(
        step,
        OutcomeKind.FAILED,
        f"{failure.reason}; but {release.changed.get(order_id, 'it changed meanwhile')}",
        hint=Remedy.run(Command.INSPECT, order_id, advice="for its condition"),
    )


def unclaimed(step: Step, exc: SourceError) -> Outcome:
    """An order that was not claimed, as far as is known; what was not confirmed nothing is done about on a guess."""
    hint = exc.hint
    if isinstance(exc, Unconfirmed):
        hint = Remedy.run(
            Command.INSPECT, step.order_id, advice="once the database responds again", note="repair fixes it if needed"
        )
    return outcome(step, OutcomeKind.FAILED, exc.message, hint=hint)


def has_gone(kept: LiveTask, tasks: Sequence[LiveTask]) -> bool:
    """Whether a task that was to be kept is there no more."""
    # One that runs may end at any moment, and a worker that acknowledges early has it out of the broker.
    return kept.state is not TaskState.RUNNING and all(task.task_id != kept.task_id for task in tasks)


async def look_for(
    queue: QueueBackend, order_ids: Collection[int], failures: dict[str, PublishFailure]
) -> dict[str, PublishFailure]:
    """Find out about the tasks whose answer was lost: an answer lost on its way is not a task lost.

    Not being there is believed only of two looks: Redis may still have the call before it when the first one
    is answered. Where it can't be looked, the doubt stays.
    """
    try:
        first = {task.task_id for task in (await queue.read(order_ids)).tasks}
        await asyncio.sleep(SECOND_LOOK)
        arrived = first | {task.task_id for task in (await queue.read(order_ids)).tasks}
    except SourceError:
        return failures
    return {task_id: replace(failure, certain=True) for task_id, failure in failures.items() if task_id not in arrived}


def outcome(
    step: Step,
    kind: OutcomeKind,
    reason: str,
    *,
    task_id: str | None = None,
    hint: Hint | None = None,
    after: OrderStatus | None = None,
    log_id: int | None = None,
) -> Outcome:
    """The outcome of a step, which is done or has changed nothing unless something else is said."""
    is_done = kind is OutcomeKind.DONE
    return Outcome(
        order_id=step.order_id,
        outcome=kind,
        reason=reason,
        task_id=task_id or (step.task_id if is_done else None),
        before=step.before,
        after=after or (step.after or step.before if is_done else None),
        hint=hint,
        log_id=(step.last_log_id or 0) if log_id is None else log_id,
    )


def would_be(step: Step) -> Outcome:
    """What would become of an order, without the id of its new task: that will never exist."""
    after = step.after or step.before
    return Outcome(
        order_id=step.order_id,
        outcome=OutcomeKind.DONE,
        reason=f"would be {step.description}",
        before=step.before,
        after=after,
        log_id=step.last_log_id or 0,
    )
