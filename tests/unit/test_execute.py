"""Executing a plan: what a cancellation leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sitegenctl.domain.plans.plan import Outcome, OutcomeKind, Plan, Step
from sitegenctl.domain.ports import Actor, Sources
from sitegenctl.operations import execute
from sitegenctl.operations.planner import PlanBatch


class SlowBatch:
    """A batch that ends when ``may_end`` is set; a batch that is cancelled ends half-done."""

    started: asyncio.Event
    may_end: asyncio.Event

    def __init__(self, *, context: Any, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.lost = self.previous = None

    async def run(self) -> list[Outcome]:
        self.started.set()
        await self.may_end.wait()
        return [Outcome(order_id=step.order_id, outcome=OutcomeKind.DONE, reason="enqueued") for step in self.steps]


async def no_batches() -> AsyncIterator[PlanBatch]:
    for batch in ():
        yield batch


@pytest.mark.parametrize("cancellations", [1, 2, 3], ids=["Ctrl-C", "Ctrl-C and SIGTERM", "three signals"])
async def test_further_signals_leave_no_batch_half_done(cancellations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    SlowBatch.started, SlowBatch.may_end = asyncio.Event(), asyncio.Event()
    monkeypatch.setattr(execute, "Batch", SlowBatch)
    step = cast("Step", SimpleNamespace(order_id=42))
    plan = Plan(command="enqueue", order_ids=[42], steps=[step], left_alone=[])
    sources = cast("Sources", SimpleNamespace(actor=Actor(user="ana", host="crm", command="enqueue"), queue=None))
    batch = PlanBatch(plan, [42], (), cast("Any", object()))
    running = asyncio.ensure_future(execute.execute_batches(sources, batch, no_batches()))
    await SlowBatch.started.wait()
    for _ in range(cancellations):
        running.cancel()
        await asyncio.sleep(0)  # one turn of the loop, in which the cancellation is delivered
        await asyncio.sleep(0)
    SlowBatch.may_end.set()
    result = await running
    assert [(each.order_id, each.outcome) for each in result.outcomes] == [(42, OutcomeKind.DONE)]
    assert result.interrupted
