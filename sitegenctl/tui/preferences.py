"""All keys of the live view, and the user's preferences: the table ``[live]`` of the settings file.

[live]
theme = "light"            # dark, light, monochrome, or a theme of Textual
interval = "2s"

[live.keys]
reset = "ctrl+r"           # by the id of its binding
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from textual.binding import Binding
from textual.theme import BUILTIN_THEMES

from sitegenctl.config.file import config_path, read_toml
from sitegenctl.config.settings import bad_value, parse_duration
from sitegenctl.errors import UsageProblem
from sitegenctl.tui.views import VIEWS
from sitegenctl.tui.widgets.live_table import TABLE_KEYS
from sitegenctl.tui.widgets.look import THEMES

_VIEW_KEYS = tuple(
    Binding(str(number), f"view('{view.NAME}')", view.NAME, id=view.NAME, tooltip=f"Show {view.NAME}", show=False)
    for number, view in enumerate(VIEWS, 1)
)

_FILTER_KEY = Binding("/", "filter", "filter", id="filter", tooltip="Filter orders or the history as you type")

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
    # Views may share a key.
    *dict.fromkeys(binding for view in VIEWS for binding in view.BINDINGS if isinstance(binding, Binding)),
    *_GLOBAL_KEYS,
)

#: The default key of each binding by its id, as a user would write it.
DEFAULT_KEYS = {binding.id: binding.key for binding in KEYS if binding.id is not None}

_SETTINGS = ("theme", "interval", "keys")

#: Limits of the poll interval in seconds.
_MIN_INTERVAL, _MAX_INTERVAL = 0.2, 3600.0


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """``interval`` is in seconds between two polls; ``keys`` are keys by the id of their binding, as written."""

    theme: str | None = None
    interval: float = 1.0
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def keymap(self) -> dict[str, str]:
        """The keys by Textual's names for them, such as ``slash`` for ``/``."""
        return {name: ",".join(_names(key)) for name, key in self.keys.items()}


def read_preferences(environ: Mapping[str, str]) -> Preferences:
    """Read the settings file. Raises ``UsageProblem`` for invalid values."""
    path = config_path(environ)
    source = f"{path}, [live]"
    table = read_toml(config_path(environ)).get("live", {})
    if not isinstance(table, dict):
        raise UsageProblem(f"{path}: live must be a table, [live]")
    for name in table:
        if name not in _SETTINGS:
            raise UsageProblem(f"{source}: unknown setting {name!r}", hint=f"known settings: {', '.join(_SETTINGS)}")
    return Preferences(
        theme=parse_theme(table["theme"], source) if "theme" in table else None,
        interval=parse_interval(table.get("interval", "1s"), source),
        keys=_parse_keys(table.get("keys", {}), source),
    )


def parse_theme(value: Any, source: str) -> str:
    """The name of a theme, as given in ``source``. Raises ``UsageProblem``."""
    known = [*(theme.name for theme in THEMES), *BUILTIN_THEMES]
    if value not in known:
        raise UsageProblem(f"{source}: unknown theme {value!r}", hint=f"themes: {', '.join(known)}")
    return str(value)


def parse_interval(value: Any, source: str) -> float:
    """The poll interval in seconds, as given in ``source``. Raises ``UsageProblem``."""
    try:
        interval = parse_duration(value).total_seconds()
    except ValueError as exc:
        raise bad_value(f"{source}: interval", exc) from exc
    if not _MIN_INTERVAL <= interval <= _MAX_INTERVAL:
        raise UsageProblem(f"{source}: interval must be from 200ms to 1h")
    return interval


def _parse_keys(keys: Any, source: str) -> dict[str, str]:
    if not isinstance(keys, dict):
        raise UsageProblem(f"{source}: keys must be a table, [live.keys]")
    for name, key in keys.items():
        if name not in DEFAULT_KEYS:
            raise UsageProblem(f"{source}.keys: unknown key name {name!r}", hint=f"names: {', '.join(DEFAULT_KEYS)}")
        if not isinstance(key, str) or not all(part.strip() for part in key.split(",")):
            raise UsageProblem(f"{source}.keys: {name} must be a key such as ctrl+r")
    # Tables handle their keys first, so that a key of the same name would never work.
    taken = {key: binding.description for binding in TABLE_KEYS for key in _names(binding.key)}
    taken |= {"ctrl+p": "palette", "ctrl+q": "quit"}
    for binding in KEYS:
        name = binding.id or binding.description
        for key in _names(keys.get(name, binding.key)):
            if (other := taken.setdefault(key, name)) != name:
                raise UsageProblem(f"{source}.keys: {key} is assigned to both {other} and {name}")
    return dict(keys)


def _names(key: str) -> list[str]:
    return [binding.key for binding in Binding.make_bindings([Binding(key, "", "")])]
