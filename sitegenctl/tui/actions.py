"""The actions of the live view. Each uses the planner of the command of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sitegenctl.operations.planners import Planner


@dataclass(frozen=True, kw_only=True)
class ActionOptions:
    """``terminate`` stops running tasks; ``force`` ignores back-off and the grace period."""

    terminate: bool = False
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class Action:
    """``done`` is the past participle of ``name``; ``options`` are the fields of ``ActionOptions`` it supports.

    ``names_orders`` is whether each order gets an outcome, even if the action does not apply to it. ``destroys`` is
    whether it always removes something; a plan that resets orders does in any case.
    """

    name: str
    done: str
    names_orders: bool = True
    destroys: bool = False
    options: tuple[str, ...] = ()

    def planner(self, options: ActionOptions) -> Planner:
        # Imported when an action is first used: the screen is painted sooner.
        from sitegenctl.domain.plans.repair import RepairOptions
        from sitegenctl.domain.plans.reset import ResetOptions
        from sitegenctl.operations.planners import (
            CancelPlanner,
            EnqueuePlanner,
            FixPlanner,
            RepairPlanner,
            ResetPlanner,
            RetryPlanner,
            StartPlanner,
        )

        planners: Mapping[str, Planner] = {
            "fix": FixPlanner(),
            "enqueue": EnqueuePlanner(force=options.force),
            "start": StartPlanner(),
            "retry": RetryPlanner(force=options.force),
            "repair": RepairPlanner(options=RepairOptions(terminate=options.terminate)),
            "reset": ResetPlanner(options=ResetOptions(terminate=options.terminate, force=options.force)),
            "cancel": CancelPlanner(terminate=options.terminate),
        }
        return planners[self.name]


FIX = Action(name="fix", done="fixed")

ACTIONS: Mapping[str, Action] = {
    action.name: action
    for action in (
        FIX,
        Action(name="enqueue", done="enqueued", options=("force",)),
        Action(name="start", done="started", names_orders=False),
        Action(name="retry", done="retried", names_orders=False, options=("force",)),
        Action(name="repair", done="repaired", options=("terminate",)),
        Action(name="reset", done="reset", destroys=True, options=("terminate", "force")),
        Action(name="cancel", done="cancelled", destroys=True, options=("terminate",)),
    )
}
