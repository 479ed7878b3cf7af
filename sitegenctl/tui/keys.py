"""All keys of the live view. The id of a key is its name in the settings file."""

from __future__ import annotations

from textual.binding import Binding

from sitegenctl.tui.views import VIEWS

_VIEW_KEYS = tuple(
    Binding(str(number), f"view('{view.NAME}')", view.NAME, id=view.NAME, tooltip=f"Show {view.NAME}", show=False)
    for number, view in enumerate(VIEWS, 1)
)

_FILTER_KEY = Binding("/", "filter", "filter", id="filter", tooltip="Filter orders as you type")

_GLOBAL_KEYS = (
    Binding("r", "refresh", "refresh", id="look", tooltip="Refresh now", show=False),
    # The description is the id of the key above: both may be the same.
    Binding("f5", "refresh", "look", show=False),
    Binding("escape", "leave", "back", id="leave", tooltip="Close what is open, then clear the marks", show=False),
    # Priority: these work in plans and in the filter, too.
    Binding("ctrl+z", "suspend", "suspend", id="suspend", tooltip="Suspend; fg resumes", show=False, priority=True),
    Binding("?", "help", "help", id="help", tooltip="Show all keys"),
    Binding("q", "quit", "quit", id="quit", tooltip="Quit", priority=False),
    Binding("ctrl+c", "interrupt", "quit", show=False, priority=True),
)

APP_KEYS = (*_VIEW_KEYS, _FILTER_KEY, *_GLOBAL_KEYS)

#: The keys of the app and of all views, in the order of the help screen and the key bar.
KEYS = (
    *_VIEW_KEYS,
    _FILTER_KEY,
    *(binding for view in VIEWS for binding in view.BINDINGS if isinstance(binding, Binding)),
    *_GLOBAL_KEYS,
)

#: The default key of each binding by its id, as a user would write it.
DEFAULT_KEYS = {binding.id: binding.key for binding in KEYS if binding.id is not None}
