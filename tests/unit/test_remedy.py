from __future__ import annotations

import pytest

from sitegenctl.cli.app import make_program
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.render.command import command_line, hint_text, remedy_data

SELECTOR = "--context 'my demo'"


@pytest.mark.parametrize(
    ("remedy", "text"),
    [
        (None, None),
        ("wait", "wait"),
        (Remedy(advice="wait"), "wait"),
        (Remedy.run(Command.RETRY_FAILED), "sitegenctl --context 'my demo' retry-failed"),
        (Remedy.run(Command.RESET, 5, advice="fix it, then"), "fix it, then: sitegenctl --context 'my demo' reset 5"),
        (Remedy.run(Command.RESET, 5).for_any_order, "sitegenctl --context 'my demo' reset ORDER"),
        (
            Remedy.run(Command.REPAIR, 4, 5, worker_dead=True),
            "sitegenctl --context 'my demo' repair 4 5 --worker-dead",
        ),
        (Remedy.run(Command.REPAIR, condition="ghost"), "sitegenctl --context 'my demo' repair --condition ghost"),
        (Remedy.run(Command.DEMO_UP, note="starts it"), "sitegenctl demo up   (starts it)"),
    ],
)
def test_remedy_names_the_system(remedy: Remedy | str | None, text: str | None) -> None:
    assert hint_text(remedy, SELECTOR) == text
    assert hint_text(remedy) == (text and text.replace(f" {SELECTOR}", ""))


@pytest.mark.parametrize("command", Command)
def test_command_exists(command: Command) -> None:
    """Each word of the command is a command or a group of the application."""

    node = make_program()
    for word in command.split():
        node = node.commands[word]


@pytest.mark.parametrize("condition", Condition)
def test_condition_remedy_is_a_known_command(condition: Condition) -> None:
    for remedy in (condition.remedy, condition.remedy_of(42)):
        if remedy is not None and remedy.command is not None:
            assert command_line(remedy).startswith(f"sitegenctl {condition.command}")


def test_remedy_of_one_order_names_it() -> None:
    assert hint_text(Condition.GHOST.remedy) == "sitegenctl repair --condition ghost"
    assert hint_text(Condition.GHOST.remedy_of(42)) == "sitegenctl repair 42"
    assert hint_text(Condition.HELD.remedy) == "sitegenctl enqueue ORDER"
    assert hint_text(Condition.BLOCKED.remedy_of(42)) == "a person must complete the onboarding"


def test_remedy_parts_are_data() -> None:
    assert remedy_data(None) is None
    assert remedy_data(Remedy.run(Command.REPAIR, 42, advice="wait", worker_dead=True)) == {
        "advice": "wait",
        "command": "repair",
        "orders": [42],
        "options": {"worker_dead": True},
    }
