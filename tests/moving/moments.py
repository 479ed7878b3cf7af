"""Having something happen in the middle of a command, which runs in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from sitegenctl.domain.result import OperationResult
from sitegenctl.operations import checkpoints
from sitegenctl.operations.apply import apply
from tests.moving.living_system import LivingSystem

#: When something happens: before the command, when it has made its plan, or after so many checkpoints.
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


@contextlib.contextmanager
def at_checkpoint(system: LivingSystem, number: int, happens: Callable[[], object]) -> Iterator[None]:
    """Have something happen ``BEFORE``, when the command has ``PLANNED``, or after so many checkpoints."""
    passed = 0
    has_planned = False

    def reached(_: checkpoints.Checkpoint) -> None:
        nonlocal passed
        passed += 1
        if passed == number:
            # It has looked at the queue for the last time: what is published now, and touches no row, is not seen.
            system.meddling = True
            happens()
            system.meddling = False

    async def apply_planned(*given: Any, **named: Any) -> OperationResult:
        nonlocal has_planned
        if number == PLANNED and not has_planned:
            has_planned = True
            happens()
        return await apply(*given, **named)

    if number == BEFORE:
        happens()
    with (
        mock.patch.object(checkpoints, "reached", reached),
        mock.patch("sitegenctl.operations.apply.apply", apply_planned),
        mock.patch("sitegenctl.operations.maintain.apply", apply_planned),
    ):
        yield
