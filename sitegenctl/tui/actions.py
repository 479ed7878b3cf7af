"""What an operator can do to orders from the live view: the same operations as the commands', by their keys.

Each makes the operation's own plan for the orders meant, which is shown before anything is done. The operations are
imported when they are first wanted: the screen is there sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sitegenctl.operations.bulk_plan import Planner


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What can be chosen of an action: to stop tasks that run, and to leave back-off and grace aside."""

    terminate: bool = False
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class Action:
    """``verb`` is what the operator wants, ``done`` the word for what is then done.

    ``destroys`` is whether it always takes something away; a plan that resets orders does so in any case. ``choices``
    are the fields of ``Choices`` that it knows. ``names_orders`` is whether each order gets an outcome, even if the
    action does not apply to it.
    """

    name: str
    verb: str
    done: str
    planner: Callable[[Choices], Planner]
    names_orders: bool = True
    destroys: bool = False
    choices: tuple[str, ...] = ()


def _fix(_: Choices) -> Planner:
    from sitegenctl.operations.repair import FixPlanner

    return FixPlanner()


def _enqueue(choices: Choices) -> Planner:
    from sitegenctl.operations.enqueue import EnqueuePlanner

    return EnqueuePlanner(force=choices.force)


def _start(_: Choices) -> Planner:
    from sitegenctl.operations.enqueue import StartPlanner

    return StartPlanner()


def _retry(choices: Choices) -> Planner:
    from sitegenctl.operations.enqueue import RetryPlanner

    return RetryPlanner(force=choices.force)


def _repair(choices: Choices) -> Planner:
    from sitegenctl.domain.plans.repair import RepairOptions
    from sitegenctl.operations.repair import RepairPlanner

    return RepairPlanner(options=RepairOptions(terminate=choices.terminate))


def _reset(choices: Choices) -> Planner:
    from sitegenctl.domain.plans.reset import ResetOptions
    from sitegenctl.operations.reset import ResetPlanner

    return ResetPlanner(options=ResetOptions(terminate=choices.terminate, force=choices.force))


def _cancel(choices: Choices) -> Planner:
    from sitegenctl.operations.cancel import CancelPlanner

    return CancelPlanner(terminate=choices.terminate)


ACTIONS: Mapping[str, Action] = {
    action.name: action
    for action in (
        Action(name="fix", verb="fix", done="fixed", planner=_fix),
        Action(name="enqueue", verb="enqueue", done="enqueued", planner=_enqueue, choices=("force",)),
        Action(name="start", verb="start", done="started", planner=_start, names_orders=False),
        Action(name="retry", verb="retry", done="retried", planner=_retry, names_orders=False, choices=("force",)),
        Action(name="repair", verb="repair", done="repaired", planner=_repair, choices=("terminate",)),
        Action(name="reset", verb="reset", done="reset", planner=_reset, destroys=True, choices=("terminate", "force")),
        Action(name="cancel", verb="cancel", done="cancelled", planner=_cancel, destroys=True, choices=("terminate",)),
    )
}
