"""Carrying out a plan so that no order is lost and none is generated twice, whatever dies half-way.

Batch by chunk, a few of them at once; ``chunk`` has what is done to each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from sitegenctl.domain.diagnosis.remedy import Hint
from sitegenctl.domain.plans.plan import Plan, Step, skip
from sitegenctl.domain.plans.result import OperationResult, Outcome, OutcomeKind
from sitegenctl.domain.ports import Actor, OrdersStore, QueueBackend, SiteStore
from sitegenctl.errors import SourceError, Unconfirmed
from sitegenctl.operations.batch import Batch, ExecutionContext
from sitegenctl.operations.bulk_plan import PlanBatch
from sitegenctl.operations.observe import utc_now
from sitegenctl.operations.outcomes import outcome, would_be
from sitegenctl.operations.queue_cache import QueueCache

#: Orders claimed and published together.
CHUNK = 500

#: Chunks that are on their way at once: PostgreSQL, Redis, the disk and we work side by side.
IN_HAND = 3

#: So many chunks in a row may find a source away before the others are given up: each may wait for all of its timeout.
PATIENCE = 2


def preview(plan: Plan) -> OperationResult:
    """What applying the plan would do, as the same type that applying it returns."""
    would = [would_be(step) for step in plan.steps]
    return _result(plan, would, dry_run=True)


async def apply(
    orders: OrdersStore,
    queue: QueueBackend,
    sites: SiteStore | None,
    plan: Plan,
    actor: Actor,
    *,
    now: Callable[[], datetime] = utc_now,
    progress: Callable[[int], None] | None = None,
    report: Callable[[Sequence[Outcome]], None] | None = None,
    belief: QueueCache | None = None,
) -> OperationResult:
    """Carry the plan out, chunk by chunk; ``progress`` is told how many orders are through, ``report`` their outcomes.

    Those of a chunk get through together, but for those that turn out not to be taken. A cancellation (Ctrl-C) lets
    what was begun finish, so that nothing is left half-done; the rest is reported as not done. So is what comes behind
    ``PATIENCE`` chunks in a row that found a source away. ``sites`` may be None where no step moves files.
    ``belief`` is for who has looked at the queue just now; else it is looked at anew.
    """
    to_do = {step.order_id for step in plan.steps}
    belief = belief or QueueCache(queue=queue, order_ids=to_do)
    hands = ExecutionContext(orders=orders, queue=queue, sites=sites, actor=actor, now=now, belief=belief)
    done: list[Outcome] = []

    def tell(of_the_chunk: int = 0) -> None:
        if progress is not None:
            progress(len(done) + of_the_chunk)

    waiting = deque(Batch(hands=hands, steps=steps, tell=tell) for steps in _chunks(plan.steps))
    in_hand: deque[tuple[Batch, asyncio.Future[list[Outcome]]]] = deque()
    in_vain = 0
    try:
        while waiting or in_hand:
            while waiting and len(in_hand) < IN_HAND:
                chunk = waiting.popleft()
                chunk.previous = in_hand[-1][0] if in_hand else None
                in_hand.append((chunk, asyncio.ensure_future(chunk.apply())))
            chunk, work = in_hand[0]
            outcomes = await asyncio.shield(work)
            in_hand.popleft()
            to_do.difference_update(step.order_id for step in chunk.steps)
            in_vain = in_vain + 1 if chunk.lost is not None else 0
            if chunk.lost is not None and in_vain >= PATIENCE:
                outcomes += [_untried(step, chunk.lost) for given_up in waiting for step in given_up.steps]
                waiting.clear()
            done += outcomes
            tell()
            if report is not None:
                report(outcomes)
    except asyncio.CancelledError:
        for _, work in in_hand:
            done += await work
        rest = [step for chunk in waiting for step in chunk.steps]
        done += [outcome(step, OutcomeKind.SKIPPED, "interrupted before its turn") for step in rest]
        return _result(plan, done, interrupted=True)
    finally:
        # Only where something went wrong that nobody thought of is there anything left: nobody would wait for it.
        for _, work in in_hand:
            work.cancel()
        await asyncio.gather(*(work for _, work in in_hand), return_exceptions=True)
    return _result(plan, done)


async def apply_parts(
    orders: OrdersStore,
    queue: QueueBackend,
    sites: SiteStore | None,
    part: PlanBatch,
    others: AsyncIterator[PlanBatch],
    actor: Actor,
    *,
    limit: int | None = None,
    keep: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> OperationResult:
    """Carry a plan out as its parts are made: while one is applied, the next one of the ``others`` is planned.

    So the memory it takes doesn't depend on how many orders there are: of those that go well only ``keep`` outcomes
    are kept (None: all), the others are counted. ``limit`` is for the steps of all parts together, and ``progress`` is
    told how many orders have been looked at. When a source goes away on the way, the orders that were not looked at
    any more have failed.
    """
    folding = _Folding(keep=keep, limit=limit)
    while True:
        following = asyncio.ensure_future(anext(others, None))
        through = folding.through
        advance = None if progress is None else lambda done, through=through: progress(through + done)
        try:
            plan = folding.within(part.plan)
            result = await apply(orders, queue, sites, plan, actor, progress=advance, belief=part.belief)
            folding.add(part, result)
            if progress is not None:
                progress(folding.through)
            if folding.interrupted:
                break
            next_part = await following
        except asyncio.CancelledError:
            folding.interrupted = True
            break
        except SourceError as exc:
            return folding.result(part.rest, exc)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        if next_part is None:
            return folding.result()
        part = next_part
    return folding.result(part.rest)


async def preview_parts(parts: AsyncIterator[PlanBatch], *, limit: int | None = None) -> OperationResult:
    """What applying these parts would do."""
    folding = _Folding(keep=None, limit=limit)
    async for part in parts:
        folding.add(part, preview(folding.within(part.plan)))
    return folding.result()


@dataclass(kw_only=True)
class _Folding:
    """What the results of a plan's parts come to."""

    keep: int | None
    limit: int | None
    command: str = ""
    dry_run: bool = False
    named: bool = True
    outcomes: list[Outcome] = field(default_factory=list)
    went_well: int = 0
    steps: int = 0
    beyond: int = 0
    notes: dict[Hint, None] = field(default_factory=dict)
    through: int = 0
    interrupted: bool = False

    def within(self, plan: Plan) -> Plan:
        """As much of the next part as the limit leaves."""
        plan = plan if self.limit is None else plan.limited(self.limit - self.steps)
        self.steps += len(plan.steps)
        return plan

    def add(self, part: PlanBatch, result: OperationResult) -> None:
        self.command, self.dry_run, self.named = result.command, result.dry_run, result.named
        for each in result.outcomes:
            if each.outcome is OutcomeKind.DONE and self.keep is not None and len(self.outcomes) >= self.keep:
                self.went_well += 1
            else:
                self.outcomes.append(each)
        self.beyond += result.beyond
        self.notes |= dict.fromkeys(result.notes)
        self.through += len(part.order_ids)
        self.interrupted = self.interrupted or result.interrupted

    def result(self, rest: Sequence[int] = (), lost: SourceError | None = None) -> OperationResult:
        """All of it; ``rest`` are orders that were not looked at, because a source was ``lost`` or of a Ctrl-C."""
        if lost is None:
            unseen = [skip(order_id, "interrupted before it was looked at") for order_id in rest]
        else:
            unseen = [
                Outcome(
                    order_id=order_id,
                    outcome=OutcomeKind.FAILED,
                    reason=f"it was not looked at: {lost.message}",
                    hint=lost.hint,
                )
                for order_id in rest
            ]
        return OperationResult(
            command=self.command,
            dry_run=self.dry_run,
            outcomes=[*self.outcomes, *unseen],
            interrupted=self.interrupted,
            beyond=self.beyond,
            notes=tuple(self.notes),
            went_well=self.went_well,
            named=self.named,
        )


def _untried(step: Step, lost: SourceError) -> Outcome:
    # What an unconfirmed claim would have to be asked about is of that claim alone.
    hint = None if isinstance(lost, Unconfirmed) else lost.hint
    return outcome(step, OutcomeKind.FAILED, f"it was not tried: {lost.message}", hint=hint)


def _result(
    plan: Plan, done: Sequence[Outcome], *, dry_run: bool = False, interrupted: bool = False
) -> OperationResult:
    place = {order_id: index for index, order_id in enumerate(plan.order_ids)}
    outcomes = sorted([*done, *plan.left_alone], key=lambda outcome: place[outcome.order_id])
    return OperationResult(
        command=plan.command,
        dry_run=dry_run,
        outcomes=outcomes,
        interrupted=interrupted,
        beyond=plan.beyond,
        notes=plan.notes,
        named=plan.named,
    )


def _chunks(steps: Sequence[Step]) -> Iterator[list[Step]]:
    remaining = iter(steps)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk
