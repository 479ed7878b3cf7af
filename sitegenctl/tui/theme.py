"""The colours of the live view: few, and each means something.

Red is what needs somebody, yellow what can't be told, green what goes well, blue where one is. In monochrome weight and
marks tell the same.
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
NAMES = tuple(theme.name for theme in THEMES)


_PALETTES: dict[str, Mapping[str, str]] = {}


def palette(app: App[object]) -> Mapping[str, str]:
    """The colours of the app's theme by their names, each as ``#rrggbb``."""
    theme = app.current_theme
    if theme.name not in _PALETTES:
        _PALETTES[theme.name] = _palette(theme)
    return _PALETTES[theme.name]


def _palette(theme: Theme) -> Mapping[str, str]:
    generated = theme.to_color_system().generate()
    foreground = Color.parse(generated["foreground"])
    background = Color.parse(generated["background"])
    # Textual mixes these when it draws, over whatever is below them; here they are wanted as colours.
    return {
        **generated,
        "text-muted": foreground.blend(background, 0.4).hex6,
        "text-disabled": foreground.blend(background, 0.65).hex6,
    }
