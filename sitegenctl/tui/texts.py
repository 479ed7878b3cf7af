"""Texts and notifications that several views and screens share."""

from __future__ import annotations

from typing import Any

from textual.app import App
from textual.widgets import Static

from sitegenctl.domain.orders.order import Order
from sitegenctl.domain.orders.run import stage_of
from sitegenctl.render.text import neutralise

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
    stage = stage_of(run.last_step) if run is not None else None
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
