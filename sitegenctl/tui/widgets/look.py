"""Colours and texts that widgets, views and screens share.

Red needs attention, yellow is unknown, green is healthy, blue marks the current place. The monochrome theme shows the
same by weight and symbols.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textual.app import App
from textual.color import Color
from textual.theme import Theme
from textual.widgets import Static

from sitegenctl.domain.orders.order import Order
from sitegenctl.domain.orders.stage import stage_of
from sitegenctl.render.text import neutralise

#: The colours of the themes dark, light and monochrome, by Textual's names.
_COLOURS: Mapping[str, tuple[str, str, str]] = {
    "primary": ("#4f8fe6", "#1f5fbf", "#d0d0d0"),
    "secondary": ("#7aa2d6", "#4a6b95", "#b0b0b0"),
    "accent": ("#e0af68", "#8a5a00", "#ffffff"),
    "foreground": ("#c8ccd4", "#22262c", "#d0d0d0"),
    "background": ("#101317", "#fbfbfa", "#000000"),
    "surface": ("#161a20", "#f3f3f1", "#0c0c0c"),
    "panel": ("#1d222a", "#e8e8e5", "#1a1a1a"),
    "success": ("#7ec383", "#227a3b", "#d0d0d0"),
    "warning": ("#dbb45a", "#8a6100", "#e8e8e8"),
    "error": ("#ef6b73", "#c0202c", "#ffffff"),
}


def _theme(name: str, column: int) -> Theme:
    colours: dict[str, Any] = {colour: values[column] for colour, values in _COLOURS.items()}
    return Theme(name=name, dark=name != "light", **colours)


#: In the order of the columns above.
THEMES = tuple(_theme(name, column) for column, name in enumerate(("dark", "light", "monochrome")))

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


_BAR_WIDTH = 6


def warn(app: App[Any], message: str) -> None:
    """Show why something cannot be done."""
    app.notify(neutralise(message), severity="warning", markup=False)


def show_text(widget: Static, text: str) -> None:
    """Update a widget if its text changed: an update redraws the whole screen."""
    if widget.content != text:
        widget.update(text)


def order_name(order: Order | None) -> str:
    """The order's business, or else its customer."""
    return (order.business_name or order.customer_name) if order is not None else "-"


def progress_bar(order: Order | None) -> str:
    """Progress of the order's last run and the name of its stage; empty if its steps do not show it."""
    run = order.history.last_run if order is not None else None
    # After an ERROR a running task begins another run.
    stage = None if run is None else run.stage if run.outcome is None else stage_of(run.outcome)
    if stage is None:
        return ""
    full = round(stage.share * _BAR_WIDTH)
    return f"{'━' * full}{'╌' * (_BAR_WIDTH - full)} {stage.share:4.0%} {stage.name}"


def file_size(number: int | None) -> str:
    """A number of bytes in a readable unit; "-" if unknown."""
    if number is None:
        return "-"
    amount = float(number)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
