"""Having something happen in the middle of a command, which runs in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from sitegenctl.domain.plans.plan import OperationResult, Plan
from sitegenctl.domain.ports import Sources
from sitegenctl.operations import failpoints as failpoints
from sitegenctl.operations.execute import execute_plan
from tests.support.simulated_system import LivingSystem

#: When something happens: before the command, when it has made its plan, or after so many failpoints.
BEFORE, PLANNED = -1, 0
moments = st.sampled_from([PLANNED, PLANNED, PLANNED, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 8])
ever = st.just(BEFORE) | moments


class Died(BaseException):
    """The operator's process is killed."""


def die() -> None:
    """Be killed."""
    raise Died


def elsewhere(work: Callable[[], object]) -> None:
    """Do it in a thread, where no event loop runs, and wait for it."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(work).result()


@dataclass
class Moment:
    """When it is in the command: which orders it has planned to move."""

    planned: Sequence[int] = ()


@contextlib.contextmanager
def at_checkpoint(system: LivingSystem, number: int, happens: Callable[[], object]) -> Iterator[Moment]:
    """Have something happen ``BEFORE``, when the command has ``PLANNED``, or after so many failpoints."""
    moment = Moment()
    passed = 0
    has_planned = False

    def reached(_: failpoints.Failpoint) -> None:
        nonlocal passed
        passed += 1
        if passed == number:
            # It has looked at the queue for the last time: what is published now, and touches no row, is not seen.
            system.meddling = True
            happens()
            system.meddling = False

    async def execute_planned(sources: Sources, plan: Plan, **named: Any) -> OperationResult:
        nonlocal has_planned
        moment.planned = [step.order_id for step in plan.steps]
        if number == PLANNED and not has_planned:
            has_planned = True
            happens()
        return await execute_plan(sources, plan, **named)

    if number == BEFORE:
        happens()
    with (
        mock.patch.object(failpoints, "reached", reached),
        mock.patch("sitegenctl.operations.execute.execute_plan", execute_planned),
        mock.patch("sitegenctl.operations.maintain.execute_plan", execute_planned),
    ):
        yield moment
