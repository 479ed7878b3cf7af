"""Help, made from the bindings: whatever the settings file says, it tells the keys that hold."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

from sitegenctl.render.text import wrap
from sitegenctl.tui.keys import KEYS
from sitegenctl.tui.theme import palette
from sitegenctl.tui.widgets.live_table import LiveTable

#: Columns beside a key's word in which what it does can be read.
_LEAST = 12


@dataclass(frozen=True, kw_only=True)
class KeyHelp:
    """A key, what it does in a word, and in a few more."""

    keys: str
    does: str
    more: str


def known_keys(keys: Mapping[str, str], *, without: Collection[str]) -> list[KeyHelp]:
    """What ``keys`` do, by the names of the bindings, but for those left out; then how one moves in a list."""
    named = [
        KeyHelp(keys=keys[binding.id], does=binding.description, more=binding.tooltip)
        for binding in KEYS
        if binding.id is not None and binding.id not in without
    ]
    moving = [
        KeyHelp(keys=binding.key.replace(",", " "), does=binding.description, more=binding.tooltip)
        for binding in LiveTable.BINDINGS
        if isinstance(binding, Binding)
    ]
    finding = KeyHelp(keys="ctrl+p", does="palette", more="Find a command by its name, and change the colours")
    return [*named, finding, *moving]


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
                yield Static(id="list", markup=False)
            yield Static(
                "Filter: words, condition:failed, status:review, age>10m, age<2h. Capitals take something away.",
                id="notes",
                markup=False,
            )

    def on_resize(self) -> None:
        """What the keys do is wrapped below itself."""
        room = self.query_one("#help").size.width - 1
        self.query_one("#list", Static).update(self._list(max(room, 20)))

    def _list(self, width: int) -> Text:
        colours = palette(self.app)
        widest = max((len(each.keys) for each in self._known), default=0)
        named = max((len(each.does) for each in self._known), default=0)
        indent = widest + named + 4
        lines: list[Text] = []
        for each in self._known:
            more = each.more if each.more != each.does else ""
            # Where there is hardly room beside the words, they are enough.
            first, *rest = wrap(more, width - indent) if width - indent >= _LEAST else [""]
            lines.append(
                Text.assemble(
                    (f"{each.keys:>{widest}}  ", f"bold {colours['accent']}"),
                    f"{each.does:<{named}}  ",
                    (first, colours["text-muted"]),
                )
            )
            lines += [Text(" " * indent + line, colours["text-muted"]) for line in rest]
        return Text("\n").join(lines)
