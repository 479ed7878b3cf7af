"""Bulk operations: orders are planned and executed in batches, and only relevant outcomes are kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.plans.plan import OperationResult, Step
from sitegenctl.domain.ports import Actor, TransitionResult
from sitegenctl.errors import SourceError
from sitegenctl.operations import execute as applying, observe as belief, planner as planning
from sitegenctl.operations.enqueue_planner import EnqueuePlanner
from sitegenctl.operations.execute import execute_batches, predict_batches
from sitegenctl.operations.planner import Selection
from sitegenctl.session import Session
from tests.support.world import World


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "BATCH_SIZE", 3)


def applied(
    world: World,
    *,
    meddle: Callable[[Session, Sequence[int]], Awaitable[None]] | None = None,
    counts: list[int] | None = None,
    **named: Any,
) -> OperationResult:
    """Enqueue orders 1 to 8, calling ``meddle`` before each batch is read."""

    async def work(session: Session) -> OperationResult:
        read_orders = session.orders.read_orders

        async def meddled(order_ids: Sequence[int]) -> Any:
            if meddle is not None:
                await meddle(session, order_ids)
            return await read_orders(order_ids)

        session.orders.read_orders = meddled  # type: ignore[method-assign]
        async with aclosing(EnqueuePlanner().batches(session, Selection(order_ids=range(1, 9)))) as parts:
            return await execute_batches(
                session,
                await anext(parts),
                parts,
                progress=counts.append if counts is not None else None,
                **named,
            )

    return world.with_session(work)


def test_every_batch_is_executed_and_outcomes_are_counted(world: World) -> None:
    for order_id in range(1, 9):
        world.order(order_id, "DELIVERED" if order_id == 5 else "BUILDING")
    counts: list[int] = []
    result = applied(world, keep_done=2, counts=counts)
    assert [(each.order_id, each.outcome) for each in result.outcomes] == [(1, "done"), (2, "done"), (5, "refused")]
    assert (result.omitted, result.exit_code) == (5, 4)
    assert [world.status(n) for n in range(1, 9)] == ["GENERATING"] * 4 + ["DELIVERED"] + ["GENERATING"] * 3
    assert len(world.queued()) == 7
    assert (counts[-1], counts) == (8, sorted(counts))


def test_limit_applies_to_all_batches_together(world: World) -> None:
    for order_id in range(1, 9):
        world.order(order_id)
    result = applied(world, limit=4)
    assert [each.order_id for each in result.outcomes] == [1, 2, 3, 4]
    assert (result.beyond, len(world.queued())) == (4, 4)


def test_orders_unplanned_after_a_lost_source_fail(world: World) -> None:
    for order_id in range(1, 9):
        world.order(order_id)

    async def lost(_: Session, order_ids: Sequence[int]) -> None:
        if 4 in order_ids:
            raise SourceError("the database can't be reached: gone", hint="is it up?", source="database")

    result = applied(world, meddle=lost)
    assert [each.outcome for each in result.outcomes] == ["done"] * 3 + ["failed"] * 5
    assert result.outcomes[3].reason == "not planned: the database can't be reached: gone"
    assert (result.exit_code, len(world.queued())) == (1, 3)


def test_task_published_after_the_reading_gets_no_second(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_SMALL_PLAN", 2)
    monkeypatch.setattr(belief, "_MIN_AGE", 60.0)
    for order_id in range(1, 9):
        world.order(order_id)

    def backend_resets() -> None:
        world.sql("UPDATE site_orders SET updated_at = timezone('utc', now()) WHERE id = 5")
        world.publish(5)

    async def meddle(_: Session, order_ids: Sequence[int]) -> None:
        if 5 in order_ids:
            await asyncio.to_thread(backend_resets)

    result = applied(world, meddle=meddle)
    assert [each.order_id for each in result.outcomes if each.outcome == "skipped"] == [5]
    orders = sorted(json.loads(message["headers"]["argsrepr"])[0] for message in world.queued())
    assert orders == list(range(1, 9))


def test_ctrl_c_between_batches_reports_unplanned_orders(world: World) -> None:
    for order_id in range(1, 9):
        world.order(order_id)

    async def in_the_loop(session: Session) -> OperationResult:
        running = asyncio.current_task()
        assert running is not None
        read_orders = session.orders.read_orders

        async def interrupting(order_ids: Sequence[int]) -> Any:
            if 4 in order_ids:
                running.cancel()
                await asyncio.sleep(60)
            return await read_orders(order_ids)

        session.orders.read_orders = interrupting  # type: ignore[method-assign]
        async with aclosing(EnqueuePlanner().batches(session, Selection(order_ids=range(1, 9)))) as parts:
            first = await anext(parts)
            result = await execute_batches(session, first, parts)
        running.uncancel()
        return result

    result = world.with_session(in_the_loop)
    assert (result.interrupted, result.exit_code) == (True, 130)
    assert [each.outcome for each in result.outcomes] == ["done"] * 3 + ["skipped"] * 5
    assert {each.reason for each in result.outcomes[3:]} == {"interrupted before it was planned"}
    assert len(world.queued()) == 3


def test_preview_covers_every_batch(world: World) -> None:
    for order_id in range(1, 9):
        world.order(order_id)

    async def work(session: Session) -> OperationResult:
        async with aclosing(EnqueuePlanner().batches(session, Selection(order_ids=range(1, 9)))) as parts:
            return await predict_batches(session, parts, limit=5)

    result = world.with_session(work)
    assert [each.reason for each in result.outcomes] == ["would be enqueued"] * 5
    assert (result.beyond, result.dry_run, world.queued()) == (3, True, [])


@pytest.mark.parametrize(("away", "done"), [(1, [3, 4, 5, 6, 7, 8]), (99, [])], ids=["for a moment", "for good"])
def test_unreachable_source_is_not_awaited_by_every_batch(
    world: World, monkeypatch: pytest.MonkeyPatch, away: int, done: list[int]
) -> None:
    monkeypatch.setattr(applying, "BATCH_SIZE", 2)
    monkeypatch.setattr(applying, "MAX_IN_FLIGHT", 1)
    for order_id in range(1, 9):
        world.order(order_id)
    asked = []

    async def work(session: Session) -> OperationResult:
        plan = await EnqueuePlanner().plan_all(session, Selection(order_ids=range(1, 9)))
        apply = session.orders.apply

        async def gone(steps: Sequence[Step], actor: Actor) -> TransitionResult:
            asked.append([step.order_id for step in steps])
            if len(asked) <= away:
                raise SourceError("the database did not respond in time", source=Source.DATABASE)
            return await apply(steps, actor)

        session.orders.apply = gone  # type: ignore[method-assign]
        return await applying.execute_plan(session, plan)

    result = world.with_session(work)
    assert asked == [[1, 2], [3, 4], *([[5, 6], [7, 8]] if done else [])]
    assert [each.order_id for each in result.outcomes if each.outcome == "done"] == done
    reasons = {each.order_id: each.reason for each in result.outcomes if each.outcome == "failed"}
    away_is = "the database did not respond in time"
    untried = {} if done else dict.fromkeys((5, 6, 7, 8), f"not attempted: {away_is}")
    assert reasons == {order_id: away_is for order_id in range(1, 9) if order_id not in {*done, *untried}} | untried
