"""Preferences for the live view: the table ``[live]`` of the settings file.

[live]
theme = "light"            # dark, light, monochrome, or a theme of Textual
interval = "2s"

[live.keys]
reset = "ctrl+r"           # names as in DEFAULT_KEYS
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
from sitegenctl.tui.keys import DEFAULT_KEYS, KEYS
from sitegenctl.tui.theme import THEMES
from sitegenctl.tui.widgets.live_table import TABLE_KEYS

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
