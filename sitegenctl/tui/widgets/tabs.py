"""The tabs: names of the views, their number keys, and their numbers of rows."""

from __future__ import annotations

from collections.abc import Mapping

from rich.style import Style
from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from sitegenctl.tui.theme import palette
from sitegenctl.tui.views import VIEWS

#: Minimum widths for the names of all views, and for the numbers of rows.
_NAMES_WIDTH, _COUNTS_WIDTH = 52, 66


class ViewTabs(Widget):
    """One clickable line. ``counts`` are texts by the name of the view."""

    DEFAULT_CSS = """
    ViewTabs { height: 1; width: 1fr; padding: 0 1; link-style: none; }
    """

    current: reactive[str] = reactive(VIEWS[0].NAME)
    counts: reactive[Mapping[str, str]] = reactive(dict)

    def on_mount(self) -> None:
        self.auto_links = False

    def render(self) -> Text:
        colours = palette(self.app)
        width = self.size.width
        text = Text(no_wrap=True, overflow="ellipsis")
        for number, view in enumerate(VIEWS, 1):
            click = Style(meta={"@click": f"app.view('{view.NAME}')"})
            style = Style(color=colours["foreground"])
            count_style = Style(color=colours["text-muted"])
            if is_current := self.current == view.NAME:
                style = count_style = Style(bold=True, color=colours["background"], bgcolor=colours["primary"])
            name = f"{view.NAME.capitalize()} " if is_current or width >= _NAMES_WIDTH else ""
            text.append(f" {number} {name}", style + click)
            if width >= _COUNTS_WIDTH and (count := self.counts.get(view.NAME)):
                text.append(f"{count} ", count_style + click)
            text.append(" ")
        return text
