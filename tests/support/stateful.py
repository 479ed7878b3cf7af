"""Parts of the stateful test: initial orders, command lines, and events in the middle of a command."""

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
from sitegenctl.operations import failpoints
from sitegenctl.operations.execute import execute_plan
from tests.support.commands import run_json
from tests.support.simulated_system import SimulatedSystem

ORDERS = (1, 2, 3, 4, 5, 6, 7)
MISSING = 99
ALL = "1-7"

#: Initial state of an order: its status, other facts, and how many messages it has.
SITUATIONS: dict[str, tuple[str, dict[str, Any], int]] = {
    "left behind": ("GENERATING", {}, 1),
    "begun and left behind": ("GENERATING", {"steps": ["START"], "files": 2}, 1),
    "ready": ("BUILDING", {}, 0),
    "held": ("BUILDING", {"steps": ["OPERATOR_CANCEL"]}, 0),
    "not ready": ("BUILDING", {"onboarding": "missing"}, 0),
    "queued": ("GENERATING", {}, 1),
    "queued twice": ("GENERATING", {}, 2),
    "lost": ("GENERATING", {}, 0),
    "failed": ("GENERATING", {"steps": ["START", "ERROR"], "files": 3}, 0),
    "failed too often": ("GENERATING", {"steps": ["START", "ERROR"] * 3}, 0),
    "cut short": ("GENERATING", {"steps": ["START"], "files": 2}, 0),
    "cut short late": ("GENERATING", {"steps": ["START"], "files": 6}, 0),
    "blocked": ("GENERATING", {"onboarding": "missing"}, 0),
    "cancelled": ("CANCELLED", {}, 1),
}
situations = st.lists(st.sampled_from([*SITUATIONS, "lost", "failed", "cut short"]), min_size=5, max_size=5)


def create_orders(system: SimulatedSystem, situations: Sequence[str]) -> None:
    """Empty the system, and write two finished orders and one of each of these situations."""
    system.empty()
    for order_id, status in ((1, "REVIEW"), (2, "DELIVERED")):
        system.order(order_id, status, steps=["START", "SUCCESS"])
        system.make_site(order_id)
    for order_id, name in zip(ORDERS[2:], situations, strict=True):
        status, facts, messages = SITUATIONS[name]
        system.order(order_id, status, **facts)
        for _ in range(messages):
            system.send(order_id)
        if name.endswith("left behind"):
            system.leave_behind(order_id)


# --- commands ---------------------------------------------------------------------------------------------

some_orders = st.just([ALL]) | st.lists(
    st.sampled_from([*map(str, ORDERS), str(MISSING)]), min_size=1, max_size=3, unique=True
)
one_order = st.sampled_from(ORDERS)


def command_line(text: str, *optional: str) -> st.SearchStrategy[list[str]]:
    """The words of a command, with some of these options; ``ORDERS`` in it stands for order numbers."""
    options = st.lists(st.sampled_from(optional), max_size=2, unique=True) if optional else st.just([])
    return options.map(lambda chosen: " ".join([text, *chosen]).split())


def with_orders(words: list[str], orders: list[str]) -> list[str]:
    """The command line with these orders in it."""
    return [each for word in words for each in (orders if word == "ORDERS" else [word])]


revoking_lines = st.one_of(
    command_line("reset ORDERS", "--no-enqueue", "--keep-files", "--terminate"),
    command_line("cancel ORDERS", "--terminate", "--to CANCELLED", "--to ONBOARDING_PENDING"),
)
command_lines = st.one_of(
    command_line("enqueue ORDERS", "--no-resume"),
    revoking_lines,
    command_line("repair", "--terminate"),
    command_line("maintain"),
    command_line("start-stuck", "--limit 1"),
    command_line("retry-failed", "--max-attempts 5"),
    command_line("reset-empty", "--older-than 0s", "--no-enqueue"),
    command_line("undo"),
    st.sampled_from(["queue purge", "queue pause", "queue resume"]).map(str.split),
)
commands = st.builds(with_orders, command_lines, some_orders)
#: Most often those that requeue orphaned tasks.
repairing = st.sampled_from([["repair"], ["maintain"]]) | commands
#: Two commands about the same orders.
rivals = st.builds(
    lambda pair, orders: tuple(with_orders(words, orders) for words in pair),
    st.tuples(command_lines, command_lines) | command_lines.map(lambda words: (words, words)),
    some_orders,
)


@dataclass
class CommandResult:
    code: int
    data: Any
    stderr: str

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        steps = [self.data, *self.data.get("steps", ())] if self.data else []
        return [outcome for step in steps for outcome in step.get("outcomes") or ()]


def run_command(*arguments: str) -> CommandResult:
    """Run a command in this process, in any thread; unexpected errors are raised."""
    code, envelope, stderr = run_json(*arguments, "-v")
    return CommandResult(code=code, data=envelope["data"], stderr=stderr)


# --- events in the middle of a command --------------------------------------------------------------------

#: When an event happens: before the command, when it has made its plan, or at its n-th failpoint.
BEFORE, PLANNED = -1, 0
moments = st.sampled_from([PLANNED, PLANNED, PLANNED, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 8])
any_moment = st.just(BEFORE) | moments


class Died(BaseException):
    """The operator's process is killed."""


def die() -> None:
    raise Died


def in_thread(work: Callable[[], object]) -> None:
    """Do the work in a thread without an event loop, and wait for it."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(work).result()


@contextlib.contextmanager
def at_failpoint(system: SimulatedSystem, number: int, event: Callable[[], object]) -> Iterator[list[int]]:
    """Have an event happen in a command of this block; yields the orders of the command's newest plan."""
    planned: list[int] = []
    passed = 0
    has_planned = False

    def reached(_: failpoints.Failpoint) -> None:
        nonlocal passed
        passed += 1
        if passed == number:
            # The command has read the queue for the last time: it cannot notice what is published now without a
            # change of a row.
            system.meddling = True
            event()
            system.meddling = False

    async def execute_planned(sources: Sources, plan: Plan, **options: Any) -> OperationResult:
        nonlocal has_planned
        planned[:] = [step.order_id for step in plan.steps]
        if number == PLANNED and not has_planned:
            has_planned = True
            event()
        return await execute_plan(sources, plan, **options)

    if number == BEFORE:
        event()
    with (
        mock.patch.object(failpoints, "reached", reached),
        mock.patch("sitegenctl.operations.execute.execute_plan", execute_planned),
        mock.patch("sitegenctl.operations.maintain.execute_plan", execute_planned),
    ):
        yield planned
