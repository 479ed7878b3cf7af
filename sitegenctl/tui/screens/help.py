"""Help, made from the bindings: whatever the settings file says, it tells the keys that hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

from sitegenctl.tui.theme import palette


@dataclass(frozen=True, kw_only=True)
class KeyHelp:
    """A key, what it does in a word, and in a few more."""

    keys: str
    does: str
    more: str


class HelpScreen(ModalScreen[None]):
    """All keys that do something here."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,enter", "dismiss", "leave")]

    def __init__(self, keys: Sequence[KeyHelp]) -> None:
        super().__init__()
        self._known = keys

    def compose(self) -> Iterator[Widget]:
        """A list of keys."""
        with Vertical(id="dialog"):
            yield Static("Keys", id="title", markup=False)
            with VerticalScroll(id="help"):
                yield Static(self._list(), markup=False)
            yield Static(
                "Filter: words, condition:failed, status:review, age>10m, age<2h. Capitals take something away.",
                id="notes",
                markup=False,
            )

    def _list(self) -> Text:
        colours = palette(self.app)
        widest = max((len(each.keys) for each in self._known), default=0)
        named = max((len(each.does) for each in self._known), default=0)
        lines = [
            Text.assemble(
                (f"{each.keys:>{widest}}  ", f"bold {colours['accent']}"),
                f"{each.does:<{named}}  ",
                (each.more if each.more != each.does else "", colours["text-muted"]),
            )
            for each in self._known
        ]
        return Text("\n").join(lines)
