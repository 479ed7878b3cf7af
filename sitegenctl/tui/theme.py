"""The colours of the live view.

Red needs attention, yellow is unknown, green is healthy, blue marks the current place. The monochrome theme shows the
same by weight and symbols.
"""

from __future__ import annotations

from collections.abc import Mapping

from textual.app import App
from textual.color import Color
from textual.theme import Theme

DARK = Theme(
    name="dark",
    dark=True,
    primary="#4f8fe6",
    secondary="#7aa2d6",
    accent="#e0af68",
    foreground="#c8ccd4",
    background="#101317",
    surface="#161a20",
    panel="#1d222a",
    success="#7ec383",
    warning="#dbb45a",
    error="#ef6b73",
)

LIGHT = Theme(
    name="light",
    dark=False,
    primary="#1f5fbf",
    secondary="#4a6b95",
    accent="#8a5a00",
    foreground="#22262c",
    background="#fbfbfa",
    surface="#f3f3f1",
    panel="#e8e8e5",
    success="#227a3b",
    warning="#8a6100",
    error="#c0202c",
)

MONOCHROME = Theme(
    name="monochrome",
    dark=True,
    primary="#d0d0d0",
    secondary="#b0b0b0",
    accent="#ffffff",
    foreground="#d0d0d0",
    background="#000000",
    surface="#0c0c0c",
    panel="#1a1a1a",
    success="#d0d0d0",
    warning="#e8e8e8",
    error="#ffffff",
)

THEMES = (DARK, LIGHT, MONOCHROME)

_PALETTES: dict[str, Mapping[str, str]] = {}


def palette(app: App[object]) -> Mapping[str, str]:
    """The colours of the app's theme by name, each as ``#rrggbb``."""
    theme = app.current_theme
    if theme.name not in _PALETTES:
        colours = theme.to_color_system().generate()
        foreground, background = Color.parse(colours["foreground"]), Color.parse(colours["background"])
        # Textual computes these only when it draws.
        colours["text-muted"] = foreground.blend(background, 0.4).hex6
        colours["text-disabled"] = foreground.blend(background, 0.65).hex6
        _PALETTES[theme.name] = colours
    return _PALETTES[theme.name]
