"""The names of the views, with their keys and what there is in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text
from textual import events
from textual.reactive import reactive
from textual.widget import Widget

from sitegenctl.tui.theme import palette

#: The views by name, in the order of their keys.
VIEWS = ("orders", "queue", "workers", "events", "doctor")

#: From so many columns on there is room for the views' names, and for numbers behind them.
_NAMED, _ROOMY = 52, 66


class ViewTabs(Widget):
    """A line to click on; ``counts`` are what is said behind a view's name."""

    DEFAULT_CSS = """
    ViewTabs { height: 1; width: 1fr; padding: 0 1; }
    """

    current: reactive[str] = reactive(VIEWS[0])
    counts: reactive[Mapping[str, str]] = reactive(dict)

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__()
        self._keys = keys
        self._ends: list[int] = []

    def render(self) -> Text:
        """Draw them; the one that is shown stands out."""
        colours = palette(self.app)
        text = Text(no_wrap=True, overflow="ellipsis")
        self._ends = []
        width = self.size.width
        roomy = width >= _ROOMY
        for key, view in zip(self._keys, VIEWS, strict=True):
            is_current = view == self.current
            style = f"bold {colours['background']} on {colours['primary']}" if is_current else colours["foreground"]
            # The one that is shown is named in full in however little room.
            name = view.capitalize() if is_current or width >= _NAMED else ""
            text.append(f" {key} {name} " if name else f" {key} ", style)
            if roomy and (count := self.counts.get(view, "")):
                text.append(f"{count} ", style if is_current else colours["text-muted"])
            text.append(" ")
            self._ends.append(text.cell_len)
        return text

    async def on_click(self, event: events.Click) -> None:
        """Show the view that was clicked on."""
        at = event.x - self.styles.padding.left
        for end, view in zip(self._ends, VIEWS, strict=False):
            if at < end:
                await self.run_action(f"app.view('{view}')")
                return
