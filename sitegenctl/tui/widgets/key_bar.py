"""The keys that work now, at the bottom of the screen: as many as fit, the most important first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual import events
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Input

from sitegenctl.tui.keys import KEYS
from sitegenctl.tui.theme import palette
from sitegenctl.tui.views import VIEWS

#: Ids of the keys that are shown first, however little space there is.
_IMPORTANT = ("quit", "help", "fix", "filter")

#: Ids of the keys in the tabs.
_IN_TABS = [view.NAME for view in VIEWS]

_GAP = 2


@dataclass(frozen=True, kw_only=True)
class KeyLabel:
    """A key as shown and by its Textual name, and what it does."""

    name: str
    key: str
    text: str
    id: str = ""
    tooltip: str = ""
    is_common: bool = True

    @property
    def width(self) -> int:
        return cell_len(self.name) + 1 + cell_len(self.text)


class KeyBar(Widget):
    """One clickable line. ``dimmed`` are the ids of keys that would change nothing."""

    ALLOW_SELECT = False

    DEFAULT_CSS = """
    KeyBar { dock: bottom; height: 1; width: 1fr; padding: 0 1; background: $panel; }
    """

    dimmed: reactive[frozenset[str]] = reactive(frozenset())
    labels: reactive[tuple[KeyLabel, ...]] = reactive(())

    def on_mount(self) -> None:
        self.auto_links = False
        self.screen.bindings_updated_signal.subscribe(self, self._update)

    def on_resize(self) -> None:
        self._update()

    def _update(self, _: object = None) -> None:
        # Nothing has the focus while the terminal's window has none. Then, and below a plan, keep the keys.
        if self.app.screen is self.screen and (self.screen.focused is not None or not self.labels):
            self.labels = tuple(self._labels())

    def render(self) -> Text:
        colours = palette(self.app)
        text = Text(no_wrap=True)
        for index, label in enumerate(self.labels):
            is_dimmed = label.id in self.dimmed
            style = Style(color=colours["text-disabled"] if is_dimmed else None)
            style += Style(meta={"@click": f"app.simulate_key('{label.key}')", "tooltip": label.tooltip})
            key_style = style if is_dimmed else style + Style(bold=True, color=colours["footer-key-foreground"])
            text.append(" " * _GAP if index else "")
            text.append(label.name, key_style).append(f" {label.text}", style)
        return text

    def _labels(self) -> Iterator[KeyLabel]:
        if isinstance(self.screen.focused, Input):
            # Other keys are text there.
            yield KeyLabel(name="enter", key="enter", text="to the list")
            yield KeyLabel(name="esc", key="escape", text="close")
            return
        active = {
            each.binding.id: KeyLabel(
                name=self.app.get_key_display(each.binding),
                key=each.binding.key,
                text=each.binding.description,
                id=each.binding.id,
                tooltip=each.tooltip,
                is_common=each.binding.show,
            )
            for each in self.screen.active_bindings.values()
            if each.binding.id is not None
        }
        labels = [
            active[binding.id]
            for binding in KEYS
            if binding.id is not None and binding.id in active and binding.id not in _IN_TABS
        ]
        room, chosen = self.size.width + _GAP, set[str]()
        for label in sorted(labels, key=lambda label: (label.id not in _IMPORTANT, not label.is_common)):
            room -= label.width + _GAP
            if room < 0:
                break
            chosen.add(label.id)
        yield from (label for label in labels if label.id in chosen)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        self.tooltip = event.style.meta.get("tooltip") or None
