"""Execute a plan so that no order is lost or generated twice, even if a process or server stops in between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from sitegenctl.domain.orders.operation import new_operation_id
from sitegenctl.domain.plans.plan import OperationResult, Outcome, OutcomeKind, Plan, left_alone
from sitegenctl.domain.ports import Actor, Sources
from sitegenctl.errors import SourceError, Unconfirmed
from sitegenctl.operations.batch import Batch, ExecutionContext, not_applied, outcome_of
from sitegenctl.operations.observe import QueueCache
from sitegenctl.operations.planner import PlanBatch

#: Orders whose transitions are applied together, and whose tasks are published together.
BATCH_SIZE = 500

#: Batches in flight: PostgreSQL, Redis, the disk and this process work side by side.
MAX_IN_FLIGHT = 3

#: Batches in a row that may lose a source before the others are given up: each may wait for its whole timeout.
MAX_LOST = 2


def preview(plan: Plan) -> OperationResult:
    """The result that executing the plan would have; new tasks have no id yet."""
    kind = OutcomeKind.DONE
    outcomes = [
        outcome_of(step, kind, f"would be {step.description}", after=step.after or step.before) for step in plan.steps
    ]
    return _result(plan, outcomes, dry_run=True)


async def predict(sources: Sources, plan: Plan) -> OperationResult:
    """The result that executing the plan would have now: failures, if the broker refuses to publish."""
    if any(step.publish is not None or step.requeue is not None for step in plan.steps):
        try:
            await sources.queue.require_writable()
        except SourceError as exc:
            return _result(plan, [not_applied(step, exc) for step in plan.steps], dry_run=True)
    return preview(plan)


async def execute_plan(
    sources: Sources,
    plan: Plan,
    *,
    actor: Actor | None = None,
    cache: QueueCache | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    progress: Callable[[int], None] | None = None,
    report: Callable[[Sequence[Outcome]], None] | None = None,
) -> OperationResult:
    """Execute a plan; ``progress`` gets the number of completed orders, ``report`` the outcomes of each batch.

    A cancellation (Ctrl-C) lets the batches in flight finish, so that nothing is left half-done; the other orders are
    reported as not done. So are those behind ``MAX_LOST`` batches in a row that lost a source. ``cache`` is a recent
    reading of the queue; without it the queue is read.
    """
    remaining = {step.order_id for step in plan.steps}
    actor = acting(actor or sources.actor, now())
    context = ExecutionContext(
        sources=sources,
        actor=actor,
        now=now,
        cache=cache or QueueCache(queue=sources.queue, order_ids=remaining),
        progress=progress,
    )
    waiting = deque(
        Batch(context=context, steps=plan.steps[start : start + BATCH_SIZE])
        for start in range(0, len(plan.steps), BATCH_SIZE)
    )
    in_flight: deque[tuple[Batch, asyncio.Future[list[Outcome]]]] = deque()
    outcomes: list[Outcome] = []
    lost_in_a_row = 0
    try:
        while waiting or in_flight:
            while waiting and len(in_flight) < MAX_IN_FLIGHT:
                batch = waiting.popleft()
                batch.previous = in_flight[-1][0] if in_flight else None
                in_flight.append((batch, asyncio.ensure_future(batch.run())))
            batch, running = in_flight[0]
            completed = await asyncio.shield(running)
            in_flight.popleft()
            remaining.difference_update(step.order_id for step in batch.steps)
            lost_in_a_row = lost_in_a_row + 1 if batch.lost is not None else 0
            if batch.lost is not None and lost_in_a_row >= MAX_LOST:
                # The hint of an unconfirmed transition concerns that transition only.
                hint = None if isinstance(batch.lost, Unconfirmed) else batch.lost.hint
                reason = f"not attempted: {batch.lost.message}"
                given_up = [
                    outcome_of(step, OutcomeKind.FAILED, reason, hint=hint) for other in waiting for step in other.steps
                ]
                waiting.clear()
                completed += given_up
                context.advance(len(given_up))
            outcomes += completed
            if report is not None:
                report(completed)
    except asyncio.CancelledError:
        for _, running in in_flight:
            # Through further cancellations: a second signal must not leave a batch half-done.
            while not running.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([running])
            outcomes += running.result()
        kind, reason = OutcomeKind.SKIPPED, "interrupted before its turn"
        outcomes += [outcome_of(step, kind, reason) for batch in waiting for step in batch.steps]
        return _result(plan, outcomes, interrupted=True, operation=actor.operation)
    finally:
        # Batches are left only after an unexpected exception.
        for _, running in in_flight:
            running.cancel()
        await asyncio.gather(*(running for _, running in in_flight), return_exceptions=True)
    return _result(plan, outcomes, operation=actor.operation)


def acting(actor: Actor, now: datetime) -> Actor:
    """The same actor with the id of an operation that begins now, unless it has one."""
    return actor if actor.operation is not None else replace(actor, operation=new_operation_id(now))


async def execute_batches(
    sources: Sources,
    first: PlanBatch,
    others: AsyncIterator[PlanBatch],
    *,
    limit: int | None = None,
    keep_done: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> OperationResult:
    """Execute a plan as it is made: while one batch is executed, the next one is planned.

    The memory needed doesn't depend on the number of orders: only ``keep_done`` outcomes of completed orders are kept
    (None: all), the others are counted. ``limit`` is the number of steps of all batches. ``progress`` gets the number
    of orders planned and executed. When a source is lost on the way, the orders not planned yet have failed.
    """
    results: list[OperationResult] = []
    actor = acting(sources.actor, datetime.now(UTC))
    batch, count = first, 0
    while True:
        planning = asyncio.ensure_future(anext(others, None))
        advance = None if progress is None else lambda completed, start=count: progress(start + completed)
        plan = batch.plan
        if limit is not None:
            plan = plan.limited(limit)
            limit -= len(plan.steps)
        following = None
        is_interrupted = True
        kind, reason, hint = OutcomeKind.SKIPPED, "interrupted before it was planned", None
        try:
            result = await execute_plan(sources, plan, actor=actor, cache=batch.cache, progress=advance)
            outcomes: list[Outcome] = []
            room = None if keep_done is None else keep_done - sum(len(earlier.outcomes) for earlier in results)
            for outcome in result.outcomes:
                if room is None or outcome.outcome is not OutcomeKind.DONE or len(outcomes) < room:
                    outcomes.append(outcome)
            results.append(replace(result, outcomes=outcomes, omitted=len(result.outcomes) - len(outcomes)))
            count += len(batch.order_ids)
            if progress is not None:
                progress(count)
            if not result.interrupted:
                following = await planning
                is_interrupted = False
        except asyncio.CancelledError:
            pass  # as one that the plan itself reports
        except SourceError as exc:
            is_interrupted = False
            kind, reason, hint = OutcomeKind.FAILED, f"not planned: {exc.message}", exc.hint
        finally:
            planning.cancel()
            await asyncio.gather(planning, return_exceptions=True)
        if following is None:
            unplanned = [left_alone(kind, each, reason, hint=hint) for each in batch.remaining]
            return _joined(results, unplanned, interrupted=is_interrupted)
        batch = following


async def predict_batches(
    sources: Sources, batches: AsyncIterator[PlanBatch], *, limit: int | None = None
) -> OperationResult:
    """The result that executing these batches would have now."""
    results = []
    async for batch in batches:
        plan = batch.plan.limited(limit)
        limit = None if limit is None else limit - len(plan.steps)
        results.append(await predict(sources, plan))
    return _joined(results)


def _joined(
    results: Sequence[OperationResult], unplanned: Sequence[Outcome] = (), *, interrupted: bool = False
) -> OperationResult:
    return replace(
        results[-1],
        outcomes=[*(outcome for result in results for outcome in result.outcomes), *unplanned],
        interrupted=interrupted,
        operation=next((result.operation for result in results if result.operation is not None), None),
        beyond=sum(result.beyond for result in results),
        notes=tuple(dict.fromkeys(note for result in results for note in result.notes)),
        omitted=sum(result.omitted for result in results),
    )


def _result(
    plan: Plan,
    outcomes: Sequence[Outcome],
    *,
    dry_run: bool = False,
    interrupted: bool = False,
    operation: str | None = None,
) -> OperationResult:
    position = {order_id: index for index, order_id in enumerate(plan.order_ids)}
    return OperationResult(
        command=plan.command,
        dry_run=dry_run,
        outcomes=sorted([*outcomes, *plan.left_alone], key=lambda outcome: position[outcome.order_id]),
        interrupted=interrupted,
        operation=operation if plan.steps else None,
        beyond=plan.beyond,
        notes=plan.notes,
        named=plan.named,
    )
