"""What operators may type, and to which orders: the strategies of the stateful test, and how a command is run."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from sitegenctl.cli.app import run

ORDERS = (1, 2, 3, 4, 5, 6, 7)
MISSING = 99

ALL = "1-7"

some_orders = st.just([ALL]) | st.lists(
    st.sampled_from([*map(str, ORDERS), str(MISSING)]), min_size=1, max_size=3, unique=True
)
one_order = st.sampled_from(ORDERS)


def command_line(text: str, *optional: str) -> st.SearchStrategy[list[str]]:
    """The words of a command, with some of these options; ``ORDERS`` in it is for the orders that are meant."""
    some = st.lists(st.sampled_from(optional), max_size=2, unique=True) if optional else st.just([])
    return some.map(lambda chosen: " ".join([text, *chosen]).split())


def about(words: list[str], orders: list[str]) -> list[str]:
    """The command line with these orders in it."""
    return [each for word in words for each in (orders if word == "ORDERS" else [word])]


withdrawing_lines = st.one_of(
    command_line("reset ORDERS", "--no-enqueue", "--keep-files", "--terminate"),
    command_line("cancel ORDERS", "--terminate", "--to CANCELLED", "--to ONBOARDING_PENDING"),
)
command_lines = st.one_of(
    command_line("enqueue ORDERS", "--no-resume"),
    withdrawing_lines,
    command_line("repair", "--terminate"),
    command_line("maintain"),
    command_line("start-stuck", "--limit 1"),
    command_line("retry-failed", "--max-attempts 5"),
    command_line("reset-empty", "--older-than 0s", "--no-enqueue"),
    st.sampled_from(["queue purge", "queue pause", "queue resume"]).map(str.split),
)
commands = st.builds(about, command_lines, some_orders)
#: Those that put back what nobody has, and others.
mending = st.sampled_from([["repair"], ["maintain"]]) | commands
#: Two commands about the same orders.
rivals = st.builds(
    lambda pair, orders: tuple(about(words, orders) for words in pair),
    st.tuples(command_lines, command_lines) | command_lines.map(lambda words: (words, words)),
    some_orders,
)


@dataclass
class Told:
    """What a command has told."""

    code: int
    data: Any
    stderr: str

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        steps = [self.data, *self.data.get("steps", ())] if self.data else []
        return [outcome for step in steps for outcome in step.get("outcomes") or ()]


def operate(*arguments: str) -> Told:
    """Run a command in this process, wherever in it that is."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        # With -v, what is unexpected is raised.
        code = run([*arguments, "--yes", "-v", "-o", "json"])
    envelope = json.loads(stdout.getvalue())
    assert envelope["exit_code"] == code
    return Told(code=code, data=envelope["data"], stderr=stderr.getvalue())
