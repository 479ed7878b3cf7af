"""The names of the views, with their keys and what there is in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.style import Style
from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from sitegenctl.tui.theme import palette

#: The views by name, in the order of their keys.
VIEWS = ("orders", "queue", "workers", "events", "doctor")


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

    def render(self) -> Text:
        """Draw them; the one that is shown stands out."""
        colours = palette(self.app)
        text = Text(no_wrap=True, overflow="ellipsis")
        roomy = self.size.width >= 66
        for key, view in zip(self._keys, VIEWS, strict=True):
            is_current = view == self.current
            style = f"bold {colours['background']} on {colours['primary']}" if is_current else colours["foreground"]
            link = Style(meta={"@click": f"app.view('{view}')"})
            name = view.capitalize()
            tab = Text(f" {key} {name} ", style)
            count = self.counts.get(view, "")
            if count and roomy:
                tab.append(f"{count} ", style if is_current else colours["text-muted"])
            tab.stylize(link)
            text.append_text(tab)
            text.append(" ")
        return text
