"""The keys at the bottom: as many as there is room for, those first that nobody may be without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.reactive import reactive
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input

from sitegenctl.tui.keys import KEYS
from sitegenctl.tui.theme import palette

#: Shown in however little room: the ways out, the key that fixes faults, and the filter.
_FIRST = ("quit", "help", "fix", "filter")
#: What has its place elsewhere: the views are named above, with their keys.
_ELSEWHERE = tuple(binding.id for binding in KEYS if binding.action.startswith("view("))
_GAP = 2


@dataclass(frozen=True, kw_only=True)
class Told:
    """A key as it is told, what it is called by Textual, and what it does in a word and in a few more."""

    name: str
    key: str
    does: str
    more: str = ""
    is_dimmed: bool = False

    @property
    def width(self) -> int:
        """Columns that it takes."""
        return cell_len(self.name) + 1 + cell_len(self.does)


class KeyBar(Widget):
    """A line to click on; keys that are ``dimmed``, by their ids, would change nothing now."""

    ALLOW_SELECT = False

    DEFAULT_CSS = """
    KeyBar { dock: bottom; height: 1; width: 1fr; padding: 0 1; background: $panel; }
    """

    dimmed: reactive[frozenset[str]] = reactive(frozenset())

    def __init__(self) -> None:
        super().__init__()
        self._shown: list[Told] = []

    def on_mount(self) -> None:
        """Hear of keys that come and go."""
        self.screen.bindings_updated_signal.subscribe(self, self._have_changed)

    def _have_changed(self, _: Screen[object]) -> None:
        # Below a plan the keys stay as they were: they will be again.
        if self.app.screen is self.screen and [*self._told()] != self._shown:
            self.refresh()

    def render(self) -> Text:
        """Draw them, in the order in which the help has them."""
        if self.app.screen is self.screen or not self._shown:
            self._shown = [*self._told()]
        colours = palette(self.app)
        return Text((" " * _GAP), no_wrap=True).join(
            Text(f"{told.name} {told.does}", colours["text-disabled"])
            if told.is_dimmed
            else Text.assemble((told.name, f"bold {colours['footer-key-foreground']}"), f" {told.does}")
            for told in self._shown
        )

    def _told(self) -> Iterator[Told]:
        if isinstance(self.screen.focused, Input):
            # Letters are letters there.
            yield Told(name="enter", key="enter", does="to the list")
            yield Told(name="esc", key="escape", does="leave")
            return
        known = {
            active.binding.id: Told(
                name=self.app.get_key_display(active.binding),
                key=active.binding.key,
                does=active.binding.description,
                more=active.tooltip,
                is_dimmed=active.binding.id in self.dimmed,
            )
            for active in self.screen.active_bindings.values()
            if active.node is self.app and active.binding.id not in (None, *_ELSEWHERE)
        }
        ranked = sorted(
            (binding for binding in KEYS if binding.id in known),
            key=lambda binding: (binding.id not in _FIRST, not binding.show),
        )
        room, chosen = self.size.width + _GAP, set[str | None]()
        for binding in ranked:
            room -= known[binding.id].width + _GAP
            if room < 0:
                break
            chosen.add(binding.id)
        yield from (known[binding.id] for binding in KEYS if binding.id in chosen)

    def on_click(self, event: events.Click) -> None:
        """Do what the key that was clicked on does."""
        if (told := self._at(event.x)) is not None:
            self.app.simulate_key(told.key)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Say more of the key that is pointed at."""
        told = self._at(event.x)
        self.tooltip = told.more if told is not None and told.more else None

    def _at(self, x: int) -> Told | None:
        end = self.styles.padding.left
        for told in self._shown:
            begin, end = end, end + told.width + _GAP
            if begin <= x < end - _GAP:
                return told
        return None
