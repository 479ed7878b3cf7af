"""What an operator can do to orders from the live view: the same operations as the commands', by their keys.

Each makes the operation's own plan for the orders meant, which is shown before anything is done. The operations are
imported when they are first wanted: the screen is there sooner.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sitegenctl.domain.plans.plan import Plan
    from sitegenctl.session import Session


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What can be chosen of an action: to stop tasks that run, and to leave back-off and grace aside."""

    terminate: bool = False
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class Action:
    """``verb`` is what the operator wants, ``done`` the word for what is then done.

    ``destroys`` is whether it always takes something away; a plan that resets orders does so in any case. ``choices``
    are the fields of ``Choices`` that it knows.
    """

    name: str
    verb: str
    done: str
    plan: Callable[[Session, Sequence[int], Choices], Awaitable[Plan]]
    destroys: bool = False
    choices: tuple[str, ...] = ()


async def _enqueue(session: Session, orders: Sequence[int], choices: Choices) -> Plan:
    from sitegenctl.operations import enqueue

    return await enqueue.plan(session.orders, session.queue, orders, force=choices.force, grace=session.settings.grace)


async def _start(session: Session, orders: Sequence[int], _: Choices) -> Plan:
    from sitegenctl.operations import enqueue

    return (await enqueue.start_stuck(session.orders, session.queue, grace=session.settings.grace)).only(orders)


async def _retry(session: Session, orders: Sequence[int], choices: Choices) -> Plan:
    from sitegenctl.operations import enqueue

    planned = await enqueue.retry_failed(
        session.orders, session.queue, force=choices.force, grace=session.settings.grace
    )
    return planned.only(orders)


async def _repair(session: Session, orders: Sequence[int], choices: Choices) -> Plan:
    from sitegenctl.domain.plans.repair import RepairOptions
    from sitegenctl.operations import repair

    options = RepairOptions(terminate=choices.terminate)
    return await repair.plan(
        session.orders, session.queue, session.sites, options, named=orders, grace=session.settings.grace
    )


async def _fix(session: Session, orders: Sequence[int], _: Choices) -> Plan:
    from sitegenctl.operations import repair

    return await repair.fix(session.orders, session.queue, session.sites, orders, grace=session.settings.grace)


async def _reset(session: Session, orders: Sequence[int], choices: Choices) -> Plan:
    from sitegenctl.operations import reset

    return await reset.plan(
        session.orders,
        session.queue,
        session.sites,
        orders,
        terminate=choices.terminate,
        force=choices.force,
        grace=session.settings.grace,
    )


async def _cancel(session: Session, orders: Sequence[int], choices: Choices) -> Plan:
    from sitegenctl.operations import cancel

    return await cancel.plan(
        session.orders, session.queue, orders, terminate=choices.terminate, grace=session.settings.grace
    )


ACTIONS: Mapping[str, Action] = {
    action.name: action
    for action in (
        Action(name="fix", verb="fix", done="fixed", plan=_fix),
        Action(name="enqueue", verb="enqueue", done="enqueued", plan=_enqueue, choices=("force",)),
        Action(name="start", verb="start", done="started", plan=_start),
        Action(name="retry", verb="retry", done="retried", plan=_retry, choices=("force",)),
        Action(name="repair", verb="repair", done="repaired", plan=_repair, choices=("terminate",)),
        Action(name="reset", verb="reset", done="reset", plan=_reset, destroys=True, choices=("terminate", "force")),
        Action(name="cancel", verb="cancel", done="cancelled", plan=_cancel, destroys=True, choices=("terminate",)),
    )
}
