"""How somebody likes the live view: the table ``[live]`` of the settings file.

[live]
theme = "light"            # dark, light, monochrome, or one of Textual's own
interval = "2s"

[live.keys]
reset = "ctrl+r"           # by the key's name, as the help lists them
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from textual.binding import Binding
from textual.theme import BUILTIN_THEMES

from sitegenctl.config.file import config_path, read_config
from sitegenctl.config.settings import bad_value, parse_duration
from sitegenctl.errors import UsageProblem
from sitegenctl.tui.keys import DEFAULT_KEYS, KEYS, MOVING_KEYS
from sitegenctl.tui.theme import NAMES

_KNOWN = ("theme", "interval", "keys")

#: Seconds between two looks, at least and at most.
_SOONEST, _LATEST = 0.2, 3600.0


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """``interval`` is in seconds between two looks; ``keys`` has the keys of an action as written, by its id."""

    theme: str | None = None
    interval: float = 1.0
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def keymap(self) -> dict[str, str]:
        """The same keys by the names that Textual has for them: it knows ``slash`` and no ``/``."""
        return {name: ",".join(_names(key)) for name, key in self.keys.items()}


def read_preferences(environ: Mapping[str, str]) -> Preferences:
    """Read them; what isn't there is as it comes. Raises ``UsageProblem`` for what is no good."""
    place = f"{config_path(environ)}, [live]"
    given = read_config(environ).get("live", {})
    if not isinstance(given, dict):
        raise UsageProblem(f"{config_path(environ)}: live must be a table, [live]")
    for name in given:
        if name not in _KNOWN:
            raise UsageProblem(f"{place}: unknown setting {name!r}", hint=f"known settings: {', '.join(_KNOWN)}")
    theme = known_theme(given["theme"], place) if "theme" in given else None
    interval = interval_of(given.get("interval", "1s"), place)
    return Preferences(theme=theme, interval=interval, keys=_keys(given, place))


def known_theme(value: Any, place: str) -> str:
    """A theme's name, out of what was written at a ``place``. Raises ``UsageProblem``."""
    known = [*NAMES, *BUILTIN_THEMES]
    if value not in known:
        raise UsageProblem(f"{place}: there is no theme {value!r}", hint=f"themes: {', '.join(known)}")
    return str(value)


def interval_of(value: Any, place: str) -> float:
    """Seconds between two looks, out of what was written at a ``place``. Raises ``UsageProblem``."""
    try:
        interval = parse_duration(value).total_seconds()
    except ValueError as exc:
        raise bad_value(f"{place}: interval", exc) from exc
    if not _SOONEST <= interval <= _LATEST:
        raise UsageProblem(f"{place}: interval must be from 200ms to 1h")
    return interval


def _keys(given: Mapping[str, Any], place: str) -> dict[str, str]:
    keys = given.get("keys", {})
    if not isinstance(keys, dict):
        raise UsageProblem(f"{place}: keys must be a table, [live.keys]")
    for name, key in keys.items():
        if name not in DEFAULT_KEYS:
            raise UsageProblem(f"{place}.keys: nothing is called {name!r}", hint=f"names: {', '.join(DEFAULT_KEYS)}")
        if not isinstance(key, str) or not all(each.strip() for each in key.split(",")):
            raise UsageProblem(f"{place}.keys: {name} must be a key such as ctrl+r")
    # The list has the keys first, and the app never hears of those.
    taken = {each: binding.description for binding in MOVING_KEYS for each in _names(binding.key)}
    taken |= {"ctrl+p": "palette", "ctrl+q": "quit"}
    for binding in KEYS:
        name = binding.id or binding.description
        for each in _names(keys.get(name, binding.key)):
            if (other := taken.setdefault(each, name)) != name:
                raise UsageProblem(f"{place}.keys: {each} would be both {other} and {name}")
    return dict(keys)


def _names(key: str) -> list[str]:
    return [binding.key for binding in Binding.make_bindings([Binding(key, "", "")])]
