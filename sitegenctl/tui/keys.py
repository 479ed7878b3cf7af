"""The keys of the live view. Each has an id, by which the settings file gives it other keys, and says what it does.

Lower case is for what takes nothing away; what destroys something is a capital.
"""

from __future__ import annotations

from textual.binding import Binding

from sitegenctl.tui.widgets.tabs import VIEWS

#: The keys of the views, in their order.
VIEW_KEYS = tuple(str(number + 1) for number in range(len(VIEWS)))

#: What changes orders: not there when nothing may be changed.
ACTION_KEYS = (
    Binding("m", "fix", "fix", id="fix", tooltip="Fix the order, or each of the marked ones"),
    Binding("e", "act('enqueue')", "enqueue", id="enqueue", tooltip="Give orders a new task", show=False),
    Binding("s", "act('start')", "start", id="start", tooltip="Start BUILDING orders without a task", show=False),
    Binding("t", "act('retry')", "retry", id="retry", tooltip="Try failed orders again", show=False),
    Binding(
        "p", "act('repair')", "repair", id="repair", tooltip="Put duplicated, lost and stray tasks right", show=False
    ),
    Binding("R", "act('reset')", "reset", id="reset", tooltip="Begin again from nothing: files go to the trash"),
    Binding("C", "act('cancel')", "cancel", id="cancel", tooltip="Take tasks away; the order is held"),
)

KEYS = (
    *(
        Binding(key, f"view('{view}')", view, id=view, tooltip=f"Show {view}", show=False)
        for key, view in zip(VIEW_KEYS, VIEWS, strict=True)
    ),
    Binding("slash", "filter", "filter", id="filter", key_display="/", tooltip="Filter orders as you type"),
    Binding("space", "mark", "mark", id="mark", tooltip="Mark the order, or not any more"),
    Binding("a", "mark_all", "all", id="mark_all", tooltip="Mark all orders that are listed, or none", show=False),
    *ACTION_KEYS,
    Binding(
        "less_than_sign",
        "sort(-1)",
        "sort left",
        id="sort_left",
        key_display="<",
        tooltip="Sort by the column before",
        show=False,
    ),
    Binding(
        "greater_than_sign",
        "sort(1)",
        "sort right",
        id="sort_right",
        key_display=">",
        tooltip="Sort by the next column",
        show=False,
    ),
    Binding(
        "backslash",
        "sort(0)",
        "reverse",
        id="reverse",
        key_display="\\",
        tooltip="Sort the other way round",
        show=False,
    ),
    Binding("d", "toggle_detail", "detail", id="detail", tooltip="Show or hide the order beside the list", show=False),
    Binding("y", "copy_id", "copy", id="copy", tooltip="Copy the order's number", show=False),
    Binding("o", "open_site", "site", id="open_site", tooltip="Open the site in a browser", show=False),
    Binding("O", "open_folder", "folder", id="open_folder", tooltip="Open the folder of its files", show=False),
    Binding("r", "look", "look", id="look", tooltip="Look again now", show=False),
    Binding("f5", "look", "look", show=False),
    Binding("escape", "leave", "back", id="leave", tooltip="Leave what is open, then the marks", show=False),
    # Wherever one is, a plan and the filter included.
    Binding(
        "ctrl+z",
        "suspend",
        "suspend",
        id="suspend",
        key_display="ctrl+z",
        tooltip="Back to the shell; fg comes back here",
        show=False,
        priority=True,
    ),
    Binding("question_mark", "help", "help", id="help", key_display="?", tooltip="Show the keys"),
    Binding("q", "quit", "quit", id="quit", tooltip="Leave", priority=False),
    Binding("ctrl+c", "stop", "quit", show=False, priority=True),
)

#: How one moves in a list: it has these first, whatever the settings file says.
MOVING_KEYS = (
    Binding("up,k", "move(-1)", "up", show=False, tooltip="The row above"),
    Binding("down,j", "move(1)", "down", show=False, tooltip="The row below"),
    Binding("pageup,ctrl+u", "page(-1)", "page up", show=False, tooltip="A screen up"),
    Binding("pagedown,ctrl+d", "page(1)", "page down", show=False, tooltip="A screen down"),
    Binding("home,g", "to(0)", "first", show=False, tooltip="The first row"),
    Binding("end,G", "to(-1)", "last", show=False, tooltip="The last row"),
    Binding("enter", "open", "open", show=False, tooltip="All of the order; from another view, go to it"),
)

#: The keys of an action by its name, where nobody gave it others.
DEFAULT_KEYS = {binding.id: binding.key_display or binding.key for binding in KEYS if binding.id is not None}
