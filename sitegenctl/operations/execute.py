"""Execute a plan so that no order is lost and none is generated twice, whatever dies half-way.

Batch by batch, several of them in flight; ``batch`` has what is done to each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sitegenctl.domain.plans.plan import OperationResult, Outcome, OutcomeKind, Plan, left_alone, skip
from sitegenctl.domain.ports import Actor, Sources
from sitegenctl.errors import SourceError, Unconfirmed
from sitegenctl.operations.batch import Batch, ExecutionContext, done, failed, skipped
from sitegenctl.operations.observe import QueueCache
from sitegenctl.operations.planners import PlanBatch

#: Orders whose transitions are applied together, and whose tasks are published together.
BATCH_SIZE = 500

#: Batches in flight: PostgreSQL, Redis, the disk and this process work side by side.
MAX_IN_FLIGHT = 3

#: Batches in a row that may lose a source before the others are given up: each may wait for its whole timeout.
MAX_LOST = 2


def preview(plan: Plan) -> OperationResult:
    """The result that executing the plan would have; new tasks have no id yet."""
    return _result(plan, [done(step, f"would be {step.description}") for step in plan.steps], dry_run=True)


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
    context = ExecutionContext(
        sources=sources,
        actor=actor or sources.actor,
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
                given_up = _not_attempted(waiting, batch.lost)
                waiting.clear()
                completed += given_up
                context.advance(len(given_up))
            outcomes += completed
            if report is not None:
                report(completed)
    except asyncio.CancelledError:
        for _, running in in_flight:
            outcomes += await _completed(running)
        outcomes += [skipped(step, "interrupted before its turn") for batch in waiting for step in batch.steps]
        return _result(plan, outcomes, interrupted=True)
    finally:
        # Batches are left only after an unexpected exception.
        for _, running in in_flight:
            running.cancel()
        await asyncio.gather(*(running for _, running in in_flight), return_exceptions=True)
    return _result(plan, outcomes)


async def _completed(running: asyncio.Future[list[Outcome]]) -> list[Outcome]:
    """Wait for a batch through further cancellations: a second signal must not leave it half-done."""
    while not running.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([running])
    return running.result()


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
    results = _Results(limit=limit, keep_done=keep_done)
    batch = first
    while True:
        planning = asyncio.ensure_future(anext(others, None))
        start = results.count
        advance = None if progress is None else lambda completed, start=start: progress(start + completed)
        try:
            plan = results.limited(batch.plan)
            results.add(batch, await execute_plan(sources, plan, cache=batch.cache, progress=advance))
            if progress is not None:
                progress(results.count)
            if results.interrupted:
                break
            following = await planning
        except asyncio.CancelledError:
            results.interrupted = True
            break
        except SourceError as exc:
            reason = f"not planned: {exc.message}"
            kind = OutcomeKind.FAILED
            return results.joined([left_alone(kind, each, reason, hint=exc.hint) for each in batch.remaining])
        finally:
            planning.cancel()
            await asyncio.gather(planning, return_exceptions=True)
        if following is None:
            return results.joined()
        batch = following
    return results.joined([skip(order_id, "interrupted before it was planned") for order_id in batch.remaining])


async def preview_batches(batches: AsyncIterator[PlanBatch], *, limit: int | None = None) -> OperationResult:
    """The result that executing these batches would have."""
    results = _Results(limit=limit)
    async for batch in batches:
        results.add(batch, preview(results.limited(batch.plan)))
    return results.joined()


@dataclass(kw_only=True)
class _Results:
    """The results of a plan's batches, joined; ``count`` is the number of orders in them."""

    limit: int | None = None
    keep_done: int | None = None
    count: int = 0
    steps: int = 0
    interrupted: bool = False
    results: list[OperationResult] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def limited(self, plan: Plan) -> Plan:
        """The part of the next plan that is within the limit."""
        plan = plan if self.limit is None else plan.limited(self.limit - self.steps)
        self.steps += len(plan.steps)
        return plan

    def add(self, batch: PlanBatch, result: OperationResult) -> None:
        omitted = 0
        for outcome in result.outcomes:
            is_done = outcome.outcome is OutcomeKind.DONE
            if is_done and self.keep_done is not None and len(self.outcomes) >= self.keep_done:
                omitted += 1
            else:
                self.outcomes.append(outcome)
        self.results.append(replace(result, outcomes=(), omitted=omitted))
        self.count += len(batch.order_ids)
        self.interrupted = self.interrupted or result.interrupted

    def joined(self, unplanned: Sequence[Outcome] = ()) -> OperationResult:
        """One result; ``unplanned`` are the outcomes of orders that no batch has."""
        return replace(
            self.results[-1],
            outcomes=[*self.outcomes, *unplanned],
            interrupted=self.interrupted,
            beyond=sum(result.beyond for result in self.results),
            notes=tuple(dict.fromkeys(note for result in self.results for note in result.notes)),
            omitted=sum(result.omitted for result in self.results),
        )


def _not_attempted(batches: Iterable[Batch], lost: SourceError) -> list[Outcome]:
    # The hint of an unconfirmed transition concerns that transition only.
    hint = None if isinstance(lost, Unconfirmed) else lost.hint
    reason = f"not attempted: {lost.message}"
    return [failed(step, reason, hint=hint) for batch in batches for step in batch.steps]


def _result(
    plan: Plan, outcomes: Sequence[Outcome], *, dry_run: bool = False, interrupted: bool = False
) -> OperationResult:
    position = {order_id: index for index, order_id in enumerate(plan.order_ids)}
    return OperationResult(
        command=plan.command,
        dry_run=dry_run,
        outcomes=sorted([*outcomes, *plan.left_alone], key=lambda outcome: position[outcome.order_id]),
        interrupted=interrupted,
        beyond=plan.beyond,
        notes=plan.notes,
        named=plan.named,
    )
