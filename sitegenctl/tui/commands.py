"""What the command palette offers: every key that does something here, and the themes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from textual.app import App, SystemCommand

from sitegenctl.tui.keys import KEYS
from sitegenctl.tui.theme import THEMES


def commands(app: App[int]) -> Iterator[SystemCommand]:
    """The app's commands, as Textual asks for them."""
    for binding in KEYS:
        if binding.id is not None and app.check_action(*_parsed(binding.action)):
            yield SystemCommand(binding.description.capitalize(), binding.tooltip, _Run(app, binding.action))
    for theme in THEMES:
        yield SystemCommand(f"Theme: {theme.name}", "Change the colours", _Theme(app, theme.name))


@dataclass(frozen=True)
class _Run:
    app: App[int]
    action: str

    async def __call__(self) -> None:
        await self.app.run_action(self.action)


@dataclass(frozen=True)
class _Theme:
    app: App[int]
    name: str

    def __call__(self) -> None:
        self.app.theme = self.name


def _parsed(action: str) -> tuple[str, tuple[object, ...]]:
    name, _, rest = action.partition("(")
    return name, (rest.rstrip(")"),) if rest else ()
