"""The help screen: all keys, as configured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from sitegenctl.render.text import wrap
from sitegenctl.tui.widgets.live_table import TABLE_KEYS
from sitegenctl.tui.widgets.look import palette

#: Omit descriptions if less space than this is left for them.
_MIN_WIDTH = 12

_NOTES = (
    "Filter: words, condition:failed, status:review, age>10m, age<2h; of the history: words, kind:run, outcome:failed,"
    " by:ana, order:42, age<2h. Capital letters are destructive."
)


class HelpScreen(ModalScreen[None]):
    """``keys`` are the keys of the bindings by their ids."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,enter", "dismiss", "close")]

    def __init__(self, bindings: Sequence[Binding], keys: Mapping[str, str]) -> None:
        super().__init__()
        self._rows = [
            *((keys[each.id], each.description, each.tooltip) for each in bindings if each.id is not None),
            ("ctrl+p", "palette", "Find a command by name, or change the colours"),
            *((each.key.replace(",", " "), each.description, each.tooltip) for each in TABLE_KEYS),
        ]

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static("Keys", id="title", markup=False)
            with VerticalScroll(id="help"):
                yield Static(id="list", markup=False)
            yield Static(_NOTES, id="notes", markup=False)

    def on_resize(self) -> None:
        width = max(self.query_one("#help").size.width - 1, 20)
        self.query_one("#list", Static).update(self._list(width))

    def _list(self, width: int) -> Text:
        colours = palette(self.app)
        keys_width, label_width = (max(len(row[column]) for row in self._rows) for column in (0, 1))
        indent = keys_width + label_width + 4
        lines: list[Text] = []
        for keys, label, tooltip in self._rows:
            first, *rest = wrap(tooltip, width - indent) if width - indent >= _MIN_WIDTH else [""]
            lines.append(
                Text.assemble(
                    (f"{keys:>{keys_width}}  ", f"bold {colours['accent']}"),
                    f"{label:<{label_width}}  ",
                    (first, colours["text-muted"]),
                )
            )
            lines += [Text(" " * indent + line, colours["text-muted"]) for line in rest]
        return Text("\n").join(lines)
