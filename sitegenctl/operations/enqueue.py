"""Enqueueing orders so that none is lost and none is generated twice, whatever dies half-way.

The protocol: one transaction claims the orders (re-checked under their locks, set GENERATING, journaled with
the task id chosen before); then they are published under exactly that id; what could not be published is
given back by a compensating transaction. A process killed in between leaves a GENERATING order whose journal
names a task that exists nowhere, which ``inspect`` calls interrupted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice

from sitegenctl.domain.condition import DEFAULT_GRACE, Source, describe_task
from sitegenctl.domain.order import OrderStatus
from sitegenctl.domain.plan import EnqueuePlan, EnqueueStep, plan_enqueue
from sitegenctl.domain.ports import Actor, Claim, OrdersStore, PublishFailure, QueueBackend, Release
from sitegenctl.domain.result import OperationResult, Outcome, OutcomeKind
from sitegenctl.domain.task import LiveTask, Publication
from sitegenctl.errors import SourceError
from sitegenctl.operations.observe import SECOND_LOOK, observe, require, utc_now

#: Orders claimed and published together.
CHUNK = 500


async def plan(
    orders: OrdersStore,
    queue: QueueBackend,
    order_ids: Sequence[int],
    *,
    resume: bool = True,
    force: bool = False,
    grace: timedelta = DEFAULT_GRACE,
) -> EnqueuePlan:
    """Look, and decide what to do with each order. Raises ``SourceError`` if database or broker is away."""
    snapshot = await observe(orders, queue, None, order_ids, grace=grace)
    require(snapshot, Source.DATABASE, Source.BROKER)
    return plan_enqueue(snapshot, order_ids, resume=resume, force=force, new_task_id=queue.new_task_id)


def preview(plan: EnqueuePlan) -> OperationResult:
    """What applying the plan would do, as the same type that applying it returns."""
    # Without the task ids: the plan's will never exist.
    would = [replace(_outcome(step, OutcomeKind.DONE, "would be enqueued"), task_id=None) for step in plan.steps]
    return _result(plan, would, dry_run=True)


async def apply(
    orders: OrdersStore,
    queue: QueueBackend,
    plan: EnqueuePlan,
    actor: Actor,
    *,
    now: Callable[[], datetime] = utc_now,
) -> OperationResult:
    """Carry the plan out, chunk by chunk.

    A cancellation (Ctrl-C) lets the chunk in hand finish, so that nothing is left half-done; the rest is
    reported as not done.
    """
    done: list[Outcome] = []
    chunks = _chunks(plan.steps)
    for chunk in chunks:
        work = asyncio.ensure_future(_apply_chunk(orders, queue, chunk, actor, now))
        try:
            done += await asyncio.shield(work)
        except asyncio.CancelledError:
            done += await work
            rest = [step for later in chunks for step in later]
            done += [_outcome(step, OutcomeKind.SKIPPED, "interrupted before its turn") for step in rest]
            return _result(plan, done, interrupted=True)
    return _result(plan, done)


def _result(
    plan: EnqueuePlan, done: Sequence[Outcome], *, dry_run: bool = False, interrupted: bool = False
) -> OperationResult:
    place = {order_id: index for index, order_id in enumerate(plan.order_ids)}
    outcomes = sorted([*done, *plan.left_alone], key=lambda outcome: place[outcome.order_id])
    return OperationResult(command="enqueue", dry_run=dry_run, outcomes=outcomes, interrupted=interrupted)


async def _apply_chunk(
    orders: OrdersStore,
    queue: QueueBackend,
    steps: Sequence[EnqueueStep],
    actor: Actor,
    now: Callable[[], datetime],
) -> list[Outcome]:
    try:
        # Somebody else may have published since the plan was made, and a task on its way from queue to worker
        # may have escaped the first look.
        live = {task.order_id: task for task in (await queue.read()).tasks}
        free = [step for step in steps if step.order_id not in live]
        claim = await orders.claim(free, actor) if free else Claim(journal_ids={}, moved={})
    except SourceError as exc:
        # Whether a commit that was not confirmed took place can't be known; nothing is published on a guess.
        return [_outcome(step, OutcomeKind.FAILED, exc.message, hint=exc.hint) for step in steps]
    claimed = [step for step in free if step.order_id in claim.journal_ids]
    failures = await _publish(queue, claimed, actor, now)
    refused = [step for step in claimed if step.task_id in failures and failures[step.task_id].certain]
    release = await _give_back(orders, claim, refused, actor, failures)
    return [_settle(step, live, claim, failures, release) for step in steps]


async def _publish(
    queue: QueueBackend, steps: Sequence[EnqueueStep], actor: Actor, now: Callable[[], datetime]
) -> dict[str, PublishFailure]:
    """Publish the claimed orders; returns the failures of those that are not in the queue, by task id."""
    if not steps:
        return {}
    enqueued_at = now()
    publications = [
        Publication(
            task_id=step.task_id,
            order_id=step.order_id,
            resume=step.resume,
            actor=str(actor),
            enqueued_at=enqueued_at,
        )
        for step in steps
    ]
    failures = dict(await queue.publish(publications))
    if any(not failure.certain for failure in failures.values()):
        failures = await _look_for(queue, failures)
    return failures


async def _look_for(queue: QueueBackend, failures: dict[str, PublishFailure]) -> dict[str, PublishFailure]:
    """Find out about the tasks whose answer was lost: an answer lost on its way is not a task lost.

    Not being there is believed only of two looks: Redis may still have the call before it when the first one
    is answered. Where it can't be looked, the doubt stays.
    """
    try:
        first = {task.task_id for task in (await queue.read()).tasks}
        await asyncio.sleep(SECOND_LOOK)
        arrived = first | {task.task_id for task in (await queue.read()).tasks}
    except SourceError:
        return failures
    return {task_id: replace(failure, certain=True) for task_id, failure in failures.items() if task_id not in arrived}


async def _give_back(
    orders: OrdersStore,
    claim: Claim,
    steps: Sequence[EnqueueStep],
    actor: Actor,
    failures: Mapping[str, PublishFailure],
) -> Release | SourceError:
    if not steps:
        return Release(restored=(), moved={})
    by_journal_id = {claim.journal_ids[step.order_id]: step for step in steps}
    try:
        return await orders.release(by_journal_id, actor, failures[steps[0].task_id].reason)
    except SourceError as exc:
        return exc


def _settle(
    step: EnqueueStep,
    live: Mapping[int | None, LiveTask],
    claim: Claim,
    failures: Mapping[str, PublishFailure],
    release: Release | SourceError,
) -> Outcome:
    order_id = step.order_id
    if order_id in live:
        task = live[order_id]
        return _outcome(step, OutcomeKind.SKIPPED, describe_task(task), task_id=task.task_id)
    if order_id in claim.moved:
        return _outcome(step, OutcomeKind.SKIPPED, claim.moved[order_id])
    failure = failures.get(step.task_id)
    if failure is None:
        return _outcome(step, OutcomeKind.DONE, "enqueued", log_id=claim.journal_ids[order_id])
    if not failure.certain:
        return _outcome(
            step,
            OutcomeKind.FAILED,
            f"it isn't known whether task {step.task_id} was published: {failure.reason}",
            hint=f"sitegenctl inspect {order_id} tells, once Redis is back",
            after=OrderStatus.GENERATING,
        )
    reason = f"publishing failed: {failure.reason}"
    if isinstance(release, SourceError):
        return _outcome(
            step,
            OutcomeKind.FAILED,
            f"{reason}; and {step.before} could not be restored: {release.message}",
            hint=f"it is GENERATING without a task; later: sitegenctl enqueue {order_id}",
            after=OrderStatus.GENERATING,
        )
    if order_id in release.restored:
        return _outcome(step, OutcomeKind.FAILED, f"{reason}; {step.before} again", after=step.before)
    return _outcome(
        step,
        OutcomeKind.FAILED,
        f"{reason}; but {release.moved.get(order_id, 'it moved meanwhile')}",
        hint=f"sitegenctl inspect {order_id} tells where it is",
    )


def _outcome(
    step: EnqueueStep,
    kind: OutcomeKind,
    reason: str,
    *,
    task_id: str | None = None,
    hint: str | None = None,
    after: OrderStatus | None = None,
    log_id: int | None = None,
) -> Outcome:
    is_done = kind is OutcomeKind.DONE
    return Outcome(
        order_id=step.order_id,
        outcome=kind,
        reason=reason,
        task_id=task_id or (step.task_id if is_done else None),
        before=step.before,
        after=after or (OrderStatus.GENERATING if is_done else None),
        hint=hint,
        log_id=step.last_log_id if log_id is None else log_id,
    )


def _chunks(steps: Sequence[EnqueueStep]) -> Iterator[list[EnqueueStep]]:
    remaining = iter(steps)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk
