"""The tour: order 42 on the embedded stack, from BUILDING to a site on disk, with its log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sitegenctl.config.settings import Settings
from sitegenctl.demo.samples.plan import TOUR_ORDER, Manifest
from sitegenctl.demo.samples.seed import MANIFEST, restore_order, seed as seed_samples
from sitegenctl.demo.stack import Stack, StackState
from sitegenctl.domain.orders.order import LogRow, OrderStatus
from sitegenctl.domain.plans.plan import Outcome, OutcomeKind
from sitegenctl.errors import SitegenError, SourceError
from sitegenctl.operations.enqueue_planner import EnqueuePlanner
from sitegenctl.operations.execute import execute_plan
from sitegenctl.operations.follow import Ended, follow, follow_result, followed
from sitegenctl.operations.planner import Selection
from sitegenctl.session import Session, open_session


@dataclass(frozen=True, kw_only=True)
class TourResult:
    """The folder of the generated site, its number of files, and orders to enqueue next."""

    folder: Path
    files: int
    unstarted: Sequence[int]


def seed(state: StackState, *, orders: int, seed_number: int) -> Manifest:
    """Write the sample orders and their manifest into a new stack."""
    return asyncio.run(
        seed_samples(
            database_url=state.postgres.url,
            redis_url=state.redis.url,
            sites_dir=state.sites,
            backend=state.backend,
            orders=orders,
            seed=seed_number,
        )
    )


def samples_of(stack: Stack) -> tuple[int, int, str] | None:
    """Return the number of orders, the seed and the backend of a stack; None if it is not seeded."""
    state = stack.status()
    if state is None or not state.seeded:
        return None
    manifest = _manifest(stack)
    return manifest.orders, manifest.seed, state.backend


def worker_responds(settings: Settings) -> bool:
    """Whether a worker of the stack responds to remote control."""

    async def ask() -> bool:
        async with open_session(settings, "demo") as session:
            return bool((await session.queue.survey()).workers)

    try:
        return asyncio.run(ask())
    except SourceError:
        return False


async def tour(stack: Stack, settings: Settings, show: Callable[[Outcome | LogRow], None]) -> TourResult:
    """Generate the order of the tour; ``show`` gets the outcome of the enqueue, then each new row of the log.

    Raises ``SitegenError`` unless it ends in REVIEW with its site on disk.
    """
    async with open_session(settings, "demo tour") as session:
        await _restore(stack, session)
        plan = await EnqueuePlanner().plan_all(session, Selection(order_ids=[TOUR_ORDER]))
        result = await execute_plan(session, plan)
        (outcome,) = result.outcomes
        if outcome.outcome is not OutcomeKind.DONE:
            raise SitegenError(f"order {TOUR_ORDER} was not enqueued: {outcome.reason}", hint=outcome.hint)
        show(outcome)
        endings: dict[int, Ended] = {}
        async for event in follow(session, followed(result)):
            if isinstance(event, Ended):
                endings[event.order_id] = event
            elif isinstance(event, LogRow):
                show(event)
            else:
                raise SitegenError(event.message, hint=f"see {stack.root / 'worker.log'}")
        (outcome,) = follow_result(result, endings).outcomes
        if outcome.outcome is not OutcomeKind.DONE:
            raise SitegenError(f"order {TOUR_ORDER} was not generated: {outcome.reason}")
        return await _result(stack, session)


async def _restore(stack: Stack, session: Session) -> None:
    """Restore the order of the tour if an earlier tour generated it."""
    order = (await session.orders.read_orders([TOUR_ORDER])).get(TOUR_ORDER)
    if order is not None and order.status is OrderStatus.BUILDING:
        return
    await restore_order(
        database_url=session.settings.require_url("database"),
        redis_url=session.settings.require_url("redis"),
        sites_dir=session.settings.require_sites_dir(),
        manifest=_manifest(stack),
        backend=session.settings.backend,
    )


def _manifest(stack: Stack) -> Manifest:
    return Manifest.from_json((stack.root / MANIFEST).read_text(encoding="utf-8"))


async def _result(stack: Stack, session: Session) -> TourResult:
    """Check that the order is in REVIEW and its site on disk."""
    order = (await session.orders.read_orders([TOUR_ORDER])).get(TOUR_ORDER)
    files = (await session.sites.count([TOUR_ORDER])).get(TOUR_ORDER)
    if order is None or order.status is not OrderStatus.REVIEW or files is None or files.is_empty:
        status = order.status if order else "missing"
        raise SitegenError(f"order {TOUR_ORDER} is {status} with {files.count if files else 'no'} files after its run")
    return TourResult(
        folder=stack.root / "sites" / f"project_{TOUR_ORDER}",
        files=files.count,
        unstarted=[order_id for order_id in _manifest(stack).conditions["unstarted"] if order_id != TOUR_ORDER],
    )
